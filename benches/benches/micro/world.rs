//! A forwarder with one device in session, without processes and namespaces.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
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
    outbound,
    peer::Credentials,
    peers::Slot,
    state::State,
    tun::{GSO_TCPV4, GSO_UDP_L4, VnetHeader},
    udp,
    wireguard::Kind,
};
use tacit_messages::{DeviceId, SecretKey, clock::Instant};
use tacit_tests::packet::Datagram;

/// The device's slot.
pub(crate) const SLOT: Slot = 2;
/// MTU of the TUN device in bytes.
pub(crate) const MTU: u16 = 1_420;
const GATEWAY_KEY: [u8; 32] = [1; 32];
const CLIENT_KEY: [u8; 32] = [2; 32];
const PRESHARED_KEY: [u8; 32] = [3; 32];
const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// State, sockets and the client's end.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) identities: Identities,
    pub(crate) client: Tunn,
    pub(crate) gateway_socket: UdpSocket,
    pub(crate) client_socket: UdpSocket,
    /// Swallows what is written.
    pub(crate) null: File,
    /// The TUN device, and the kernel's end of it.
    pub(crate) tun: UnixDatagram,
    pub(crate) kernel: UnixDatagram,
}

impl World {
    /// Makes a forwarder and a device in session.
    pub(crate) fn new() -> Self {
        let (gateway_socket, client_socket) = (bind(), bind());
        udp::prepare(gateway_socket.as_fd()).expect("socket options");
        let (tun, kernel) = UnixDatagram::pair().expect("socket pair");
        tun.set_nonblocking(true).expect("non-blocking");
        kernel.set_nonblocking(true).expect("non-blocking");
        let mut world = Self {
            state: State::new(&settings()).expect("state"),
            identities: Identities::new(&SecretKey::new(GATEWAY_KEY)),
            client: client(),
            gateway_socket,
            client_socket,
            null: File::options().read(true).write(true).open("/dev/null").expect("/dev/null"),
            tun,
            kernel,
        };
        world.add_peer(SLOT, CLIENT_KEY);
        world.connect();
        world
    }

    /// Makes the device in `slot` live.
    pub(crate) fn add_peer(&self, slot: Slot, private_key: [u8; 32]) {
        let credentials = Credentials {
            device: DeviceId(slot.into()),
            public_key: PublicKey::from(&StaticSecret::from(private_key)).to_bytes(),
            preshared_key: SecretKey::new(PRESHARED_KEY),
            tunnel_v4: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 66, 0, 0)) + slot),
            tunnel_v6: Ipv6Addr::from(0xfd66_7ac1_0007 << 80 | u128::from(slot)),
        };
        let peer = self.identities.current().peer(slot, &credentials, Instant::now());
        self.state.peers.insert(slot, peer);
    }

    fn connect(&mut self) {
        let initiation = self.initiation();
        let Some(Outcome::Reply(response)) = self.handshakes().respond(SLOT, &initiation) else {
            panic!("no response");
        };
        let mut buffer = [0; 256];
        let answer = self.client.decapsulate(None, &response, &mut buffer);
        let TunnResult::WriteToNetwork(keepalive) = answer else { panic!("no session") };
        self.send(keepalive);
        let io = inbound::Io { udp: self.gateway_socket.as_fd(), tun: self.null.as_fd() };
        Inbound::new(true).turn(io, &self.state, &self.state.counters[0], Instant::now());
    }

    /// A new handshake initiation of the device.
    pub(crate) fn initiation(&mut self) -> HandshakeMessage {
        let mut buffer = [0; 256];
        let initiation = self.client.format_handshake_initiation(&mut buffer, true);
        let TunnResult::WriteToNetwork(initiation) = initiation else { panic!("no initiation") };
        let source = self.client_socket.local_addr().expect("address");
        HandshakeMessage::new(Kind::Initiation, source, initiation)
    }

    /// What handles handshakes.
    pub(crate) fn handshakes(&self) -> Handshakes<'_> {
        Handshakes {
            identities: &self.identities,
            state: &self.state,
            io: self.outbound_io(),
            now: Instant::now(),
        }
    }

    /// The socket pair and the gateway's socket.
    pub(crate) fn outbound_io(&self) -> outbound::Io<'_> {
        outbound::Io {
            tun: self.tun.as_fd(),
            udp_v4: Some(self.gateway_socket.as_fd()),
            udp_v6: None,
        }
    }

    /// Encrypts a packet as the device does.
    pub(crate) fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2_048];
        let TunnResult::WriteToNetwork(sealed) = self.client.encapsulate(packet, &mut buffer)
        else {
            panic!("no session");
        };
        sealed.to_vec()
    }

    /// Sends a datagram to the gateway's socket.
    pub(crate) fn send(&self, datagram: &[u8]) {
        let to = self.gateway_socket.local_addr().expect("address");
        self.client_socket.send_to(datagram, to).expect("sending");
    }

    /// Empties the client's socket.
    pub(crate) fn drain(&self) {
        let mut buffer = [0; 2_048];
        while self.client_socket.recv(&mut buffer).is_ok() {}
    }
}

