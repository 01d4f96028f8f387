//! The servers in the target namespace: web, UDP echo, UDP source, name server, and traps.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    dns,
    lab::{DNS_V4, DNS_V6, PRIVATE, TARGET_V4, TARGET_V6},
    namespace::Namespace,
    pattern::Pattern,
};

/// Web server: `GET /SEED/LEN` gives content, `POST /SEED` checks it.
pub const WEB_PORT: u16 = 80;
/// Sends every datagram back.
pub const ECHO_PORT: u16 = 7;
/// Answers `count size interval_ms` (three big-endian u32) with so many datagrams, don't-fragment set.
pub const SOURCE_PORT: u16 = 19;

/// How often a server looks whether it should stop.
const TICK: Duration = Duration::from_millis(200);

/// The running servers. They stop when this is dropped.
pub struct Target {
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    echoed: AtomicU64,
    trapped: AtomicU64,
    names_asked: AtomicU64,
    too_big: AtomicU64,
    path_mtu: AtomicU64,
    segment: AtomicU64,
}

impl Target {
    /// Starts all servers in `namespace`.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let target = Self { stop: Arc::default(), counters: Arc::default() };
        for ip in [IpAddr::from(TARGET_V4), TARGET_V6.into()] {
            target.web(namespace, ip);
            target.udp(namespace, ip, ECHO_PORT, |socket, counters, datagram, from| {
                counters.echoed.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(datagram, from);
            });
            target.udp(namespace, ip, SOURCE_PORT, source);
        }
        for ip in [IpAddr::from(DNS_V4), DNS_V6.into()] {
            target.udp(namespace, ip, 53, |socket, counters, datagram, from| {
                counters.names_asked.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = dns::answer(datagram) {
                    let _ = socket.send_to(&answer, from);
                }
            });
        }
        for ip in PRIVATE {
            target.udp(namespace, ip, ECHO_PORT, |_, counters, _, _| {
                counters.trapped.fetch_add(1, Ordering::Relaxed);
            });
        }
        target
    }

    /// How many datagrams the echo server saw.
    #[must_use]
    pub fn echoed(&self) -> u64 {
        self.counters.echoed.load(Ordering::Relaxed)
    }

    /// How many datagrams came to private addresses: any is a leak.
    #[must_use]
    pub fn trapped(&self) -> u64 {
        self.counters.trapped.load(Ordering::Relaxed)
    }

    /// How many questions the name server was asked.
    #[must_use]
    pub fn names_asked(&self) -> u64 {
        self.counters.names_asked.load(Ordering::Relaxed)
    }

    /// How many datagrams the UDP source could not send because they exceed the path's MTU.
    #[must_use]
    pub fn too_big(&self) -> u64 {
        self.counters.too_big.load(Ordering::Relaxed)
    }

    /// The path MTU that the UDP source last learnt from an ICMP error, zero before.
    #[must_use]
    pub fn path_mtu(&self) -> u64 {
        self.counters.path_mtu.load(Ordering::Relaxed)
    }

    /// The largest TCP segment that the web server's last connection may send, zero before.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.counters.segment.load(Ordering::Relaxed)
    }

    fn udp(
        &self,
        namespace: &Namespace,
        ip: IpAddr,
        port: u16,
        mut serve: impl FnMut(&UdpSocket, &Arc<Counters>, &[u8], SocketAddr) + Send + 'static,
    ) {
        let socket =
            namespace.within(|| UdpSocket::bind((ip, port)).expect("binding a UDP server"));
        socket.set_read_timeout(Some(TICK)).expect("setting a timeout");
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        let (stop, counters) = (Arc::clone(&self.stop), Arc::clone(&self.counters));
        namespace.background(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    serve(&socket, &counters, &buffer[..len], from);
                }
            }
        });
    }

    fn web(&self, namespace: &Namespace, ip: IpAddr) {
        let listener =
            namespace.within(|| TcpListener::bind((ip, WEB_PORT)).expect("binding the web server"));
        listener.set_nonblocking(true).expect("making a socket non-blocking");
        let (stop, counters) = (Arc::clone(&self.stop), Arc::clone(&self.counters));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let segment = socket2::SockRef::from(&stream).tcp_mss().unwrap_or(0);
                        counters.segment.store(u64::from(segment), Ordering::Relaxed);
                        let stop = Arc::clone(&stop);
                        thread::spawn(move || drop(serve_web(stream, &stop)));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends the datagrams that were asked for, from a thread of its own.
fn source(socket: &UdpSocket, counters: &Arc<Counters>, request: &[u8], to: SocketAddr) {
    let Some([count, size, interval]) = numbers(request) else {
        return;
    };
    let socket = socket.try_clone().expect("copying a socket");
    let counters = Arc::clone(counters);
    forbid_fragments(&socket, to);
    thread::spawn(move || {
        for number in 0..count {
            let mut datagram = Pattern::bytes(u64::from(number), size as usize);
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            if let Err(error) = socket.send_to(&datagram, to)
                && error.raw_os_error() == Some(libc::EMSGSIZE)
            {
                counters.path_mtu.store(path_mtu(&socket, to), Ordering::Relaxed);
                counters.too_big.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(interval.into()));
        }
    });
}

fn numbers(request: &[u8]) -> Option<[u32; 3]> {
    let mut words = request
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    Some([words.next()?, words.next()?.max(4), words.next()?])
}

fn forbid_fragments(socket: &UdpSocket, to: SocketAddr) {
    let done = match to {
        SocketAddr::V4(_) => {
            option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
        }
        SocketAddr::V6(_) => {
            option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
        }
    };
    done.expect("forbidding fragments");
}

#[expect(unsafe_code, reason = "no crate in use sets these options")]
fn option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: `value` is an int and its size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What the kernel now believes about the way to `to`.
fn path_mtu(socket: &UdpSocket, to: SocketAddr) -> u64 {
    let from = SocketAddr::new(socket.local_addr().expect("a bound socket has an address").ip(), 0);
    let Ok(probe) = UdpSocket::bind(from) else { return 0 };
    if probe.connect(to).is_err() {
        return 0;
    }
    read_mtu(&probe, to.is_ipv4())
}

#[expect(unsafe_code, reason = "no crate in use reads this option")]
fn read_mtu(socket: &UdpSocket, v4: bool) -> u64 {
    use std::os::fd::AsRawFd;
    let (level, name) =
        if v4 { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
    let mut mtu: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `mtu` is an int and `len` its size.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut len)
    };
    if done == 0 { u64::try_from(mtu).unwrap_or(0) } else { 0 }
}

