use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nlink::netlink::netfilter::ConntrackEntry;
use nlink::netlink::{Connection, Netfilter};
use rustix::io::{read, write};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::namespace::*;
use crate::host::{HostSettings, Network, Protocol, ServedPort, TunnelIo, conntrack};

const DEVICE_V4: &str = "10.66.0.2";
const DEVICE_V6: &str = "fd66:7ac1:7::2";
const GATEWAY_V4: &str = "10.66.0.1";
const UPLINK_V4: &str = "198.51.100.1";
const UPLINK_V6: &str = "2001:db8::1";
const WEB_V4: &str = "203.0.113.80";
const WEB_V6: &str = "2001:db8:80::80";
const CLIENT_V4: &str = "203.0.113.7";
const CLIENT_V6: &str = "2001:db8:70::7";
const PORT: u16 = 51820;

/// `struct virtio_net_hdr` of a packet without offloads.
const VNET_HEADER: [u8; 10] = [0; 10];

/// A gateway whose only way out is a device that the test reads.
struct Lab {
    network: Network,
    tunnel: TunnelIo,
    uplink: SyncDevice,
}

impl Lab {
    async fn open(directory: &Path, change: impl FnOnce(&mut HostSettings)) -> Self {
        let uplink =
            DeviceBuilder::new().name("uplink0").inherit_enable_state().build_sync().unwrap();
        uplink.set_nonblocking(true).unwrap();
        set_sysctl("ipv6/conf/uplink0/addr_gen_mode", "1");
        run("ip", "link set uplink0 up");
        run("ip", &format!("address add {UPLINK_V4}/24 dev uplink0"));
        run("ip", &format!("address add {UPLINK_V6}/64 dev uplink0 nodad"));
        run("ip", "route add default dev uplink0");
        run("ip", "-6 route add default dev uplink0");
        let mut settings = HostSettings { workers: 1, ..settings(directory, "data") };
        change(&mut settings);
        let network = Network::raise(&settings).await.unwrap();
        let tunnel = network.open_tunnel(crate::host::blank_tun_devices(1).unwrap()).await.unwrap();
        Self { network, tunnel, uplink }
    }

    /// A device's packet comes out of the tunnel.
    fn device_sends(&self, packet: &[u8]) {
        write(&self.tunnel.tun[0], &[&VNET_HEADER, packet].concat()).unwrap();
    }

    fn internet_sends(&self, packet: &[u8]) {
        self.uplink.send(packet).unwrap();
    }

    /// The next packet that left by the uplink.
    async fn at_internet(&self) -> Option<Packet> {
        next(0, |buffer| self.uplink.recv(buffer).ok()).await
    }

    /// The next packet for a device.
    async fn at_device(&self) -> Option<Packet> {
        let queue = &self.tunnel.tun[0];
        next(VNET_HEADER.len(), |buffer| read(queue, buffer).ok()).await
    }

    async fn close(self) {
        drop(self.tunnel);
        self.network.lower().await;
    }
}

