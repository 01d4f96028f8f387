//! The starter: the one process that keeps root's rights, because to start a forwarder takes them.
//!
//! Control starts it before it drops its own rights, with the forwarders' command line. From then on control can ask
//! it for three things ([`messages`]): blank descriptors of the TUN driver, a forwarder with the descriptors that come
//! along, and that forwarder's end. The starter knows no person and no key, has no store and sees no packet; it ends
//! with control, and then removes the admin socket, which control may not.

pub(crate) mod channel;
pub(crate) mod command;
pub(crate) mod messages;
mod process;
mod seal;

use std::{
    ffi::OsString,
    os::fd::{AsFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use self::{
    messages::{Answer, Request},
    process::{Forwarder, StartError},
};
use crate::{admin::socket::AdminSocket, host};

/// Descriptor of the socket to control.
pub(crate) const SOCKET_DESCRIPTOR: RawFd = 3;

/// What control tells the starter on its command line.
pub(crate) struct Settings {
    /// The admin socket's file.
    pub(crate) admin_socket: PathBuf,
    /// The file's inode: another one there is another gateway's.
    pub(crate) admin_socket_inode: u64,
    /// The command line of every forwarder.
    pub(crate) forwarder: Vec<OsString>,
}

/// Is the starter until control is gone.
///
/// The process must have been started with [`SOCKET_DESCRIPTOR`], which is taken over, and must have no other thread.
/// Nothing is printed.
pub(crate) fn run(settings: Settings) -> ExitCode {
    outlive_control();
    let socket = take_socket();
    let admin_socket = AdminSocket::of_control(settings.admin_socket, settings.admin_socket_inode);
    if let Err(failure) = seal::apply(admin_socket.path()) {
        let _ = tell(&socket, failure.into());
        // Control, which is not sealed then, removes it.
        admin_socket.leave();
        return ExitCode::FAILURE;
    }
    let mut starter = Starter { socket, arguments: settings.forwarder, forwarder: None };
    let ended = starter.serve();
    if let Some(forwarder) = &mut starter.forwarder {
        forwarder.kill();
    }
    drop(admin_socket);
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Starter {
    socket: OwnedFd,
    arguments: Vec<OsString>,
    forwarder: Option<Forwarder>,
}

impl Starter {
    /// Does what control asks for, until control is gone.
    fn serve(&mut self) -> rustix::io::Result<()> {
        tell(&self.socket, Answer::Ready)?;
        loop {
            let (asked, ended) = self.wait()?;
            if ended {
                self.report_end()?;
            }
            if asked && !self.answer()? {
                return Ok(());
            }
        }
    }

    /// Waits until control asks for something or the forwarder ends, and says which.
    fn wait(&self) -> rustix::io::Result<(bool, bool)> {
        let mut events = vec![PollFd::new(&self.socket, PollFlags::IN)];
        events
            .extend(self.forwarder.as_ref().map(|forwarder| PollFd::new(forwarder, PollFlags::IN)));
        match poll(&mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let happened =
            |event: Option<&PollFd<'_>>| event.is_some_and(|event| !event.revents().is_empty());
        Ok((happened(events.first()), happened(events.get(1))))
    }

    /// Does what control asks for; whether control is still there.
    fn answer(&mut self) -> rustix::io::Result<bool> {
        let Some((bytes, descriptors)) = channel::receive(self.socket.as_fd())? else {
            return Ok(false);
        };
        match Request::decode(&bytes) {
            Some(Request::Devices { count }) => self.hand_out_devices(count)?,
            Some(Request::Start { uso }) => self.start(uso, descriptors)?,
            Some(Request::Kill) => {
                if let Some(forwarder) = &mut self.forwarder {
                    forwarder.kill();
                }
            }
            None => return Err(Errno::BADMSG),
        }
        Ok(true)
    }

    fn hand_out_devices(&self, count: u32) -> rustix::io::Result<()> {
        match host::blank_tun_devices(count.min(channel::MAX_DESCRIPTORS as u32)) {
            Ok(devices) => channel::send(self.socket.as_fd(), &Answer::Devices.encode(), &devices),
            Err(error) => tell(&self.socket, Answer::failed(&error)),
        }
    }

    /// Starts a forwarder, after the end of the one before.
    fn start(&mut self, uso: bool, descriptors: Vec<OwnedFd>) -> rustix::io::Result<()> {
        if let Some(forwarder) = &mut self.forwarder {
            if !forwarder.kill_and_wait() {
                return tell(&self.socket, Answer::Failed { errno: Errno::BUSY.raw_os_error() });
            }
            self.report_end()?;
        }
        match Forwarder::start(&self.arguments, uso, descriptors) {
            Ok(forwarder) => {
                let pid = forwarder.pid();
                self.forwarder = Some(forwarder);
                tell(&self.socket, Answer::Started { pid })
            }
            Err(StartError::Unsealed(failure)) => tell(&self.socket, failure.into()),
            Err(StartError::Process(error)) => tell(&self.socket, Answer::failed(&error)),
        }
    }

    fn report_end(&mut self) -> rustix::io::Result<()> {
        let Some(forwarder) = self.forwarder.take() else { return Ok(()) };
        let pid = forwarder.pid();
        tell(&self.socket, Answer::Ended { pid, status: forwarder.reap() })
    }
}

fn tell(socket: &OwnedFd, answer: Answer) -> rustix::io::Result<()> {
    channel::send(socket.as_fd(), &answer.encode(), &[])
}

/// Ignores what ends control, which a service manager sends to all processes at once: control's end is the starter's.
#[expect(unsafe_code, reason = "there is no safe binding")]
fn outlive_control() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: no code runs when an ignored signal comes.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[expect(unsafe_code, reason = "the descriptor arrives by number")]
fn take_socket() -> OwnedFd {
    // SAFETY: control opened the descriptor for this process alone, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(SOCKET_DESCRIPTOR) }
}
