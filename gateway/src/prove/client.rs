//! A WireGuard client: a tunnel device in its own namespace, and a thread that encrypts what goes through it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tacit_keys::{PresharedKey, PrivateKey, PublicKey};
use tacit_messages::clock::Instant;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{namespace::Namespace, wires};

/// The tunnel device in the client's namespace.
const DEVICE: &str = "tunnel";
/// Larger than any packet, and than what boringtun needs beyond one.
const BUFFER_LEN: usize = 65_536 + 64;
/// How often WireGuard's timers run.
const TICK: Duration = Duration::from_millis(250);
/// How long the thread waits for a packet, to notice that it is to stop.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What a client knows, as its config would say it.
pub(super) struct ClientConfig {
    /// Its own key.
    pub(super) private_key: PrivateKey,
    /// The gateway's.
    pub(super) gateway_key: PublicKey,
    /// Shared by both.
    pub(super) preshared_key: PresharedKey,
    /// Its addresses in the tunnel.
    pub(super) tunnel: (Ipv4Addr, Ipv6Addr),
    /// Where the gateway is.
    pub(super) gateway: SocketAddr,
    /// MTU of the tunnel in bytes.
    pub(super) mtu: u16,
}

/// A running client; it stops when dropped.
pub(super) struct Client {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    port: u16,
}

impl Client {
    /// Makes the tunnel device in `namespace`, leads everything into it and starts encrypting.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn start(namespace: &Namespace, config: &ClientConfig) -> anyhow::Result<Self> {
        wires::lead_to_gateway(namespace, config.gateway.ip())?;
        let (device, socket) =
            namespace.within(|| open(config).context("opening a client's tunnel"))?;
        let tunnel: [IpAddr; 2] = [config.tunnel.0.into(), config.tunnel.1.into()];
        wires::lead_into_tunnel(namespace, DEVICE, tunnel)?;
        let port = socket.local_addr().context("asking for a client's port")?.port();
        let mut pump = Pump { tunn: tunn(config), device, socket, gateway: config.gateway };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || pump.run(&stopped));
        Ok(Self { stop, thread: Some(thread), port })
    }

    /// The port of its socket, which it has wherever it is.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(config: &ClientConfig) -> io::Result<(SyncDevice, UdpSocket)> {
    let device =
        DeviceBuilder::new().name(DEVICE).mtu(config.mtu).inherit_enable_state().build_sync()?;
    device.set_nonblocking(true)?;
    let any: IpAddr = match config.gateway {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    Ok((device, socket))
}

fn tunn(config: &ClientConfig) -> Tunn {
    let private_key = x25519::StaticSecret::from(*config.private_key.expose());
    let gateway_key = x25519::PublicKey::from(*config.gateway_key.as_bytes());
    Tunn::new(private_key, gateway_key, Some(*config.preshared_key.expose()), None, 1, None)
}

struct Pump {
    tunn: Tunn,
    device: SyncDevice,
    /// Not connected: the kernel chooses the source of each datagram, so the client can move.
    socket: UdpSocket,
    gateway: SocketAddr,
}

impl Pump {
    fn run(&mut self, stop: &AtomicBool) {
        let mut last_tick = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.wait();
            self.outgoing();
            self.incoming();
            let now = Instant::now();
            if now.since(last_tick) >= TICK {
                last_tick = now;
                let mut buffer = vec![0; BUFFER_LEN];
                if let TunnResult::WriteToNetwork(message) = self.tunn.update_timers(&mut buffer) {
                    self.send(message);
                }
            }
        }
    }

    fn wait(&self) {
        let mut ready = [
            PollFd::from_borrowed_fd(self.device.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
        ];
        let _ = poll(&mut ready, Some(&WAIT));
    }

    fn outgoing(&mut self) {
        let (mut packet, mut message) = (vec![0; BUFFER_LEN], vec![0; BUFFER_LEN]);
        while let Ok(len) = self.device.recv(&mut packet) {
            if let TunnResult::WriteToNetwork(message) =
                self.tunn.encapsulate(&packet[..len], &mut message)
            {
                self.send(message);
            }
        }
    }

    fn incoming(&mut self) {
        let (mut datagram, mut buffer) = (vec![0; BUFFER_LEN], vec![0; BUFFER_LEN]);
        while let Ok(len) = self.socket.recv(&mut datagram) {
            let mut result = self.tunn.decapsulate(None, &datagram[..len], &mut buffer);
            loop {
                match result {
                    TunnResult::WriteToNetwork(message) => {
                        let _ = self.socket.send_to(message, self.gateway);
                    }
                    TunnResult::WriteToTunnelV4(packet, _)
                    | TunnResult::WriteToTunnelV6(packet, _) => {
                        let _ = self.device.send(packet);
                        break;
                    }
                    TunnResult::Done | TunnResult::Err(_) => break,
                }
                // There may be packets that waited for the handshake.
                result = self.tunn.decapsulate(None, &[], &mut buffer);
            }
        }
    }

    fn send(&self, message: &[u8]) {
        // A datagram that cannot be sent is lost, as on any network.
        let _ = self.socket.send_to(message, self.gateway);
    }
}
