//! Many devices on one socket: each shakes hands with the gateway and keeps its session.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use boringtun::x25519::{PublicKey, StaticSecret};
use tacit_messages::{UnixSeconds, clock::Instant};
use tacit_tests::{
    Namespace,
    config::Config,
    lab::TARGET_V4,
    noise::{self, Identity, Initiation, Session},
    packet::Datagram,
    raw_client::bind,
    target::ECHO_PORT,
};

/// Below the rate from which on the gateway wants cookies.
const HANDSHAKES_PER_SECOND: f64 = 400.0;
/// How long a response may take before the device asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last answers may take.
const LATEST: Duration = Duration::from_secs(20);
/// Packets that are on their way at once.
const BURST: usize = 32;

/// Devices with sessions.
pub(crate) struct LiveDevices {
    socket: UdpSocket,
    gateway: SocketAddr,
    devices: Vec<Device>,
    /// Which device a session's index stands for.
    indices: HashMap<u32, usize>,
}

struct Device {
    identity: Identity,
    tunnel_v4: Ipv4Addr,
    session: Option<Session>,
}

/// An initiation on its way: whose, since when.
type Asked = (usize, Initiation, Instant);

impl LiveDevices {
    /// Connects a device for each of `configs` from `namespace`.
    ///
    /// # Errors
    /// If some are not answered.
    pub(crate) fn connect(namespace: &Namespace, configs: &[Config]) -> Result<Self> {
        let socket = bind(namespace, (Ipv4Addr::UNSPECIFIED, 0).into());
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let devices = configs.iter().map(Device::new).collect();
        let gateway = configs[0].endpoint;
        let mut live = Self { socket, gateway, devices, indices: HashMap::new() };
        live.shake_hands()?;
        Ok(live)
    }

    fn shake_hands(&mut self) -> Result<()> {
        let count = self.devices.len();
        let mut queue: VecDeque<usize> = (0..count).collect();
        let mut asked: HashMap<u32, Asked> = HashMap::new();
        let (start, mut sent) = (Instant::now(), 0);
        let latest = Duration::from_secs_f64(count as f64 / HANDSHAKES_PER_SECOND) + LATEST;
        while self.indices.len() < count {
            let now = Instant::now();
            ensure!(
                now.since(start) < latest,
                "only {} of {count} devices were answered",
                self.indices.len()
            );
            while f64::from(sent) < now.since(start).as_secs_f64() * HANDSHAKES_PER_SECOND
                && let Some(number) = queue.pop_front()
            {
                let initiation = self.devices[number].identity.initiate(timestamp(sent));
                let _ = self.socket.send_to(&initiation.message, self.gateway);
                asked.insert(initiation.local_index, (number, initiation, now));
                sent += 1;
            }
            self.take_responses(&mut asked);
            asked.retain(|_, (number, _, since)| {
                let waits = now.since(*since) < PATIENCE;
                if !waits {
                    queue.push_back(*number);
                }
                waits
            });
        }
        Ok(())
    }

    /// Takes the responses that are there, and confirms each with a keepalive.
    fn take_responses(&mut self, asked: &mut HashMap<u32, Asked>) {
        let mut buffer = [0; 2_048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            if len != noise::RESPONSE.1 {
                continue;
            }
            let index = u32_at(&buffer, 8);
            let Some((number, initiation, _)) = asked.remove(&index) else { continue };
            let device = &mut self.devices[number];
            let Some(mut session) = device.identity.finish(&initiation, &buffer[..len]) else {
                continue;
            };
            let _ = self.socket.send_to(&session.seal(&[]), self.gateway);
            device.session = Some(session);
            self.indices.insert(index, number);
        }
    }

    /// Lets each device send a packet to the target's echo server; returns how many got it back.
    pub(crate) fn echo(&mut self) -> usize {
        let mut echoed = 0;
        for first in (0..self.devices.len()).step_by(BURST) {
            let burst = first..(first + BURST).min(self.devices.len());
            for number in burst.clone() {
                self.send_echo(number);
            }
            echoed += self.take_echoes(burst.len());
        }
        echoed
    }

    fn send_echo(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let packet = Datagram {
            from: (IpAddr::from(device.tunnel_v4), 4_000).into(),
            to: (IpAddr::from(TARGET_V4), ECHO_PORT).into(),
            payload: vec![7; 64],
        };
        if let Some(session) = &mut device.session {
            let _ = self.socket.send_to(&session.seal(&packet.packet()), self.gateway);
        }
    }

    /// Takes up to `most` echoes that can be opened, and gives up after 100 ms without any.
    fn take_echoes(&self, most: usize) -> usize {
        let mut buffer = [0; 2_048];
        let (mut echoes, mut last) = (0, Instant::now());
        while echoes < most && Instant::now().since(last) < Duration::from_millis(100) {
            let Ok(len) = self.socket.recv(&mut buffer) else { continue };
            let device = self.indices.get(&u32_at(&buffer, 4)).map(|number| &self.devices[*number]);
            let packet = device.and_then(|device| device.session.as_ref()?.open(&buffer[..len]));
            if packet.is_some_and(|packet| Datagram::parse(&packet).is_some()) {
                echoes += 1;
                last = Instant::now();
            }
        }
        echoes
    }
}

impl Device {
    fn new(config: &Config) -> Self {
        let identity = Identity {
            private_key: StaticSecret::from(config.private_key),
            peer: PublicKey::from(config.gateway_key),
            preshared_key: config.preshared_key,
        };
        Self { identity, tunnel_v4: config.tunnel_v4, session: None }
    }
}

/// A TAI64N timestamp, each later than the one before.
fn timestamp(number: u32) -> [u8; 12] {
    let seconds = 0x4000_0000_0000_000a + UnixSeconds::now().0;
    let mut timestamp = [0; 12];
    timestamp[..8].copy_from_slice(&seconds.to_be_bytes());
    timestamp[8..].copy_from_slice(&(number << 10).to_be_bytes());
    timestamp
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
