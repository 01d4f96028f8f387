//! What clients do: transfers whose every byte is checked, and datagrams there and back.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tacit_messages::clock::Instant;

use crate::{
    clock::{elapsed, wait_until},
    namespace::Namespace,
    pattern::Pattern,
    target::{ECHO_PORT, WEB_PORT},
};

/// How long a transfer may stand still before it counts as dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which way the bytes go, seen from the client.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// From the target to the client.
    Down,
    /// From the client to the target.
    Up,
}

/// A transfer on a thread of its own.
pub struct Transfer {
    progress: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Transfer {
    /// Starts to move `len` bytes in a client's namespace as fast as they go.
    #[must_use]
    pub fn start(
        client: &Namespace,
        direction: Direction,
        ip: IpAddr,
        seed: u64,
        len: u64,
    ) -> Self {
        Self::paced(client, direction, ip, seed, len, u64::MAX)
    }

    /// Starts to move `len` bytes at `rate` bytes a second.
    #[must_use]
    pub fn paced(
        client: &Namespace,
        direction: Direction,
        ip: IpAddr,
        seed: u64,
        len: u64,
        rate: u64,
    ) -> Self {
        let progress = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            progress: Arc::clone(&progress),
            stop: Arc::clone(&stop),
            rate,
            start: Instant::now(),
        };
        let thread = client.background(move || match direction {
            Direction::Down => download(ip, seed, len, &watch),
            Direction::Up => upload(ip, seed, len, &watch),
        });
        Self { progress, stop, thread: Some(thread) }
    }

    /// Bytes moved so far.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Waits until `more` bytes beyond what is there now have moved.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn wait_for_more(&self, more: u64, limit: Duration) {
        let goal = self.progress() + more;
        wait_until("the transfer to go on", limit, || self.progress() >= goal);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If the transfer broke or a byte was wrong.
    ///
    /// # Panics
    /// If the thread did.
    pub fn finish(mut self) -> io::Result<()> {
        self.thread
            .take()
            .expect("a transfer is finished once")
            .join()
            .expect("the transfer's thread")
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Moves `len` bytes and waits for the end.
///
/// # Errors
/// If the transfer broke or a byte was wrong.
pub fn transfer(
    client: &Namespace,
    direction: Direction,
    ip: IpAddr,
    seed: u64,
    len: u64,
) -> io::Result<()> {
    Transfer::start(client, direction, ip, seed, len).finish()
}

/// Sends `count` datagrams of `size` bytes to the echo server and returns how many came back unharmed.
///
/// # Panics
/// If one comes back changed.
#[must_use]
pub fn echo(client: &Namespace, ip: IpAddr, count: usize, size: usize) -> usize {
    client.within(|| {
        let socket = connect_udp(ip, ECHO_PORT);
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("setting a timeout");
        let mut buffer = vec![0; 65_536];
        (0..count)
            .filter(|number| {
                let sent = Pattern::bytes(*number as u64, size);
                let _ = socket.send(&sent);
                let Ok(len) = socket.recv(&mut buffer) else { return false };
                assert!(buffer[..len] == sent, "a datagram came back changed");
                true
            })
            .count()
    })
}

/// Asks the UDP source for datagrams and returns how many come within `wait` of each other.
#[must_use]
pub fn request_datagrams(
    client: &Namespace,
    to: SocketAddr,
    numbers: [u32; 3],
    wait: Duration,
) -> usize {
    client.within(|| {
        let socket = connect_udp(to.ip(), to.port());
        socket.set_read_timeout(Some(wait)).expect("setting a timeout");
        let request: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        socket.send(&request).expect("sending a request");
        let mut buffer = vec![0; 65_536];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
    })
}

/// Whether a connection to the web server comes about within a second.
#[must_use]
pub fn connects(client: &Namespace, ip: IpAddr) -> bool {
    let address = SocketAddr::new(ip, WEB_PORT);
    client.within(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

struct Watch {
    progress: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    rate: u64,
    start: Instant,
}

impl Watch {
    fn moved(&self, bytes: usize) -> io::Result<()> {
        let moved = self.progress.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let due = Duration::from_secs_f64(moved as f64 / self.rate as f64);
        thread::sleep(due.saturating_sub(elapsed(self.start)));
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the test is over"));
        }
        Ok(())
    }
}

fn connect_udp(ip: IpAddr, port: u16) -> UdpSocket {
    let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("binding a UDP socket");
    socket.connect((ip, port)).expect("connecting a UDP socket");
    socket
}

fn connect(ip: IpAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, WEB_PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn download(ip: IpAddr, seed: u64, len: u64, watch: &Watch) -> io::Result<()> {
    let mut stream = connect(ip)?;
    write!(stream, "GET /{seed}/{len} HTTP/1.1\r\nHost: target\r\nConnection: close\r\n\r\n")?;
    let header = read_header(&mut stream)?;
    if !header.contains(&format!("Content-Length: {len}\r\n")) {
        return Err(io::Error::other(format!("unexpected answer: {header}")));
    }
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 1 << 16];
    let mut left = len;
    while left > 0 {
        let piece = stream.read(&mut buffer)?;
        if piece == 0 {
            return Err(io::Error::other(format!("closed with {left} bytes missing")));
        }
        pattern
            .check(&buffer[..piece])
            .map_err(|offset| io::Error::other(format!("content differs at {offset}")))?;
        left -= piece as u64;
        watch.moved(piece)?;
    }
    Ok(())
}

fn upload(ip: IpAddr, seed: u64, len: u64, watch: &Watch) -> io::Result<()> {
    let mut stream = connect(ip)?;
    write!(stream, "POST /{seed} HTTP/1.1\r\nHost: target\r\nContent-Length: {len}\r\n\r\n")?;
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 1 << 16];
    let mut left = len;
    while left > 0 {
        let piece = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        pattern.fill(&mut buffer[..piece]);
        stream.write_all(&buffer[..piece])?;
        left -= piece as u64;
        watch.moved(piece)?;
    }
    read_header(&mut stream)?;
    let mut verdict = String::new();
    stream.read_to_string(&mut verdict)?;
    if verdict == "same" { Ok(()) } else { Err(io::Error::other(verdict)) }
}

/// Reads up to and including the empty line.
fn read_header(stream: &mut TcpStream) -> io::Result<String> {
    let mut header = Vec::new();
    let mut byte = [0];
    while !header.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        header.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&header).into_owned())
}
