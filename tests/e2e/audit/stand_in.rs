//! Real processes that stand in for one of the gateway's, with a right, a limit or a descriptor too many.
//!
//! Nothing can be planted into a sealed process. So another one takes just what the sealed one has, and something more;
//! then the audit alone sees its files in `/proc` in place of the gateway's ([`super::Audited::sees_through`]).
#![expect(
    unsafe_code,
    reason = "rights and descriptors are taken in a process that starts no program, which would change them"
)]

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
};

use rustix::{
    io::Errno,
    process::{
        Gid, Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Uid, pidfd_getfd, pidfd_open,
        setrlimit,
    },
    thread::{
        CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};
use tacit_tests::Namespace;

use crate::seal::field;

/// The rights of a process, as its `status` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) other_groups: Vec<u32>,
    pub(super) capabilities: u64,
    pub(super) bounding: u64,
    pub(super) no_new_privs: bool,
    /// How many lists of system calls hold it.
    pub(super) filters: u32,
}

impl Rights {
    /// Those that a `status` says.
    pub(super) fn of(status: &str) -> Self {
        let words = |name| field(status, name);
        let bits = |name| u64::from_str_radix(words(name)[0], 16).unwrap();
        Self {
            user: words("Uid")[0].parse().unwrap(),
            group: words("Gid")[0].parse().unwrap(),
            other_groups: words("Groups").iter().map(|group| group.parse().unwrap()).collect(),
            capabilities: bits("CapPrm"),
            bounding: bits("CapBnd"),
            no_new_privs: words("NoNewPrivs") == ["1"],
            filters: words("Seccomp_filters")[0].parse().unwrap(),
        }
    }

    /// Has the calling thread, which has all rights, keep these.
    fn take(&self) -> io::Result<()> {
        (0..self.filters).try_for_each(|_| hold_to_everything())?;
        let capabilities =
            (0..u64::BITS).map(|bit| 1 << bit).filter(|bit| self.bounding & bit == 0);
        for capability in capabilities {
            // The kernel does not know as many.
            let _ =
                remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(capability));
        }
        let groups: Vec<Gid> =
            self.other_groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&groups)?;
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        set_thread_res_gid(group, group, group)?;
        set_keep_capabilities(true)?;
        set_thread_res_uid(user, user, user)?;
        let kept = CapabilitySet::from_bits_retain(self.capabilities);
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
        if self.no_new_privs {
            set_no_new_privs(true)?;
        }
        Ok(())
    }
}

/// Has the kernel run a list before each system call that allows all of them.
fn hold_to_everything() -> io::Result<()> {
    const NO_FLAGS: libc::c_ulong = 0;
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut allow = libc::sock_filter { code, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let list = libc::sock_fprog { len: 1, filter: &raw mut allow };
    // SAFETY: the list and its only instruction are alive; the kernel copies them.
    let held = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, NO_FLAGS, &raw const list)
    };
    if held == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A process that waits to be ended. It is when dropped.
pub(super) struct StandIn {
    child: Child,
    /// Its number inside the namespace.
    pub(super) pid: u64,
}

impl StandIn {
    /// Starts one with just these rights.
    pub(super) fn with_rights(namespace: &Namespace, rights: Rights) -> Self {
        Self::start(namespace, move || {
            rights.take()?;
            close(0, libc::c_uint::MAX)
        })
    }

    /// Starts one with just these limits.
    pub(super) fn with_limits(namespace: &Namespace, limits: Vec<(Resource, u64)>) -> Self {
        Self::start(namespace, move || {
            for (resource, most) in &limits {
                let limit = Rlimit { current: Some(*most), maximum: Some(*most) };
                setrlimit(*resource, limit)?;
            }
            close(0, libc::c_uint::MAX)
        })
    }

    /// Starts one that holds what process `pid` of the namespace holds under `numbers`, and `more` as `place`.
    pub(super) fn with_descriptors_of(
        namespace: &Namespace,
        pid: u64,
        numbers: Vec<RawFd>,
        more: Option<(OwnedFd, RawFd)>,
    ) -> Self {
        /// Above all numbers of the gateway's.
        const ASIDE: RawFd = 700;
        assert!(numbers.iter().all(|number| *number < ASIDE), "{numbers:?}");
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        Self::start(namespace, move || {
            let whole = pidfd_open(pid, PidfdFlags::empty())?;
            let mut places = Vec::with_capacity(numbers.len() + 1);
            for number in &numbers {
                match pidfd_getfd(&whole, *number, PidfdGetfdFlags::empty()) {
                    Ok(taken) => places.push((put_aside(&taken, ASIDE)?, *number)),
                    // It was closed since somebody looked.
                    Err(Errno::BADF) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some((more, place)) = &more {
                places.push((put_aside(more, ASIDE)?, *place));
            }
            // Its number may be one of the places.
            drop(whole);
            close(0, ASIDE.cast_unsigned() - 1)?;
            for (aside, place) in &places {
                // SAFETY: no memory is passed; nothing in this process holds the place.
                if unsafe { libc::dup2(*aside, *place) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            close(ASIDE.cast_unsigned(), libc::c_uint::MAX)
        })
    }

    /// Starts a process that does `work` and then nothing.
    ///
    /// `work` must close all descriptors: the starting process waits for one to be closed, as it is when a program starts.
    fn start(
        namespace: &Namespace,
        mut work: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let mut command = Command::new("/nowhere");
        let wait = move || {
            work()?;
            loop {
                // SAFETY: no memory is passed.
                unsafe { libc::pause() };
            }
        };
        // SAFETY: the work is system calls, and small pieces of memory from an allocator that knows of forks.
        unsafe { command.pre_exec(wait) };
        let child = namespace.start(&mut command).expect("starting a stand-in");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let pid = field(&status, "NSpid").last().unwrap().parse().unwrap();
        Self { child, pid }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another number, not below `least`, for a descriptor.
fn put_aside(descriptor: &OwnedFd, least: RawFd) -> io::Result<RawFd> {
    // SAFETY: no memory is passed.
    let aside = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD, least) };
    if aside < 0 { Err(io::Error::last_os_error()) } else { Ok(aside) }
}

/// Closes all descriptors of a range.
fn close(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: no memory is passed; what this process does from here on uses none of them.
    let closed = unsafe { libc::close_range(first, last, 0) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