fn settings() -> Settings {
    Settings {
        workers: 1,
        tunnel_v4: (Ipv4Addr::new(10, 66, 0, 0), 16),
        tunnel_v6: ([0xfd66, 0x7ac1, 7, 0, 0, 0, 0, 0].into(), 64),
        mtu: MTU,
        uso: true,
        allow_device_to_device: false,
        allow_gateway: false,
        allow_private: Vec::new(),
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("binding");
    socket.set_nonblocking(true).expect("non-blocking");
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("buffer");
    socket
}

fn client() -> Tunn {
    let gateway = PublicKey::from(&StaticSecret::from(GATEWAY_KEY));
    Tunn::new(StaticSecret::from(CLIENT_KEY), gateway, Some(PRESHARED_KEY), None, 7, None)
}

/// A UDP packet of `len` bytes from the device to the target.
pub(crate) fn udp_packet(len: usize) -> Vec<u8> {
    Datagram {
        from: (IpAddr::from([10, 66, 0, SLOT as u8]), 40_000).into(),
        to: (IpAddr::from(TARGET), 9).into(),
        payload: vec![0x5a; len - 28],
    }
    .packet()
}

/// A TCP super-packet from the target to the device, and what the kernel says about it: `segments` full packets.
pub(crate) fn tcp_super_packet(segments: usize) -> (VnetHeader, Vec<u8>) {
    let payload_len = usize::from(MTU) - 40;
    let len = 40 + segments * payload_len;
    let mut packet = vec![0x5a; len];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 2, 10, 66, 0, 2,
    ]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    // Ports, sequence and acknowledgement numbers, 20 bytes of header, ACK, window.
    packet[20..40]
        .copy_from_slice(&[0, 80, 156, 64, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 4, 0, 0, 0, 0, 0]);
    let vnet = VnetHeader {
        needs_csum: true,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: payload_len as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (vnet, packet)
}

/// A UDP super-packet from the target to the device: `segments` packets of `payload_len` bytes and headers.
pub(crate) fn udp_super_packet(segments: usize, payload_len: usize) -> (VnetHeader, Vec<u8>) {
    let packet = Datagram {
        from: (IpAddr::from(TARGET), 9).into(),
        to: (IpAddr::from([10, 66, 0, SLOT as u8]), 40_000).into(),
        payload: vec![0x5a; segments * payload_len],
    };
    let vnet = VnetHeader {
        needs_csum: true,
        gso_type: GSO_UDP_L4,
        hdr_len: 28,
        gso_size: payload_len as u16,
        csum_start: 20,
        csum_offset: 6,
    };
    (vnet, packet.packet())
}
