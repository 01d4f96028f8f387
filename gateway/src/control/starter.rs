//! Control's side of the starter: how it is started, and what is asked of it.

use std::{
    ffi::OsString,
    future::Future,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net, process::ExitStatusExt},
    },
    process::{Child, ExitStatus},
    sync::Arc,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};
use tacit_messages::SealPart;
use tacit_seal::Failure;
use tokio::{
    io::Interest,
    net::UnixDatagram,
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    admin::socket::AdminSocket,
    seal::SealError,
    starter::{
        SOCKET_DESCRIPTOR, channel,
        command::own_program,
        messages::{Answer, Request},
    },
};

/// How long the starter may take to seal itself.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// How long the starter may take to do what it is asked for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How long the starter may take to end with control.
const END_PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);

/// Why there is no starter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StarterError {
    /// No process or descriptor could be had.
    #[error("starting the starter process")]
    Process(#[from] io::Error),
    /// It could not seal itself.
    #[error(transparent)]
    Unsealed(#[from] SealError),
    /// It said something else than that it is ready, or nothing.
    #[error("the starter did not say that it is ready; reinstall the program")]
    NotReady,
}

/// A sealed starter process, which ends with this value.
pub(crate) struct StarterProcess {
    child: Child,
    socket: Option<net::UnixDatagram>,
}

impl StarterProcess {
    /// Starts the starter for forwarders with `forwarder` as their command line, and waits until it is sealed. It takes
    /// over to remove `admin_socket`.
    ///
    /// # Errors
    /// [`StarterError`] if it is not.
    pub(crate) fn start(
        admin_socket: &AdminSocket,
        forwarder: &[String],
    ) -> Result<Self, StarterError> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(io::Error::from)?;
        set_socket_timeout(&ours, Timeout::Recv, Some(START_PATIENCE)).map_err(io::Error::from)?;
        let child = spawn(admin_socket, forwarder, theirs)?;
        let process = Self { child, socket: Some(ours.into()) };
        process.await_ready()?;
        Ok(process)
    }

    fn await_ready(&self) -> Result<(), StarterError> {
        let Some(socket) = &self.socket else { return Err(StarterError::NotReady) };
        let Some((bytes, _)) = channel::receive(socket.as_fd()).map_err(io::Error::from)? else {
            return Err(StarterError::NotReady);
        };
        match Answer::decode(&bytes) {
            Some(Answer::Ready) => Ok(()),
            Some(Answer::SealFailed { part, errno }) => {
                Err(SealError::new("the starter", failure(part, errno)).into())
            }
            _ => Err(StarterError::NotReady),
        }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Begins to listen to it, within a runtime.
    ///
    /// # Errors
    /// If the runtime does not take the socket.
    pub(crate) fn listen(&mut self) -> io::Result<Starter> {
        let socket = self.socket.take().ok_or(io::ErrorKind::NotConnected)?;
        socket.set_nonblocking(true)?;
        // Tokio has no type for `SOCK_SEQPACKET`.
        let socket = Arc::new(UnixDatagram::from_std(socket)?);
        let (answers, waiting) = mpsc::channel(1);
        let (ends, end) = watch::channel(None);
        let listening = tokio::spawn(listen(Arc::clone(&socket), answers, ends));
        Ok(Starter { socket, answers: Mutex::new(waiting), end, listening })
    }
}

impl Drop for StarterProcess {
    /// Waits until it has ended, which it does by itself.
    fn drop(&mut self) {
        drop(self.socket.take());
        for _ in 0..END_PATIENCE.as_millis() / POLL.as_millis() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn spawn(
    admin_socket: &AdminSocket,
    forwarder: &[String],
    socket: OwnedFd,
) -> Result<Child, io::Error> {
    let named = |name: &str, value: OsString| [OsString::from(name), value];
    let mut command = own_program("starter");
    command
        .args(named("--admin-socket", std::path::absolute(admin_socket.path())?.into()))
        .args(named("--admin-socket-inode", admin_socket.inode().to_string().into()))
        .arg("--")
        .args(forwarder);
    let mapping = FdMapping { parent_fd: socket, child_fd: SOCKET_DESCRIPTOR };
    command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    command.spawn()
}

fn failure(part: SealPart, errno: i32) -> Failure {
    Failure { part, errno: rustix::io::Errno::from_raw_os_error(errno) }
}

type Answered = (Answer, Vec<OwnedFd>);

/// Forwards what the starter says, until it is gone.
async fn listen(
    socket: Arc<UnixDatagram>,
    answers: mpsc::Sender<Answered>,
    ends: watch::Sender<Option<(u32, i32)>>,
) {
    let receive = || channel::receive(socket.as_fd()).map_err(io::Error::from);
    loop {
        let (answer, descriptors) = match socket.async_io(Interest::READABLE, receive).await {
            Ok(Some((bytes, descriptors))) => (Answer::decode(&bytes), descriptors),
            // This process has no room for the descriptors; it may have later.
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                (Some(Answer::Failed { errno: libc::EMFILE }), Vec::new())
            }
            Ok(None) | Err(_) => return,
        };
        match answer {
            Some(Answer::Ended { pid, status }) => drop(ends.send_replace(Some((pid, status)))),
            Some(answer) => drop(answers.send((answer, descriptors)).await),
            None => return,
        }
    }
}

/// The starter, as the running control asks it.
pub(crate) struct Starter {
    socket: Arc<UnixDatagram>,
    answers: Mutex<mpsc::Receiver<Answered>>,
    end: watch::Receiver<Option<(u32, i32)>>,
    listening: JoinHandle<()>,
}

impl Starter {
    /// Has it open the TUN driver `count` times.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) async fn devices(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let count = u32::try_from(count).map_err(io::Error::other)?;
        match self.ask(Request::Devices { count }, &[]).await? {
            (Answer::Devices, devices) if devices.len() == count as usize => Ok(devices),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has it start a forwarder and returns that one's process number, or what part of its seal failed before that.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) async fn start(
        &self,
        uso: bool,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Result<u32, Failure>> {
        match self.ask(Request::Start { uso }, &descriptors).await? {
            (Answer::Started { pid }, _) => Ok(Ok(pid)),
            (Answer::SealFailed { part, errno }, _) => Ok(Err(failure(part, errno))),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Has it kill the forwarder that it started last.
    pub(crate) fn kill(&self) {
        // It is asked for one thing at a time, so there is room.
        let _ = channel::send(self.socket.as_fd(), &Request::Kill.encode(), &[]);
    }

    /// Waits for the end of the forwarder with that process number; none if the starter ends first.
    pub(crate) async fn end_of(&self, pid: u32) -> Option<ExitStatus> {
        let mut end = self.end.clone();
        let ended = end.wait_for(|end| end.is_some_and(|(ended, _)| ended == pid)).await.ok()?;
        ended.map(|(_, status)| ExitStatus::from_raw(status))
    }

    /// Waits until the starter is gone.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut end = self.end.clone();
        async move {
            let _ = end.wait_for(|_| false).await;
        }
    }

    async fn ask(&self, request: Request, descriptors: &[OwnedFd]) -> io::Result<Answered> {
        let mut answers = self.answers.lock().await;
        let bytes = request.encode();
        let send =
            || channel::send(self.socket.as_fd(), &bytes, descriptors).map_err(io::Error::from);
        self.socket.async_io(Interest::WRITABLE, send).await?;
        let Ok(answer) = timeout(ANSWER_PATIENCE, answers.recv()).await else {
            // Its answer would be taken for the next one's: it counts as gone, and the gateway stops in good order.
            self.listening.abort();
            return Err(io::ErrorKind::TimedOut.into());
        };
        match answer.ok_or(io::ErrorKind::BrokenPipe)? {
            (Answer::Failed { errno }, _) => Err(io::Error::from_raw_os_error(errno)),
            answer => Ok(answer),
        }
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
