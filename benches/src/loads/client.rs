//! A WireGuard client that costs little, so that the server is what a transfer measures.
//!
//! It is made of the forwarder's own steps: super-packets from its TUN device leave as trains, trains that arrive are
//! merged before they are written. It speaks to one server over IPv4 and knows neither roaming nor cookies.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519::{PublicKey, StaticSecret},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tacit_forwarder::{
    coalesce::Coalescer,
    ecn::Ecn,
    packet,
    segment::Segments,
    tun::{self, VNET_HEADER_LEN, VnetHeader},
    udp::{self, Batch},
    wireguard::{INITIATION_LEN, MAX_DATAGRAM, TRANSPORT_OVERHEAD},
};
use tacit_messages::clock::Instant;
use tacit_tests::{
    Namespace,
    clock::wait_for,
    config::Config,
    lab::{GATEWAY_V4, TARGET_V4},
    raw_client::bind,
};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::process;

/// Between two looks at WireGuard's timers.
const TICK: Duration = Duration::from_millis(250);
const TICK_TIMESPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// Reads from the TUN device in a row, before datagrams have their turn.
const READS_PER_TURN: usize = 64;
const MAX_TRAIN: usize = 64;
const MAX_PACKET: usize = VNET_HEADER_LEN + 65_535;

/// A client with all of its namespace's traffic in the tunnel; it ends when dropped.
pub(crate) struct LightClient<'lab> {
    pub(crate) namespace: &'lab Namespace,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<'lab> LightClient<'lab> {
    /// Connects, on processor `cpu` if one is given, and waits until the target answers.
    pub(crate) fn up(
        namespace: &'lab Namespace,
        config: &Config,
        cpu: Option<usize>,
    ) -> Result<Self> {
        let device = namespace.within(device).context("making the client's TUN device")?;
        let has_uso = device.udp_gso();
        namespace.sh(&format!(
            "ip addr add {}/32 dev wg0; ip link set wg0 up; \
             ip route add {GATEWAY_V4}/32 via $(ip -4 route show default | cut -d' ' -f3); \
             ip route replace default dev wg0",
            config.tunnel_v4
        ));
        let socket = bind(namespace, (Ipv4Addr::UNSPECIFIED, 0).into());
        udp::prepare(socket.as_fd())?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut tunnel = Tunnel::new(device, socket, config, has_uso);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if let Some(cpu) = cpu {
                let _ = process::pin_thread(cpu);
            }
            tunnel.run(&stopped);
        });
        let client = Self { namespace, stop, thread: Some(thread) };
        let answers = || {
            let ping = format!("ping -c 1 -W 1 {TARGET_V4} >/dev/null && echo yes || true");
            (namespace.sh(&ping).trim() == "yes").then_some(())
        };
        wait_for(Duration::from_secs(10), answers).context("the server forwards nothing")?;
        Ok(client)
    }
}

