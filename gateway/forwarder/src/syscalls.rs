//! The system calls that a sealed forwarder may make, on which descriptors. Any other ends the process.

use std::{io, os::fd::RawFd};

use tacit_seal::{
    bpf::{self, Demand, Rule, Values},
    filter,
};

/// Every descriptor that the forwarder has.
pub struct Descriptors {
    /// The socket to control.
    pub link: RawFd,
    /// The eventfd with which workers wake the coordinator.
    pub wake: RawFd,
    /// TUN queues.
    pub tun: Vec<RawFd>,
    /// UDP sockets.
    pub udp: Vec<RawFd>,
}

impl Descriptors {
    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = RawFd> {
        [self.link, self.wake]
            .into_iter()
            .chain(self.tun.iter().copied())
            .chain(self.udp.iter().copied())
    }
}

/// The list.
///
/// Bytes leave by the first four rules only: into the tunnel, out of a UDP socket, as a message to control, and as
/// a number to the own eventfd. No descriptor can be made, so the ones named here are what they were at the start,
/// and no memory can be mapped or made executable.
///
/// Reading lets nothing out, so it may be from any of them. The kernel then knows the answer beforehand, which saves a
/// filter's run for each packet that comes out of the tunnel.
#[must_use]
pub fn allowed(descriptors: &Descriptors) -> Vec<Rule> {
    let Descriptors { link, wake, tun, udp } = descriptors;
    let mut rules = vec![
        on(libc::SYS_writev, tun),
        on(libc::SYS_sendmsg, udp),
        on(libc::SYS_sendto, &[*link]),
        on(libc::SYS_write, &[*wake]),
        on(libc::SYS_close, &[*link]),
        // Reading.
        any(libc::SYS_read),
        any(libc::SYS_recvmmsg),
        any(libc::SYS_recvfrom),
        // Waiting. `restart_syscall` goes on with a wait after SIGCONT.
        any(libc::SYS_ppoll),
        any(libc::SYS_futex),
        any(libc::SYS_clock_nanosleep),
        any(libc::SYS_sched_yield),
        any(libc::SYS_restart_syscall),
        // Time, where the kernel has no faster way to tell it, and randomness.
        any(libc::SYS_clock_gettime),
        any(libc::SYS_getrandom),
        // The end.
        any(libc::SYS_rt_sigreturn),
        any(libc::SYS_sigaltstack),
        any(libc::SYS_munmap),
        any(libc::SYS_exit_group),
    ];
    if cfg!(debug_assertions) {
        rules.push(asking_whether_open(*link));
    }
    rules
}

/// What the standard library of a debug build asks before it closes a descriptor.
fn asking_whether_open(descriptor: RawFd) -> Rule {
    let mut rule = on(libc::SYS_fcntl, &[descriptor]);
    let question = libc::F_GETFD.cast_unsigned();
    rule.demands.push(Demand { argument: 1, values: Values::Within(vec![question..=question]) });
    rule
}

fn any(call: libc::c_long) -> Rule {
    Rule { number: call as u32, demands: Vec::new() }
}

/// A call whose first argument is a descriptor.
fn on(call: libc::c_long, descriptors: &[RawFd]) -> Rule {
    let ranges = bpf::ranges(descriptors.iter().map(|descriptor| descriptor.cast_unsigned()));
    let demand = Demand { argument: 0, values: Values::Within(ranges) };
    Rule { number: call as u32, demands: vec![demand] }
}

/// Has the kernel hold every thread of this process to [`allowed`], for good.
///
/// # Errors
/// What the kernel said; then no thread is held.
pub fn hold_to(descriptors: &Descriptors) -> io::Result<()> {
    filter::hold_to(bpf::allowing(allowed(descriptors)))
}