async fn next(
    header_len: usize,
    mut receive: impl FnMut(&mut [u8]) -> Option<usize>,
) -> Option<Packet> {
    let mut buffer = vec![0; 65_600];
    for _ in 0..25 {
        while let Some(len) = receive(&mut buffer) {
            let packet = &buffer[header_len..len];
            // The kernel says on its own what multicast groups it listens to.
            let is_group_report = packet[0] >> 4 == 6 && packet[24] == 0xff;
            if !is_group_report {
                return Some(Packet(packet.to_vec()));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

/// An IP packet with a TCP or UDP header.
#[derive(Debug)]
struct Packet(Vec<u8>);

impl Packet {
    fn transport(&self) -> &[u8] {
        if self.0[0] >> 4 == 4 { &self.0[20..] } else { &self.0[40..] }
    }

    fn addresses(&self) -> [IpAddr; 2] {
        if self.0[0] >> 4 == 4 {
            return [12, 16].map(|at| Ipv4Addr::from(*self.0[at..].first_chunk().unwrap()).into());
        }
        [8, 24].map(|at| Ipv6Addr::from(*self.0[at..].first_chunk().unwrap()).into())
    }

    fn source(&self) -> String {
        self.addresses()[0].to_string()
    }

    fn destination(&self) -> String {
        self.addresses()[1].to_string()
    }

    fn source_port(&self) -> u16 {
        u16::from_be_bytes(*self.transport().first_chunk().unwrap())
    }

    fn destination_port(&self) -> u16 {
        u16::from_be_bytes(*self.transport()[2..].first_chunk().unwrap())
    }

    fn mss(&self) -> u16 {
        u16::from_be_bytes(*self.transport()[22..].first_chunk().unwrap())
    }
}

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;

fn udp(source: &str, source_port: u16, destination: &str, port: u16) -> Vec<u8> {
    let ports = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
    ip(source, destination, 17, &[ports, vec![0, 12, 0, 0], b"data".to_vec()].concat())
}

/// A segment that opens a connection and takes segments of `mss` bytes.
fn tcp(source: (&str, u16), destination: (&str, u16), flags: u8, mss: u16) -> Vec<u8> {
    let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
    let acknowledged = if flags == SYN_ACK { 1 } else { 0 };
    let numbers = [[0; 4], [0, 0, 0, acknowledged]].concat();
    let rest = vec![0x60, flags, 0xff, 0xff, 0, 0, 0, 0, 2, 4];
    let segment = [ports, numbers, rest, mss.to_be_bytes().to_vec()].concat();
    ip(source.0, destination.0, 6, &segment)
}

fn ip(source: &str, destination: &str, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let len = u16::try_from(transport.len()).unwrap();
    let (header, ends) = match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            let mut header = vec![0x45, 0];
            header.extend((len + 20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(&ends);
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            (header, ends)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(len.to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(&ends);
            (header, ends)
        }
        _ => panic!("addresses of two families"),
    };
    let pseudo = [ends, vec![0, protocol], len.to_be_bytes().to_vec()].concat();
    let mut transport = transport.to_vec();
    let sum = checksum(&[pseudo, transport.clone()].concat()).to_be_bytes();
    let at = if protocol == 17 { 6 } else { 16 };
    transport[at..at + 2].copy_from_slice(&sum);
    [header, transport].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[test]
fn devices_reach_the_internet_under_the_gateways_address_and_get_answers() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;
        for (device, web, uplink) in
            [(DEVICE_V4, WEB_V4, UPLINK_V4), (DEVICE_V6, WEB_V6, UPLINK_V6)]
        {
            lab.device_sends(&udp(device, 4000, web, 443));
            let request = lab.at_internet().await.unwrap();
            assert_eq!([request.source(), request.destination()], [uplink, web]);

            lab.internet_sends(&udp(web, 443, uplink, request.source_port()));
            let answer = lab.at_device().await.unwrap();
            assert_eq!([answer.source(), answer.destination()], [web, device]);
        }
        lab.close().await;
    });
}

#[test]
fn devices_reach_no_private_network_each_other_or_the_gateway() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;
        let forbidden = [
            (DEVICE_V4, "192.168.7.7"),
            (DEVICE_V4, "10.1.2.3"),
            (DEVICE_V4, "172.16.0.1"),
            (DEVICE_V4, "169.254.169.254"),
            (DEVICE_V4, "100.64.0.1"),
            (DEVICE_V4, "224.0.0.251"),
            (DEVICE_V4, "10.66.0.3"),
            (DEVICE_V6, "fd66:7ac1:7::3"),
            (DEVICE_V6, "fd00:ec2::254"),
            (DEVICE_V6, "64:ff9b::a00:1"),
        ];
        for (device, destination) in forbidden {
            lab.device_sends(&udp(device, 4000, destination, 53));
        }
        // Served to nobody, and where the gateway itself would answer "unreachable".
        lab.device_sends(&udp(DEVICE_V4, 4000, GATEWAY_V4, 53));
        lab.device_sends(&udp(DEVICE_V4, 4000, UPLINK_V4, 53));
        lab.device_sends(&udp(DEVICE_V6, 4000, UPLINK_V6, 53));

        let left = lab.at_internet().await;
        assert!(left.is_none(), "{left:?}");
        let returned = lab.at_device().await;
        assert!(returned.is_none(), "{returned:?}");
        lab.close().await;
    });
}

