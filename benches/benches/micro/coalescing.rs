//! Merging decrypted packets into super-packets.

use std::fs::File;
use std::os::fd::AsFd;

use divan::{Bencher, counter::ItemsCount};
use tacit_forwarder::{coalesce::Coalescer, segment::Segments, tun::VnetHeader};

use crate::world::{tcp_super_packet, udp_super_packet};

const SEGMENTS: usize = 45;

/// 45 TCP packets of one flow into one write.
#[divan::bench]
fn tcp_1420(bencher: Bencher<'_, '_>) {
    coalesce(bencher, &cut(tcp_super_packet(SEGMENTS)));
}

/// 45 UDP packets of one flow into one write.
#[divan::bench(args = [64, 1_392])]
fn udp(bencher: Bencher<'_, '_>, len: usize) {
    coalesce(bencher, &cut(udp_super_packet(SEGMENTS, len - 28)));
}

/// 45 packets of eight flows in turn into eight writes.
#[divan::bench]
fn tcp_1420_eight_flows(bencher: Bencher<'_, '_>) {
    let flows: Vec<Vec<Vec<u8>>> = (0..8u8)
        .map(|flow| {
            let (vnet, mut packet) = tcp_super_packet(SEGMENTS / 8 + 1);
            packet[21] = flow;
            cut((vnet, packet))
        })
        .collect();
    let packets: Vec<Vec<u8>> =
        (0..SEGMENTS).map(|n| flows[n % flows.len()][n / flows.len()].clone()).collect();
    coalesce(bencher, &packets);
}

fn coalesce(bencher: Bencher<'_, '_>, packets: &[Vec<u8>]) {
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    let mut coalescer = Coalescer::new(true);
    bencher.counter(ItemsCount::new(packets.len())).bench_local(|| {
        for packet in packets {
            coalescer.room()[..packet.len()].copy_from_slice(packet);
            coalescer.push(packet.len());
        }
        coalescer.flush(null.as_fd())
    });
}

/// The packets of a super-packet, with their checksums.
fn cut((vnet, mut packet): (VnetHeader, Vec<u8>)) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(vnet, &mut packet).expect("a super-packet");
    std::iter::from_fn(|| segments.next(&mut packet).map(|range| packet[range].to_vec())).collect()
}
