//! What the coalescer merges, the segmenter cuts into the same packets again, in order within each flow.

use std::os::{fd::AsFd, unix::net::UnixDatagram};

use proptest::prelude::*;
use tacit_forwarder::{
    coalesce::Coalescer,
    packet,
    segment::Segments,
    tun::{VNET_HEADER_LEN, VnetHeader},
};

/// A packet before it has headers.
#[derive(Clone, Debug)]
struct Plan {
    v6: bool,
    tcp: bool,
    port: u16,
    payload_len: usize,
    flags: u8,
    tos: u8,
    skip: u32,
    bad_checksum: bool,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let payload_len = prop_oneof![8 => Just(1_000usize), 1 => Just(0), 2 => 0usize..1_400];
    let flags = prop_oneof![8 => Just(0x10u8), 2 => Just(0x18), 1 => any::<u8>()];
    let tos = prop_oneof![8 => Just(0u8), 1 => any::<u8>()];
    let skip = prop_oneof![8 => Just(0u32), 1 => any::<u32>()];
    let bad = proptest::bool::weighted(0.03);
    (any::<bool>(), any::<bool>(), 0u16..3, payload_len, flags, tos, skip, bad).prop_map(
        |(v6, tcp, port, payload_len, flags, tos, skip, bad_checksum)| Plan {
            v6,
            tcp,
            port,
            payload_len,
            flags,
            tos,
            skip,
            bad_checksum,
        },
    )
}

/// Counts what a sender counts: sequence numbers and IPv4 identifiers per flow.
#[derive(Default)]
struct Sender {
    flows: std::collections::HashMap<(bool, bool, u16), (u32, u16)>,
}

impl Sender {
    fn packet(&mut self, plan: &Plan, n: usize) -> Vec<u8> {
        let (sequence, id) = self.flows.entry((plan.v6, plan.tcp, plan.port)).or_insert((7, 100));
        let ip_len = if plan.v6 { 40 } else { 20 };
        let transport_len = if plan.tcp { 20 } else { 8 };
        let len = ip_len + transport_len + plan.payload_len;
        let mut packet = vec![0; len];
        let protocol = if plan.tcp { packet::TCP } else { packet::UDP };
        if plan.v6 {
            packet[0] = 0x60;
            packet[1] = plan.tos << 4;
            packet::set_u16(&mut packet, 4, (len - 40) as u16);
            packet[6] = protocol;
            packet[7] = 64;
            packet[8..40].fill(0x11);
        } else {
            packet[0] = 0x45;
            packet[1] = plan.tos;
            packet::set_u16(&mut packet, 2, len as u16);
            packet::set_u16(&mut packet, 4, *id);
            packet[6] = 0x40;
            packet[8] = 64;
            packet[9] = protocol;
            packet[12..20].fill(0x22);
            packet::write_ipv4_checksum(&mut packet);
        }
        let transport = &mut packet[ip_len..];
        packet::set_u16(transport, 0, plan.port);
        packet::set_u16(transport, 2, 443);
        for (i, byte) in transport[transport_len..].iter_mut().enumerate() {
            *byte = (i * 7 + n) as u8;
        }
        let checksum_at = if plan.tcp {
            *sequence = sequence.wrapping_add(plan.skip);
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            transport[12] = 5 << 4;
            transport[13] = plan.flags;
            ip_len + 16
        } else {
            packet::set_u16(transport, 4, (len - ip_len) as u16);
            ip_len + 6
        };
        *sequence = sequence.wrapping_add(plan.payload_len as u32);
        *id = id.wrapping_add(1);
        let pseudo = packet::pseudo_header_sum(&packet, protocol, len - ip_len);
        packet::set_u16(&mut packet, checksum_at, pseudo);
        packet::complete_checksum(&mut packet, ip_len, checksum_at);
        if plan.bad_checksum {
            packet[len - 1] ^= 0x55;
        }
        packet
    }
}

fn through_the_coalescer(packets: &[Vec<u8>], uso: bool) -> Vec<Vec<u8>> {
    let (tun, kernel) = UnixDatagram::pair().expect("socket pair");
    kernel.set_nonblocking(true).expect("non-blocking");
    let mut coalescer = Coalescer::new(uso);
    let mut read = Vec::new();
    for batch in packets.chunks(100) {
        for packet in batch {
            coalescer.room()[..packet.len()].copy_from_slice(packet);
            coalescer.push(packet.len());
        }
        // The pair queues only a few datagrams, so a thread reads along.
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut writes = Vec::new();
                let mut buffer = vec![0; 70_000];
                kernel.set_nonblocking(false).expect("blocking");
                loop {
                    let len = kernel.recv(&mut buffer).expect("read");
                    if len == 1 {
                        return writes;
                    }
                    writes.push(buffer[..len].to_vec());
                }
            });
            let flushed = coalescer.flush(tun.as_fd());
            assert_eq!(flushed.packets, batch.len() as u64);
            assert_eq!(flushed.bytes, batch.iter().map(|packet| packet.len() as u64).sum::<u64>());
            assert_eq!(flushed.refused, 0);
            tun.send(&[0]).expect("end mark");
            read.extend(reader.join().expect("reader"));
        });
    }
    read
}

