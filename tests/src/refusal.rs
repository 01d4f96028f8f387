//! A kernel that refuses one process of the gateway one system call, to see what the gateway does without it.
//!
//! The program is started under a seccomp filter that has this process decide about the call (`seccomp_unotify(2)`).
//! All processes of the gateway inherit it, so the answer depends on the name of the one that makes the call.

use std::{
    fs, io,
    mem::{MaybeUninit, zeroed},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Output},
    thread,
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

use crate::namespace::Namespace;

/// Requests to the listener (`linux/seccomp.h`), the same on every architecture that Tacit runs on.
const RECEIVE: libc::Ioctl = 0xc050_2100;
const SEND: libc::Ioctl = 0xc018_2101;

/// A system call that is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Name of the process that must not make it, as `/proc/PID/comm` has it.
    pub process: &'static str,
    /// The call's number.
    pub call: libc::c_long,
    /// An argument, by its place, and the value that it must have, where other calls of the same number are let be.
    pub argument: Option<(usize, u64)>,
    /// What the kernel says.
    pub errno: i32,
}

impl Refusal {
    /// Runs a program inside `namespace` to its end; returns what it printed and how often it was refused the call.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn run(self, namespace: &Namespace, mut command: Command) -> (Output, usize) {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.expect("making a pair of sockets");
        let kernel = thread::spawn(move || self.answer_all(&ours));
        let call = self.call;
        let ask = move || {
            let listener = ask_about(call)?;
            hand_over(&theirs, &listener)
        };
        #[expect(unsafe_code, reason = "the filter is for the program alone")]
        // SAFETY: what is done makes system calls and nothing else.
        unsafe {
            command.pre_exec(ask);
        }
        let output = namespace.output(&mut command);
        // With it goes the other end of the pair: there is nobody left who could ask.
        drop(command);
        (output, kernel.join().expect("answering the program"))
    }

    /// Answers what the listener asks that comes through `socket`, until the other end is closed.
    fn answer_all(self, socket: &OwnedFd) -> usize {
        let Some(listener) = receive(socket) else { return 0 };
        let mut refused = 0;
        loop {
            let mut events =
                [PollFd::new(&listener, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
            poll(&mut events, None).expect("waiting for the program");
            if events[0].revents().contains(PollFlags::IN) {
                refused += usize::from(self.answer(&listener));
            } else if !events[1].revents().is_empty() {
                return refused;
            }
        }
    }

    /// Answers once; whether the call was refused.
    #[expect(unsafe_code, reason = "nothing safe talks to the listener")]
    fn answer(self, listener: &OwnedFd) -> bool {
        // SAFETY: it consists of numbers; the kernel wants them to be 0.
        let mut asked: libc::seccomp_notif = unsafe { zeroed() };
        // SAFETY: the kernel fills in what it is meant for.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) } != 0 {
            // The process is gone.
            return false;
        }
        let is_refused = self.is_of(&asked);
        let (error, flags) =
            if is_refused { (-self.errno, 0) } else { (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE) };
        let mut answer =
            libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags: flags as u32 };
        // SAFETY: the kernel reads it. It fails if the process is gone, which then needs no answer.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer) };
        is_refused
    }

    fn is_of(&self, asked: &libc::seccomp_notif) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/comm", asked.pid)).unwrap_or_default();
        let fits = |(place, value): (usize, u64)| asked.data.args[place] == value;
        name.trim_end() == self.process && self.argument.is_none_or(fits)
    }
}

/// Has the kernel ask about each call of that number, made by this process or one that it starts.
#[expect(unsafe_code, reason = "there is no safe binding")]
fn ask_about(call: libc::c_long) -> io::Result<OwnedFd> {
    let instruction = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (jump, answer) = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    let mut program = [
        instruction(load, 0, 0),
        instruction(jump, 1, call as u32),
        instruction(answer, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the program and its code are alive; the kernel copies them.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made the descriptor.
        listener => Ok(unsafe { OwnedFd::from_raw_fd(listener as i32) }),
    }
}

fn hand_over(socket: &OwnedFd, listener: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[io::IoSlice::new(b"listener")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The descriptor that comes through `socket`; none if there was no program to send one.
fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 8];
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}