impl Drop for LightClient<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn device() -> std::io::Result<SyncDevice> {
    let device = DeviceBuilder::new()
        .name("wg0")
        .mtu(1420)
        .with(|linux| {
            linux.offload(true);
        })
        .inherit_enable_state()
        .build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

/// The client's side of the tunnel.
struct Tunnel {
    device: SyncDevice,
    socket: UdpSocket,
    server: SocketAddr,
    tunn: Tunn,
    batch: Batch,
    coalescer: Coalescer,
    read: Vec<u8>,
    train: Train,
}

impl Tunnel {
    fn new(device: SyncDevice, socket: UdpSocket, config: &Config, has_uso: bool) -> Self {
        let private = StaticSecret::from(config.private_key);
        let gateway = PublicKey::from(config.gateway_key);
        Self {
            device,
            socket,
            server: config.endpoint,
            tunn: Tunn::new(private, gateway, Some(config.preshared_key), None, 1, None),
            batch: Batch::default(),
            coalescer: Coalescer::new(has_uso),
            read: vec![0; MAX_PACKET],
            train: Train::default(),
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut last_tick = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let mut ready = [self.socket.as_fd(), self.device.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let _ = poll(&mut ready, Some(&TICK_TIMESPEC));
            let [udp_ready, tun_ready] = ready.map(|fd| !fd.revents().is_empty());
            if udp_ready {
                self.inbound();
            }
            if tun_ready {
                self.outbound();
            }
            let now = Instant::now();
            if now.since(last_tick) >= TICK {
                last_tick = now;
                self.tick();
            }
        }
    }

    fn inbound(&mut self) {
        let Ok(received) = self.batch.receive(self.socket.as_fd()) else { return };
        for n in 0..received {
            let Some(train) = self.batch.slot(n) else { continue };
            for datagram in train.bytes.chunks(train.segment_len) {
                if !self.coalescer.has_room() {
                    self.coalescer.flush(self.device.as_fd());
                }
                let len = match self.tunn.decapsulate(None, datagram, self.coalescer.room()) {
                    TunnResult::WriteToTunnelV4(packet, _)
                    | TunnResult::WriteToTunnelV6(packet, _) => packet.len(),
                    TunnResult::WriteToNetwork(reply) => {
                        let _ = self.socket.send_to(reply, self.server);
                        continue;
                    }
                    TunnResult::Done | TunnResult::Err(_) => continue,
                };
                self.coalescer.push(len);
            }
        }
        self.coalescer.flush(self.device.as_fd());
    }

    fn outbound(&mut self) {
        for _ in 0..READS_PER_TURN {
            let Ok(len) = tun::read(self.device.as_fd(), &mut self.read) else { break };
            let (vnet, packet) = self.read[..len].split_at_mut(VNET_HEADER_LEN);
            let Some(vnet) = vnet.first_chunk().map(VnetHeader::from_bytes) else { continue };
            if packet::ip_len(packet) != Some(packet.len()) {
                continue;
            }
            let Some(mut segments) = Segments::new(vnet, packet) else { continue };
            while let Some(range) = segments.next(packet) {
                let room = self.train.room(range.len(), &self.socket, self.server);
                match self.tunn.encapsulate(&packet[range], room) {
                    // A handshake message goes by itself, ahead of what waits for it.
                    TunnResult::WriteToNetwork(message) if message[0] != 4 => {
                        let _ = self.socket.send_to(message, self.server);
                    }
                    TunnResult::WriteToNetwork(message) => {
                        let len = message.len();
                        self.train.take(len);
                    }
                    _ => {}
                }
            }
        }
        self.train.send(self.socket.as_fd(), self.server);
    }

    fn tick(&mut self) {
        let mut message = [0; 256];
        if let TunnResult::WriteToNetwork(message) = self.tunn.update_timers(&mut message) {
            let _ = self.socket.send_to(message, self.server);
        }
    }
}

/// Datagrams of one length that leave in one call, the last maybe shorter.
struct Train {
    bytes: Vec<u8>,
    used: usize,
    segment_len: usize,
    datagrams: usize,
}

impl Default for Train {
    fn default() -> Self {
        let bytes = vec![0; MAX_DATAGRAM + INITIATION_LEN];
        Self { bytes, used: 0, segment_len: 0, datagrams: 0 }
    }
}

impl Train {
    /// Where a packet of `packet_len` is to be encrypted to; what cannot leave with it leaves before.
    fn room(&mut self, packet_len: usize, socket: &UdpSocket, server: SocketAddr) -> &mut [u8] {
        let len = packet_len + TRANSPORT_OVERHEAD;
        let ended = self.used != self.datagrams * self.segment_len;
        let joins = !ended
            && len <= self.segment_len
            && self.datagrams < MAX_TRAIN
            && self.used + len <= MAX_DATAGRAM;
        if !joins {
            self.send(socket.as_fd(), server);
            self.segment_len = len;
        }
        &mut self.bytes[self.used..]
    }

    fn take(&mut self, len: usize) {
        self.used += len;
        self.datagrams += 1;
    }

    fn send(&mut self, socket: BorrowedFd<'_>, server: SocketAddr) {
        if self.used > 0 {
            let bytes = &self.bytes[..self.used];
            let _ = udp::send_train(socket, server, Ecn::NotEct, self.segment_len, bytes);
        }
        self.used = 0;
        self.datagrams = 0;
    }
}
