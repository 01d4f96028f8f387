//! Handshake initiations of nobody's keys from many addresses, as fast as one thread sends them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use boringtun::x25519::{PublicKey, StaticSecret};
use rand_core::{OsRng, RngCore};
use tacit_tests::{Lab, config::Config, lab::client_v4, noise::Identity, raw_client::bind};

use crate::process::{self, LOAD_CPU};

/// What the initiations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// Their mac1 is wrong: whoever sends them does not know the gateway's key.
    WrongMac,
    /// Their mac1 is right and their keys are random: only a look-up tells that nobody has them.
    RightMac,
}

/// Different initiations; they are sent over and over.
const MESSAGES: usize = 4_096;
/// Addresses that they come from, each with a port of its own.
const SOURCES: usize = 512;
/// Set aside for benchmarks (RFC 2544); the client that floods answers for all of it.
const NETWORK: &str = "198.18.0.0/15";

/// A generator of initiations in the namespace of client 1.
pub(crate) struct Initiations {
    messages: Vec<Vec<u8>>,
    sockets: Vec<UdpSocket>,
}

impl Initiations {
    /// Makes the messages and opens the sockets.
    ///
    /// # Errors
    /// If a socket cannot be connected.
    pub(crate) fn new(lab: &Lab, config: &Config, forgery: Forgery) -> Result<Self> {
        let router = client_v4(1, 2);
        lab.gateway.sh(&format!("ip route replace {NETWORK} via {router}"));
        lab.clients[1].sh(&format!("ip route replace local {NETWORK} dev lo"));
        let sockets = (0..SOURCES).map(|_| socket(lab, config.endpoint)).collect::<Result<_>>()?;
        let messages = (0..MESSAGES).map(|_| message(config, forgery)).collect();
        Ok(Self { messages, sockets })
    }

    /// Sends until told to stop, with what the load leaves of its processor; returns how many were sent.
    pub(crate) fn send_until(&self, stop: &AtomicBool) -> u64 {
        let _ = process::pin_thread(LOAD_CPU);
        let _ = process::set_niceness(19);
        let mut sent = 0;
        for (message, socket) in self.messages.iter().cycle().zip(self.sockets.iter().cycle()) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            sent += u64::from(socket.send(message).is_ok());
        }
        sent
    }
}

/// A socket with a random address of [`NETWORK`].
fn socket(lab: &Lab, gateway: SocketAddr) -> Result<UdpSocket> {
    let [a, b, c] = random();
    let address = Ipv4Addr::new(198, 18 + (a & 1), b, c);
    let socket = bind(&lab.clients[1], (IpAddr::from(address), 0).into());
    // Nobody reads the answers.
    socket2::SockRef::from(&socket).set_recv_buffer_size(1)?;
    socket.connect(gateway)?;
    Ok(socket)
}

fn message(config: &Config, forgery: Forgery) -> Vec<u8> {
    let identity = Identity {
        private_key: StaticSecret::from(random()),
        peer: PublicKey::from(config.gateway_key),
        preshared_key: [0; 32],
    };
    let mut message = identity.initiate([0x40; 12]).message;
    if forgery == Forgery::WrongMac {
        let mac1_at = message.len() - 32;
        message[mac1_at..mac1_at + 16].copy_from_slice(&random::<16>());
    }
    message
}

fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    OsRng.fill_bytes(&mut bytes);
    bytes
}