#[test]
fn what_the_operator_allows_is_reachable() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |settings| {
            settings.allow_device_to_device = true;
            settings.allow_private = vec!["192.168.7.0/24".parse().unwrap()];
            settings.served_ports = vec![ServedPort { protocol: Protocol::Udp, port: 53 }];
        })
        .await;
        let server = std::net::UdpSocket::bind((GATEWAY_V4, 53)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();

        lab.device_sends(&udp(DEVICE_V4, 4000, "192.168.7.7", 53));
        assert_eq!(lab.at_internet().await.unwrap().destination(), "192.168.7.7");
        lab.device_sends(&udp(DEVICE_V4, 4000, "10.66.0.3", 53));
        assert_eq!(lab.at_device().await.unwrap().destination(), "10.66.0.3");
        lab.device_sends(&udp(DEVICE_V4, 4000, GATEWAY_V4, 53));
        let (_, client) = server.recv_from(&mut [0; 100]).unwrap();
        server.send_to(b"answer", client).unwrap();
        assert_eq!(lab.at_device().await.unwrap().source(), GATEWAY_V4);
        lab.close().await;
    });
}

#[test]
fn forged_sources_go_nowhere() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;

        lab.device_sends(&udp("192.0.2.1", 4000, WEB_V4, 53));
        lab.device_sends(&udp("2001:db8:bad::1", 4000, WEB_V6, 53));
        lab.internet_sends(&udp(DEVICE_V4, 4000, UPLINK_V4, 51820));
        lab.internet_sends(&udp(DEVICE_V6, 4000, UPLINK_V6, 51820));

        let left = lab.at_internet().await;
        assert!(left.is_none(), "{left:?}");
        let returned = lab.at_device().await;
        assert!(returned.is_none(), "{returned:?}");
        lab.close().await;
    });
}

#[test]
fn nobody_outside_reaches_devices_or_the_gateways_tunnel_address() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;

        lab.internet_sends(&udp(WEB_V4, 443, DEVICE_V4, 4000));
        lab.internet_sends(&udp(WEB_V6, 443, DEVICE_V6, 4000));
        lab.internet_sends(&udp(WEB_V4, 443, GATEWAY_V4, 53));

        let arrived = lab.at_device().await;
        assert!(arrived.is_none(), "{arrived:?}");
        let refused = lab.at_internet().await;
        assert!(refused.is_none(), "{refused:?}");
        lab.close().await;
    });
}

#[test]
fn segment_sizes_are_lowered_both_ways_and_never_raised() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;
        let families = [(DEVICE_V4, WEB_V4, UPLINK_V4, 1380), (DEVICE_V6, WEB_V6, UPLINK_V6, 1360)];
        for (device, web, uplink, largest) in families {
            for (port, offered, passed) in [(4001, 8960, largest), (4002, 500, 500)] {
                lab.device_sends(&tcp((device, port), (web, 443), SYN, offered));
                let syn = lab.at_internet().await.unwrap();
                assert_eq!(syn.mss(), passed);

                let gateway = (uplink, syn.source_port());
                lab.internet_sends(&tcp((web, 443), gateway, SYN_ACK, offered));
                assert_eq!(lab.at_device().await.unwrap().mss(), passed);
            }
        }
        lab.close().await;
    });
}

#[test]
fn connection_tracking_forgets_a_device_and_later_all_of_them() {
    in_namespace(async |directory| {
        let sources = async || {
            let entries = tracked().await;
            let sources = entries.iter().filter_map(|entry| entry.orig.src_ip);
            let mut sources: Vec<_> = sources.map(|source| source.to_string()).collect();
            sources.sort();
            sources
        };
        let lab = Lab::open(directory, |_| ()).await;
        lab.device_sends(&udp(DEVICE_V4, 4000, WEB_V4, 443));
        lab.device_sends(&udp("10.66.0.9", 4000, WEB_V4, 443));
        lab.device_sends(&udp(DEVICE_V6, 4000, WEB_V6, 443));
        lab.at_internet().await.unwrap();
        assert_eq!(sources().await, ["10.66.0.2", "10.66.0.9", "fd66:7ac1:7::2"]);

        conntrack::forget(vec![(DEVICE_V4.parse().unwrap(), DEVICE_V6.parse().unwrap())])
            .await
            .unwrap();
        assert_eq!(sources().await, ["10.66.0.9"]);

        lab.close().await;
        assert!(sources().await.is_empty());
    });
}

