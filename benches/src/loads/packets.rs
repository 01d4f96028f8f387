//! Floods: packets made beforehand, so that the sender is cheap and the server is what is measured.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519::{PublicKey, StaticSecret},
};
use tacit_forwarder::{ecn::Ecn, udp};
use tacit_messages::clock::Instant;
use tacit_tests::{
    Lab, Namespace, config::Config, lab::TARGET_V4, packet::Datagram, raw_client::bind,
};

use crate::{
    process::{self, LOAD_CPU},
    subject::json_of,
};

/// The port that the flood goes to, and where it is counted and dropped.
const SINK_PORT: u16 = 9;
const FLOOD_PORT: u16 = 40_000;
const IP_UDP_HEADERS: usize = 28;
const TRANSPORT_OVERHEAD: usize = 32;

/// What flows, as the inner IP packet's length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) packet_len: usize,
    pub(crate) packets: usize,
    /// Whether the sender hands trains to the kernel.
    pub(crate) gso: bool,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flooded {
    /// Packets that arrived per second.
    pub(crate) packets_per_second: f64,
    /// The server's CPU time per packet that arrived, in microseconds.
    pub(crate) cpu_micros: f64,
    /// Share of the sent packets that arrived.
    pub(crate) arrived: f64,
}

/// Counts UDP packets to a port of a namespace and drops them before they cost anything.
struct Sink<'a> {
    namespace: &'a Namespace,
    payload_len: usize,
}

impl<'a> Sink<'a> {
    fn new(namespace: &'a Namespace, port: u16, payload_len: usize) -> Self {
        namespace.sh(&format!(
            "nft add table ip sink; nft flush table ip sink; \
             nft 'add chain ip sink in {{ type filter hook prerouting priority raw; }}'; \
             nft add rule ip sink in udp dport {port} counter drop"
        ));
        Self { namespace, payload_len }
    }

    /// Packets so far. A train counts as one packet with one header, so its bytes tell how many it was.
    fn packets(&self) -> Result<f64> {
        let list = json_of(self.namespace, "nft -j list table ip sink")?;
        let counter = list["nftables"]
            .as_array()
            .and_then(|items| items.iter().find_map(|item| item["rule"]["expr"].as_array()))
            .and_then(|expressions| expressions.iter().find_map(|one| one.get("counter")))
            .context("the sink has no counter")?;
        let field = |name: &str| counter[name].as_f64().context("a counter without a number");
        Ok((field("bytes")? - field("packets")? * IP_UDP_HEADERS as f64) / self.payload_len as f64)
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        self.namespace.sh("nft delete table ip sink");
    }
}

/// A client with a session, as cheap as can be.
struct Session {
    tunn: Tunn,
    socket: UdpSocket,
    endpoint: SocketAddr,
}

impl Session {
    fn open(namespace: &Namespace, config: &Config) -> Result<Self> {
        let socket = bind(namespace, (Ipv4Addr::UNSPECIFIED, 0).into());
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let private = StaticSecret::from(config.private_key);
        let gateway = PublicKey::from(config.gateway_key);
        let mut tunn = Tunn::new(private, gateway, Some(config.preshared_key), None, 1, None);
        let mut buffer = [0; 2_048];
        for _ in 0..5 {
            let TunnResult::WriteToNetwork(initiation) =
                tunn.format_handshake_initiation(&mut buffer, true)
            else {
                bail!("no initiation");
            };
            socket.send_to(initiation, config.endpoint)?;
            let mut response = [0; 2_048];
            let Ok(len) = socket.recv(&mut response) else { continue };
            if let TunnResult::WriteToNetwork(keepalive) =
                tunn.decapsulate(None, &response[..len], &mut buffer)
            {
                socket.send_to(keepalive, config.endpoint)?;
                return Ok(Self { tunn, socket, endpoint: config.endpoint });
            }
        }
        bail!("the server does not answer handshakes")
    }

    fn seal(&mut self, packet: &[u8], into: &mut Vec<u8>) -> Result<()> {
        let start = into.len();
        into.resize(start + packet.len() + TRANSPORT_OVERHEAD, 0);
        let mut buffer = [0; 2_048];
        match self.tunn.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(sealed) => {
                into[start..].copy_from_slice(sealed);
                Ok(())
            }
            _ => bail!("the session is gone"),
        }
    }
}

fn datagram(config: &Config, packet_len: usize) -> Datagram {
    Datagram {
        from: (IpAddr::from(config.tunnel_v4), FLOOD_PORT).into(),
        to: (IpAddr::from(TARGET_V4), SINK_PORT).into(),
        payload: vec![0x5a; packet_len - IP_UDP_HEADERS],
    }
}

/// Sends `bytes` as datagrams of `len`, in trains or one by one, as fast as it goes.
fn send_all(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], len: usize, gso: bool) {
    let train = if gso { (65_000 / len).min(64) * len } else { len };
    for train in bytes.chunks(train) {
        // A full queue is a dropped packet, as on any wire.
        let _ = udp::send_train(socket.as_fd(), to, Ecn::NotEct, len, train);
    }
}

/// Sends `bytes` as trains of 16 datagrams of `len`, `packets_per_second` of them.
fn send_steadily(
    socket: &UdpSocket,
    to: SocketAddr,
    bytes: &[u8],
    len: usize,
    packets_per_second: f64,
) {
    const TRAIN: usize = 16;
    let start = Instant::now();
    for (n, train) in bytes.chunks(TRAIN * len).enumerate() {
        let due = Duration::from_secs_f64((n * TRAIN) as f64 / packets_per_second);
        if let Some(early) = due.checked_sub(Instant::now().since(start)) {
            std::thread::sleep(early);
        }
        let _ = udp::send_train(socket.as_fd(), to, Ecn::NotEct, len, train);
    }
}

