//! One forwarder process, as its parent sees it.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, Command},
    thread,
};

use command_fds::{CommandFdExt, FdMapping};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
    thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe},
};
use tacit_forwarder::LINK_DESCRIPTOR;
use tacit_messages::SealPart;
use tacit_seal::{Failure, apply};

use super::command::own_program;

/// How long a forwarder that was killed may take to be gone.
const KILL_PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Why there is no forwarder.
#[derive(Debug)]
pub(super) enum StartError {
    /// It would not have been alone.
    Unsealed(Failure),
    /// No process was to be had.
    Process(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Process(error)
    }
}

/// A forwarder process that has not been waited for.
pub(super) struct Forwarder {
    child: Child,
    /// Readable once it has ended.
    end: OwnedFd,
}

impl Forwarder {
    /// Starts a forwarder with `descriptors` in the order in which it looks for them.
    ///
    /// # Errors
    /// If there is no process to be had, or none that is alone.
    pub(super) fn start(
        arguments: &[OsString],
        uso: bool,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, StartError> {
        let mut command = own_program("forwarder");
        command.args(arguments).args(uso.then_some("--uso"));
        let places = LINK_DESCRIPTOR..;
        let mappings = places
            .zip(descriptors)
            .map(|(child_fd, parent_fd): (RawFd, OwnedFd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
        let child = start_alone(&mut command)?;
        let end =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(io::Error::from)?;
        Ok(Self { child, end })
    }

    /// Its process number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, without waiting for its end.
    pub(super) fn kill(&mut self) {
        // Fails only if it has ended, or without CAP_KILL: then it ends when control closes its link.
        let _ = self.child.kill();
    }

    /// Kills it and waits for its end, but not for ever; whether it has ended.
    pub(super) fn kill_and_wait(&mut self) -> bool {
        self.kill();
        let mut ended = [PollFd::new(&self.end, PollFlags::IN)];
        poll(&mut ended, Some(&KILL_PATIENCE)).is_ok_and(|ready| ready > 0)
    }

    /// Says how it ended. It must have.
    pub(super) fn reap(mut self) -> i32 {
        self.child.wait().map_or(0, ExitStatusExt::into_raw)
    }
}

impl AsFd for Forwarder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Starts `command` as the first process of a process namespace, in which there is nobody else to find.
///
/// Without CAP_SYS_ADMIN, as in most containers, the namespace is the one of this process.
fn start_alone(command: &mut Command) -> Result<Child, StartError> {
    let start = || {
        apply(SealPart::Namespaces, unshare_processes).map_err(StartError::Unsealed)?;
        Ok(command.spawn()?)
    };
    // What is unshared is this thread's only.
    let child = thread::scope(|scope| scope.spawn(start).join());
    child.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Other).into()))
}

#[expect(unsafe_code, reason = "rustix marks every unshare unsafe")]
fn unshare_processes() -> rustix::io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    // SAFETY: descriptors stay shared; only processes that this thread starts are set apart.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }
}