async fn tracked() -> Vec<ConntrackEntry> {
    let netfilter = Connection::<Netfilter>::new().unwrap();
    let mut entries = netfilter.get_conntrack().await.unwrap();
    entries.extend(netfilter.get_conntrack_v6().await.unwrap());
    entries
}

/// Answers the next datagram that a client sent to the gateway.
fn answer_client(socket: &OwnedFd) {
    let socket = UdpSocket::from(socket.try_clone().unwrap());
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (_, client) = socket.recv_from(&mut [0; 100]).unwrap();
    socket.send_to(b"answer", client).unwrap();
}

/// Exchanges datagrams with clients of both families, and checks that only what devices send is tracked.
async fn check_that_clients_are_not_tracked(lab: &Lab) {
    let families = [
        (&lab.tunnel.udp_v4[0], CLIENT_V4, UPLINK_V4, DEVICE_V4, WEB_V4),
        (&lab.tunnel.udp_v6[0], CLIENT_V6, UPLINK_V6, DEVICE_V6, WEB_V6),
    ];
    for (socket, client, uplink, device, web) in families {
        lab.internet_sends(&udp(client, 40_000, uplink, PORT));
        answer_client(socket);
        let answer = lab.at_internet().await.unwrap();
        assert_eq!([answer.source(), answer.destination()], [uplink, client]);
        lab.device_sends(&udp(device, 4000, web, 443));
        lab.at_internet().await.unwrap();
    }
    let entries = tracked().await;
    let mut sources: Vec<_> = entries.iter().map(|entry| entry.orig.src_ip.unwrap()).collect();
    sources.sort();
    assert_eq!(sources, [DEVICE_V4, DEVICE_V6].map(|device| device.parse::<IpAddr>().unwrap()));
}

#[test]
fn clients_of_the_gateway_stand_in_no_connection_tracking() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;
        check_that_clients_are_not_tracked(&lab).await;
        lab.close().await;
    });
}

#[test]
fn clients_of_one_address_of_the_gateway_stand_in_no_connection_tracking() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |settings| {
            settings.listen = vec![
                address(&format!("{UPLINK_V4}:{PORT}")),
                address(&format!("[{UPLINK_V6}]:{PORT}")),
            ];
        })
        .await;
        check_that_clients_are_not_tracked(&lab).await;
        lab.close().await;
    });
}

#[test]
fn datagrams_to_somebody_elses_wireguard_are_tracked() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;

        lab.internet_sends(&udp("198.51.100.7", 4000, WEB_V4, PORT));
        lab.internet_sends(&udp("2001:db8::7", 4000, WEB_V6, PORT));
        lab.at_internet().await.unwrap();

        let destinations: Vec<_> =
            tracked().await.iter().map(|entry| entry.orig.dst_ip.unwrap().to_string()).collect();
        for web in [WEB_V4, WEB_V6] {
            assert!(destinations.iter().any(|destination| destination == web), "{destinations:?}");
        }
        lab.close().await;
    });
}

#[test]
fn devices_with_a_wireguard_of_their_own_are_answered() {
    in_namespace(async |directory| {
        let lab = Lab::open(directory, |_| ()).await;
        for (device, web, uplink) in
            [(DEVICE_V4, WEB_V4, UPLINK_V4), (DEVICE_V6, WEB_V6, UPLINK_V6)]
        {
            for (source_port, port) in [(PORT, 443), (PORT, PORT), (4000, PORT)] {
                lab.device_sends(&udp(device, source_port, web, port));
                let request = lab.at_internet().await.unwrap();
                assert_ne!(request.source_port(), PORT);

                lab.internet_sends(&udp(web, port, uplink, request.source_port()));
                let answer = lab.at_device().await.unwrap();
                assert_eq!([answer.source(), answer.destination()], [web, device]);
                assert_eq!(answer.destination_port(), source_port);
            }
        }
        lab.close().await;
    });
}
