//! What the fuzz targets do with their input. `cargo fuzz` searches with them; a test of the forwarder replays
//! the corpus through the same functions.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, UdpSocket},
    os::{fd::AsFd, unix::net::UnixDatagram},
};

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519::{PublicKey, StaticSecret},
};
use tacit_forwarder::{
    Settings,
    handshakes::{Handshakes, Outcome},
    identity::Identities,
    inbound::{self, Inbound},
    inbox::HandshakeMessage,
    lookups::Lookups,
    outbound::{self, Outbound},
    peer::Credentials,
    sources::Sources,
    state::State,
    tun::VNET_HEADER_LEN,
    udp,
    wireguard::Kind,
};
use tacit_messages::{DeviceId, FromForwarder, SecretKey, ToForwarder, clock::Instant};

/// Decodes messages in both directions; what decodes must encode to the same bytes.
pub fn messages(data: &[u8]) {
    if let Ok(message) = ToForwarder::decode(data) {
        assert_eq!(&message.encode()[..], data);
    }
    if let Ok(message) = FromForwarder::decode(data) {
        assert_eq!(&message.encode()[..], data);
    }
}

/// Feeds datagrams to the forwarder, each led by a byte for what it is and one for its length.
pub fn inbound(data: &[u8]) {
    WORLD.with_borrow_mut(|world| world.inbound(data));
}

