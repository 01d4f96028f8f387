//! A WireGuard client without an interface: it says on the wire whatever a test wants said.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tacit_messages::{UnixSeconds, clock::Instant};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{
    clock::elapsed,
    config::Config,
    lab::TARGET_V4,
    namespace::Namespace,
    noise::{self, Identity, Initiation, Session},
    packet::Datagram,
    target::ECHO_PORT,
};

/// Later handshakes must have later timestamps, also within a second.
static HANDSHAKES: AtomicU32 = AtomicU32::new(0);

/// One device on one socket.
pub struct RawClient {
    /// Its keys.
    pub identity: Identity,
    /// Its addresses in the tunnel.
    pub config: Config,
    /// Its sessions, the newest last.
    pub sessions: Vec<Session>,
    /// Where it talks from.
    pub socket: UdpSocket,
    /// Where the gateway is.
    pub gateway: SocketAddr,
}

impl RawClient {
    /// Makes a client on a socket of its own in `namespace`.
    ///
    /// # Panics
    /// If the socket cannot be made.
    #[must_use]
    pub fn new(namespace: &Namespace, config: &Config) -> Self {
        Self::on(bind(namespace, "0.0.0.0:0".parse().expect("an address")), config)
    }

    /// Makes a client that is connected: what it sends comes through.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn connected(namespace: &Namespace, config: &Config) -> Self {
        let mut client = Self::new(namespace, config);
        client.handshake();
        assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"), "no echo came back");
        client
    }

    /// Makes a client on a given socket.
    #[must_use]
    pub fn on(socket: UdpSocket, config: &Config) -> Self {
        let identity = Identity {
            private_key: StaticSecret::from(config.private_key),
            peer: PublicKey::from(config.gateway_key),
            preshared_key: config.preshared_key,
        };
        let gateway = config.endpoint;
        Self { identity, config: config.clone(), sessions: Vec::new(), socket, gateway }
    }

    /// Makes an initiation with a timestamp later than all before.
    #[must_use]
    pub fn initiation(&self) -> Initiation {
        let seconds = 0x4000_0000_0000_000a + UnixSeconds::now().0;
        let nanoseconds = HANDSHAKES.fetch_add(1, Ordering::Relaxed) << 10;
        let mut timestamp = [0; 12];
        timestamp[..8].copy_from_slice(&seconds.to_be_bytes());
        timestamp[8..].copy_from_slice(&nanoseconds.to_be_bytes());
        self.identity.initiate(timestamp)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&self, message: &[u8]) {
        let _ = self.socket.send_to(message, self.gateway);
    }

    /// Receives whatever comes within `limit`.
    #[must_use]
    pub fn receive_raw(&self, limit: Duration) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        self.socket
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
            .expect("setting a timeout");
        let (len, _) = self.socket.recv_from(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    /// Receives the next message of `kind` within `limit`, passing over others.
    #[must_use]
    pub fn receive_kind(&self, kind: (u8, usize), limit: Duration) -> Option<Vec<u8>> {
        let start = Instant::now();
        while let Some(left) = limit.checked_sub(elapsed(start)) {
            if let Some(message) = self.receive_raw(left)
                && message[0] == kind.0
            {
                return Some(message);
            }
        }
        None
    }

    /// Shakes hands without confirming; the session is kept. Three tries of two seconds.
    ///
    /// # Panics
    /// If the gateway does not answer.
    pub fn handshake_unconfirmed(&mut self) -> Initiation {
        self.try_handshake(3, Duration::from_secs(2))
            .expect("the gateway did not answer the handshake")
    }

    /// Tries to shake hands `tries` times.
    pub fn try_handshake(&mut self, tries: usize, wait: Duration) -> Option<Initiation> {
        for _ in 0..tries {
            let initiation = self.initiation();
            self.send_raw(&initiation.message);
            let session = self.receive_session(&initiation, wait);
            if let Some(session) = session {
                self.sessions.push(session);
                return Some(initiation);
            }
        }
        None
    }

    /// Shakes hands and confirms with a keepalive, which begins a session at the gateway.
    pub fn handshake(&mut self) -> Initiation {
        let initiation = self.handshake_unconfirmed();
        self.send_packet(&[]);
        initiation
    }

    /// Waits for the response to `initiation`, passing over late ones to others.
    fn receive_session(&self, initiation: &Initiation, wait: Duration) -> Option<Session> {
        let start = Instant::now();
        while let Some(left) = wait.checked_sub(elapsed(start)) {
            let response = self.receive_kind(noise::RESPONSE, left)?;
            if let Some(session) = self.identity.finish(initiation, &response) {
                return Some(session);
            }
        }
        None
    }

    /// Answers the gateway's own initiation, should one come within `limit`.
    pub fn answer_initiation(&mut self, limit: Duration) -> bool {
        let answered = self
            .receive_kind(noise::INITIATION, limit)
            .and_then(|initiation| self.identity.respond(&initiation));
        let Some((response, session)) = answered else { return false };
        self.send_raw(&response);
        self.sessions.push(session);
        true
    }

    /// The newest session.
    ///
    /// # Panics
    /// If there is none.
    pub fn session(&mut self) -> &mut Session {
        self.sessions.last_mut().expect("no session yet")
    }

    /// Sends an IP packet, or a keepalive if it is empty.
    pub fn send_packet(&mut self, packet: &[u8]) {
        let message = self.session().seal(packet);
        self.send_raw(&message);
    }

    /// Opens a transport message with whichever session it is for.
    #[must_use]
    pub fn open(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.sessions.iter().rev().find_map(|session| session.open(message))
    }

    /// Receives the next UDP datagram out of the tunnel.
    #[must_use]
    pub fn receive(&self, limit: Duration) -> Option<Datagram> {
        let start = Instant::now();
        while let Some(left) = limit.checked_sub(elapsed(start)) {
            let packet = self.receive_raw(left).and_then(|message| self.open(&message));
            if let Some(datagram) = packet.and_then(|packet| Datagram::parse(&packet)) {
                return Some(datagram);
            }
        }
        None
    }

    /// A datagram from this device's address in the tunnel.
    #[must_use]
    pub fn datagram(&self, port: u16, to: SocketAddr, payload: &[u8]) -> Datagram {
        let ip: IpAddr =
            if to.is_ipv4() { self.config.tunnel_v4.into() } else { self.config.tunnel_v6.into() };
        Datagram { from: SocketAddr::new(ip, port), to, payload: payload.to_vec() }
    }

    /// Sends a datagram to an echo server and says whether it came back unharmed, with three tries.
    #[must_use]
    pub fn echo(&mut self, to: SocketAddr, payload: &[u8]) -> bool {
        (0..3).any(|_| {
            let sent = self.datagram(4000, to, payload);
            self.send_packet(&sent.packet());
            let answer = Datagram { from: sent.to, to: sent.from, payload: payload.to_vec() };
            let start = Instant::now();
            std::iter::from_fn(|| {
                self.receive(Duration::from_secs(2).saturating_sub(elapsed(start)))
            })
            .any(|datagram| datagram == answer)
        })
    }
}

/// Opens a UDP socket in a namespace.
///
/// # Panics
/// If that fails.
#[must_use]
pub fn bind(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = namespace.within(|| UdpSocket::bind(address).expect("binding a UDP socket"));
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20);
    socket
}