/// Answers one request, then closes.
fn serve_web(stream: TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::with_capacity(1 << 18, stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let content_length = read_headers(&mut reader)?;
    let mut parts = request.split(['/', ' ']).filter(|part| !part.is_empty());
    match (parts.next(), parts.next().and_then(|seed| seed.parse().ok()), parts.next()) {
        (Some("GET"), Some(seed), Some(len)) => {
            send_content(stream, seed, len.parse().unwrap_or(0), stop)
        }
        (Some("POST"), Some(seed), _) => check_content(reader, stream, seed, content_length, stop),
        _ => (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    }
}

fn read_headers(reader: &mut impl BufRead) -> std::io::Result<u64> {
    let mut content_length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(content_length);
        };
        if name.eq_ignore_ascii_case("content-length") {
            content_length = value.trim().parse().unwrap_or(0);
        }
    }
}

fn send_content(
    mut stream: TcpStream,
    seed: u64,
    len: u64,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n")?;
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 1 << 18];
    let mut left = len;
    while left > 0 && !stop.load(Ordering::Relaxed) {
        let piece = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        pattern.fill(&mut buffer[..piece]);
        stream.write_all(&buffer[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

fn check_content(
    mut reader: impl Read,
    mut stream: TcpStream,
    seed: u64,
    len: u64,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 1 << 18];
    let mut left = len;
    let mut verdict = "same".to_owned();
    while left > 0 && !stop.load(Ordering::Relaxed) {
        let piece = match reader.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(piece) => piece,
            Err(error) => return Err(error),
        };
        if let Err(offset) = pattern.check(&buffer[..piece]) {
            verdict = format!("differs at {offset}");
            break;
        }
        left = left.saturating_sub(piece as u64);
    }
    let len = verdict.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{verdict}")
}
