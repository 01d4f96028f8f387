//! What traffic goes to: servers that note what arrives and send it back.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;

use super::{namespace::Namespace, traffic::Transport};

/// How long a server waits before it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that came to a server.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// To which server.
    pub(super) to: SocketAddr,
    /// By which protocol.
    pub(super) transport: Transport,
    /// What: a datagram, or all of a connection.
    pub(super) bytes: Vec<u8>,
}

/// The servers; they stop when dropped.
#[derive(Default)]
pub(super) struct Target {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    stop: Arc<AtomicBool>,
}

impl Target {
    /// Starts a server at each of the addresses.
    ///
    /// # Errors
    /// If an address cannot be bound.
    pub(super) fn start(
        namespace: &Namespace,
        servers: impl IntoIterator<Item = (Transport, SocketAddr)>,
    ) -> anyhow::Result<Self> {
        let target = Self::default();
        for (transport, address) in servers {
            let served = namespace.within(|| Ok(target.serve(transport, address)?));
            served.with_context(|| format!("serving {address}"))?;
        }
        Ok(target)
    }

    /// Everything that arrived so far.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().clone()
    }

    fn serve(&self, transport: Transport, address: SocketAddr) -> io::Result<()> {
        let log = Log { to: address, arrivals: Arc::clone(&self.arrivals) };
        let stop = Arc::clone(&self.stop);
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(address)?;
                socket.set_read_timeout(Some(TICK))?;
                thread::spawn(move || echo_datagrams(&socket, &log, &stop));
            }
            Transport::Tcp => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                thread::spawn(move || accept(&listener, &log, &stop));
            }
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Log {
    to: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Log {
    fn note(&self, transport: Transport, bytes: &[u8]) {
        let arrival = Arrival { to: self.to, transport, bytes: bytes.to_vec() };
        self.arrivals.lock().push(arrival);
    }
}

fn echo_datagrams(socket: &UdpSocket, log: &Log, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            log.note(Transport::Udp, &buffer[..len]);
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}

fn accept(listener: &TcpListener, log: &Log, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let log = log.clone();
                thread::spawn(move || echo_connection(stream, &log));
            }
            Err(_) => thread::sleep(TICK / 4),
        }
    }
}

/// Reads all that the client has to say, then says it again.
fn echo_connection(mut stream: TcpStream, log: &Log) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    log.note(Transport::Tcp, &said);
    stream.write_all(&said)?;
    stream.shutdown(Shutdown::Write)
}