/// Feeds packets with their offload headers to the forwarder as if from the TUN device.
pub fn outbound(data: &[u8]) {
    WORLD.with_borrow_mut(|world| world.outbound(data));
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

const SLOT: u32 = 2;
const GATEWAY_KEY: [u8; 32] = [1; 32];
const CLIENT_KEY: [u8; 32] = [2; 32];
const PRESHARED_KEY: [u8; 32] = [3; 32];

/// A forwarder with one device in session, its sockets on loopback and its TUN device a socket pair.
struct World {
    state: State,
    identities: Identities,
    client: Tunn,
    gateway_socket: UdpSocket,
    client_socket: UdpSocket,
    tun: UnixDatagram,
    kernel: UnixDatagram,
    inbound: Inbound,
    outbound: Outbound,
    lookups: Lookups,
    sources: Sources,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            workers: 1,
            tunnel_v4: (Ipv4Addr::new(10, 66, 0, 0), 24),
            tunnel_v6: ([0xfd66, 0x7ac1, 7, 0, 0, 0, 0, 0].into(), 64),
            mtu: 1420,
            uso: true,
            allow_device_to_device: false,
            allow_gateway: false,
            allow_private: Vec::new(),
        };
        let bind = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("binding");
            socket.set_nonblocking(true).expect("non-blocking");
            socket
        };
        let (gateway_socket, client_socket) = (bind(), bind());
        udp::prepare(gateway_socket.as_fd()).expect("socket options");
        let (tun, kernel) = UnixDatagram::pair().expect("socket pair");
        tun.set_nonblocking(true).expect("non-blocking");
        kernel.set_nonblocking(true).expect("non-blocking");
        let gateway_public = PublicKey::from(&StaticSecret::from(GATEWAY_KEY));
        let client_key = StaticSecret::from(CLIENT_KEY);
        let client = Tunn::new(client_key, gateway_public, Some(PRESHARED_KEY), None, 7, None);
        let mut world = Self {
            state: State::new(&settings).expect("state"),
            identities: Identities::new(&SecretKey::new(GATEWAY_KEY)),
            client,
            gateway_socket,
            client_socket,
            tun,
            kernel,
            inbound: Inbound::new(true),
            outbound: Outbound::default(),
            lookups: Lookups::new(Instant::now()),
            sources: Sources::default(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        let credentials = Credentials {
            device: DeviceId(1),
            public_key: PublicKey::from(&StaticSecret::from(CLIENT_KEY)).to_bytes(),
            preshared_key: SecretKey::new(PRESHARED_KEY),
            tunnel_v4: Ipv4Addr::new(10, 66, 0, SLOT as u8),
            tunnel_v6: [0xfd66, 0x7ac1, 7, 0, 0, 0, 0, SLOT as u16].into(),
        };
        let peer = self.identities.current().peer(SLOT, &credentials, Instant::now());
        self.state.peers.insert(SLOT, peer);
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(initiation) =
            self.client.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation");
        };
        let source = self.client_socket.local_addr().expect("address");
        let message = HandshakeMessage::new(Kind::Initiation, source, initiation);
        let Some(Outcome::Reply(response)) = self.handshakes().respond(SLOT, &message) else {
            panic!("no response");
        };
        let TunnResult::WriteToNetwork(keepalive) =
            self.client.decapsulate(None, &response, &mut buffer)
        else {
            panic!("no session");
        };
        let keepalive = keepalive.to_vec();
        self.send(&keepalive);
        self.inbound_turn();
    }

    fn handshakes(&self) -> Handshakes<'_> {
        Handshakes {
            identities: &self.identities,
            state: &self.state,
            io: self.outbound_io(),
            now: Instant::now(),
        }
    }

    fn outbound_io(&self) -> outbound::Io<'_> {
        outbound::Io {
            tun: self.tun.as_fd(),
            udp_v4: Some(self.gateway_socket.as_fd()),
            udp_v6: None,
        }
    }

    fn send(&self, datagram: &[u8]) {
        let to = self.gateway_socket.local_addr().expect("address");
        let _ = self.client_socket.send_to(datagram, to);
    }

    fn inbound(&mut self, mut data: &[u8]) {
        while let [kind, len, rest @ ..] = data {
            let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
            data = rest;
            if kind % 2 == 0 {
                self.send(bytes);
            } else {
                let mut buffer = [0; 512];
                if let TunnResult::WriteToNetwork(sealed) =
                    self.client.encapsulate(bytes, &mut buffer)
                {
                    let mut sealed = sealed.to_vec();
                    // Kinds above 127 damage the message after it was sealed.
                    if let Some(byte) =
                        sealed.get_mut(usize::from(kind / 2)).filter(|_| *kind > 127)
                    {
                        *byte ^= 0x10;
                    }
                    self.send(&sealed);
                }
            }
        }
        self.inbound_turn();
        self.drain();
    }

    fn inbound_turn(&mut self) {
        let io = inbound::Io { udp: self.gateway_socket.as_fd(), tun: self.tun.as_fd() };
        let counters = &self.state.counters[0];
        while self.inbound.turn(io, &self.state, counters, Instant::now()) {}
        let (messages, _) = self.state.inbox.take(usize::MAX);
        let handshakes = Handshakes {
            identities: &self.identities,
            state: &self.state,
            io: outbound::Io { tun: io.tun, udp_v4: Some(io.udp), udp_v6: None },
            now: Instant::now(),
        };
        for message in messages {
            let endpoint = message.endpoint;
            if let Outcome::Reply(reply) =
                handshakes.handle(message, |_| Some(SLOT), &mut self.lookups, &mut self.sources)
            {
                handshakes.io.send(endpoint, &reply);
            }
        }
        self.identities.reset_count();
    }

    fn outbound(&mut self, mut data: &[u8]) {
        while let [high, low, rest @ ..] = data {
            let len = usize::from(u16::from_be_bytes([*high, *low])) % 4_096;
            let (bytes, rest) = rest.split_at(len.min(rest.len()));
            data = rest;
            let _ = self.kernel.send(bytes);
            // The same once more as a packet to the device, with a fitting length.
            let mut fitting = bytes.to_vec();
            if let Some(packet) =
                fitting.get_mut(VNET_HEADER_LEN..).filter(|packet| packet.len() >= 20)
            {
                let len = packet.len() as u16;
                packet[0] = 0x45;
                packet[2..4].copy_from_slice(&len.to_be_bytes());
                packet[16..20].copy_from_slice(&[10, 66, 0, SLOT as u8]);
                let _ = self.kernel.send(&fitting);
            }
            let io = outbound::Io {
                tun: self.tun.as_fd(),
                udp_v4: Some(self.gateway_socket.as_fd()),
                udp_v6: None,
            };
            self.outbound.turn(io, &self.state, &self.state.counters[0], Instant::now());
        }
        self.drain();
    }

    /// Opens what the device was sent and forgets what the TUN device was.
    fn drain(&mut self) {
        let mut datagram = vec![0; 65_536];
        let mut packet = vec![0; 65_536];
        while let Ok(len) = self.client_socket.recv(&mut datagram) {
            let opened = self.client.decapsulate(None, &datagram[..len], &mut packet);
            if Kind::of(&datagram[..len]) == Some(Kind::Transport) {
                assert!((len - 32) % 16 == 0 || len - 32 >= 1420, "padded to 16 bytes");
                assert!(!matches!(opened, TunnResult::Err(_)), "the device can open it");
            }
        }
        while self.kernel.recv(&mut datagram).is_ok() {}
    }
}