fn cut(write: &[u8]) -> Vec<Vec<u8>> {
    let vnet = VnetHeader::from_bytes(write.first_chunk().expect("offload header"));
    let mut packet = write[VNET_HEADER_LEN..].to_vec();
    let mut segments = Segments::new(vnet, &mut packet).expect("a packet that can be cut");
    let mut packets = Vec::new();
    while let Some(range) = segments.next(&mut packet) {
        packets.push(packet[range].to_vec());
    }
    packets
}

fn flow_of(packet: &[u8]) -> (u8, u8, u16) {
    let v6 = packet[0] >> 4 == 6;
    let (protocol, ports) = if v6 { (packet[6], 40) } else { (packet[9], 20) };
    (packet[0] >> 4, protocol, packet::u16_at(packet, ports))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_survives_in_order_within_its_flow(
        plans in proptest::collection::vec(any_plan(), 1..150),
        uso in any::<bool>(),
    ) {
        let packets = packets(&plans);
        let came: Vec<_> = through_the_coalescer(&packets, uso).iter().flat_map(|write| cut(write)).collect();
        prop_assert_eq!(came.len(), packets.len());
        for flow in packets.iter().map(|packet| flow_of(packet)) {
            let sent: Vec<_> = packets.iter().filter(|packet| flow_of(packet) == flow).collect();
            let got: Vec<_> = came.iter().filter(|packet| flow_of(packet) == flow).collect();
            prop_assert_eq!(sent, got);
        }
    }
}

fn plain(tcp: bool) -> Plan {
    Plan {
        v6: false,
        tcp,
        port: 1,
        payload_len: 1_000,
        flags: 0x10,
        tos: 0,
        skip: 0,
        bad_checksum: false,
    }
}

fn packets(plans: &[Plan]) -> Vec<Vec<u8>> {
    let mut sender = Sender::default();
    plans.iter().enumerate().map(|(n, plan)| sender.packet(plan, n)).collect()
}

fn writes_of(plans: &[Plan]) -> usize {
    through_the_coalescer(&packets(plans), true).len()
}

/// What each write carries behind an IP header without options and a UDP header, in bytes.
fn payload_lens_of_writes(packets: &[Vec<u8>]) -> Vec<usize> {
    let headers_len = |write: &[u8]| if write[VNET_HEADER_LEN] >> 4 == 4 { 28 } else { 48 };
    let writes = through_the_coalescer(packets, true);
    writes.iter().map(|write| write.len() - VNET_HEADER_LEN - headers_len(write)).collect()
}

#[test]
fn a_run_of_tcp_becomes_one_write() {
    assert_eq!(writes_of(&vec![plain(true); 40]), 1);
}

#[test]
fn a_run_of_udp_becomes_one_write() {
    assert_eq!(writes_of(&vec![plain(false); 40]), 1);
}

#[test]
fn a_wrong_checksum_is_not_repaired() {
    let mut plans = vec![plain(true); 10];
    plans[4].bad_checksum = true;
    assert_eq!(writes_of(&plans), 3);
}

#[test]
fn push_ends_a_super_packet() {
    let mut plans = vec![plain(true); 10];
    plans[4].flags = 0x18;
    assert_eq!(writes_of(&plans), 2);
}

#[test]
fn other_flags_stay_alone() {
    let mut plans = vec![plain(true); 10];
    plans[9].flags = 0x11;
    assert_eq!(writes_of(&plans), 2);
}

#[test]
fn an_empty_datagram_keeps_its_place() {
    let mut plans = vec![plain(false); 3];
    plans[1].payload_len = 0;
    assert_eq!(payload_lens_of_writes(&packets(&plans)), [1_000, 0, 1_000]);
}

#[test]
fn a_packet_that_hides_its_flow_keeps_its_place() {
    let mut datagrams = packets(&vec![plain(false); 3]);
    // The first fragment of a datagram.
    datagrams[1][6] |= 0x20;
    packet::write_ipv4_checksum(&mut datagrams[1]);
    assert_eq!(payload_lens_of_writes(&datagrams).len(), 3);

    let mut datagrams = packets(&vec![Plan { v6: true, ..plain(false) }; 3]);
    // Destination options before the UDP header.
    datagrams[1].splice(40..40, [packet::UDP, 0, 1, 4, 0, 0, 0, 0]);
    datagrams[1][6] = 60;
    packet::set_u16(&mut datagrams[1], 4, 1_016);
    assert_eq!(payload_lens_of_writes(&datagrams), [1_000, 1_008, 1_000]);
}

proptest! {
    #[test]
    fn whatever_the_kernel_says_cutting_stays_within_the_packet(
        header in any::<[u8; VNET_HEADER_LEN]>(),
        mut packet in proptest::collection::vec(any::<u8>(), 1..3_000),
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
    ) {
        packet[0] = version;
        let mut vnet = VnetHeader::from_bytes(&header);
        vnet.gso_type &= 5;
        vnet.gso_size %= 600;
        vnet.csum_start %= 100;
        if packet::ip_len(&packet).is_some()
            && let Some(mut segments) = Segments::new(vnet, &mut packet)
        {
            while let Some(range) = segments.next(&mut packet) {
                prop_assert!(range.end <= packet.len());
            }
        }
    }
}