/// Floods from the client through the server to the target.
pub(crate) fn inbound(
    lab: &Lab,
    config: &Config,
    shape: Shape,
    cpu: impl Fn() -> Duration,
) -> Result<Flooded> {
    let Inbound { session, bytes, len, .. } = &Inbound::new(lab, config, shape)?;
    let send = || send_all(&session.socket, session.endpoint, bytes, *len, shape.gso);
    count_inbound(lab, shape, cpu, || on_load_cpu(send))
}

/// Floods from several devices at once, each on a thread of its own and none on a processor of its own.
pub(crate) fn inbound_from_all(
    lab: &Lab,
    configs: &[Config],
    shape: Shape,
    cpu: impl Fn() -> Duration,
) -> Result<Flooded> {
    let floods = configs
        .iter()
        .map(|config| Inbound::new(lab, config, shape))
        .collect::<Result<Vec<Inbound>>>()?;
    let all = Shape { packets: shape.packets * configs.len(), ..shape };
    count_inbound(lab, all, cpu, || {
        std::thread::scope(|scope| {
            for Inbound { session, bytes, len, .. } in &floods {
                scope.spawn(|| send_all(&session.socket, session.endpoint, bytes, *len, shape.gso));
            }
        });
    })
}

/// A flood from the client to the target, ready to be sent.
pub(crate) struct Inbound {
    session: Session,
    shape: Shape,
    bytes: Vec<u8>,
    /// Length of each datagram.
    len: usize,
}

impl Inbound {
    /// Shakes hands and encrypts all packets.
    pub(crate) fn new(lab: &Lab, config: &Config, shape: Shape) -> Result<Self> {
        let mut session = Session::open(&lab.clients[1], config)?;
        let packet = datagram(config, shape.packet_len).packet();
        let len = packet.len() + TRANSPORT_OVERHEAD;
        let mut bytes = Vec::with_capacity(shape.packets * len);
        for _ in 0..shape.packets {
            session.seal(&packet, &mut bytes)?;
        }
        Ok(Self { session, shape, bytes, len })
    }

    /// Sends the packets, a given number per second.
    pub(crate) fn send_steadily(
        &self,
        lab: &Lab,
        packets_per_second: f64,
        cpu: impl Fn() -> Duration,
    ) -> Result<Flooded> {
        let Session { socket, endpoint, .. } = &self.session;
        let send = || send_steadily(socket, *endpoint, &self.bytes, self.len, packets_per_second);
        count_inbound(lab, self.shape, cpu, || on_load_cpu(send))
    }
}

/// How long a handshake takes, tries included.
pub(crate) fn handshake(lab: &Lab, config: &Config) -> Result<Duration> {
    let start = Instant::now();
    Session::open(&lab.clients[1], config)?;
    Ok(Instant::now().since(start))
}

/// Counts what arrives at the target of what `send` sends.
fn count_inbound(
    lab: &Lab,
    shape: Shape,
    cpu: impl Fn() -> Duration,
    send: impl FnOnce(),
) -> Result<Flooded> {
    let sink = Sink::new(&lab.target_namespace, SINK_PORT, shape.packet_len - IP_UDP_HEADERS);
    let (before, cpu_before, start) = (sink.packets()?, cpu(), Instant::now());
    send();
    let seconds = Instant::now().since(start).as_secs_f64();
    std::thread::sleep(Duration::from_millis(100));
    flooded(sink.packets()? - before, shape.packets, cpu() - cpu_before, seconds)
}

/// Floods from the target through the server to the client.
pub(crate) fn outbound(
    lab: &Lab,
    config: &Config,
    shape: Shape,
    cpu: impl Fn() -> Duration,
) -> Result<Flooded> {
    let mut session = Session::open(&lab.clients[1], config)?;
    let target = bind(&lab.target_namespace, (TARGET_V4, SINK_PORT).into());
    target.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut opening = Vec::new();
    session.seal(&datagram(config, 64).packet(), &mut opening)?;
    session.socket.send_to(&opening, session.endpoint)?;
    let (_, back) = target.recv_from(&mut [0; 2_048]).context("nothing came through the server")?;

    let payload_len = shape.packet_len - IP_UDP_HEADERS;
    let bytes = vec![0x5a; payload_len * 64];
    let port = session.socket.local_addr()?.port();
    let sealed_len = shape.packet_len.next_multiple_of(16) + TRANSPORT_OVERHEAD;
    let sink = Sink::new(&lab.clients[1], port, sealed_len);
    let (before, cpu_before, start) = (sink.packets()?, cpu(), Instant::now());
    let trains = shape.packets / 64;
    on_load_cpu(|| {
        for _ in 0..trains {
            send_all(&target, back, &bytes, payload_len, shape.gso);
        }
    });
    let seconds = Instant::now().since(start).as_secs_f64();
    std::thread::sleep(Duration::from_millis(100));
    flooded(sink.packets()? - before, trains * 64, cpu() - cpu_before, seconds)
}

/// Sends on a thread that has the load's processor, before anything else that runs there.
fn on_load_cpu(send: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = process::pin_thread(LOAD_CPU);
            let _ = process::set_niceness(-10);
            send();
        });
    });
}

fn flooded(packets: f64, sent: usize, cpu: Duration, seconds: f64) -> Result<Flooded> {
    if packets < 100.0 {
        bail!("only {packets} packets of the flood arrived");
    }
    Ok(Flooded {
        packets_per_second: packets / seconds,
        cpu_micros: cpu.as_secs_f64() * 1e6 / packets,
        arrived: packets / sent as f64,
    })
}
