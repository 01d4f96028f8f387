//! Cutting super-packets into packets.

use divan::{Bencher, black_box, counter::ItemsCount};
use tacit_forwarder::{segment::Segments, tun::VnetHeader};

use crate::world::{tcp_super_packet, udp_super_packet};

const SEGMENTS: usize = 45;

/// A TCP super-packet into 45 packets.
#[divan::bench]
fn tcp_1420(bencher: Bencher<'_, '_>) {
    segment(bencher, tcp_super_packet(SEGMENTS));
}

/// A UDP super-packet into 45 packets.
#[divan::bench(args = [64, 1_392])]
fn udp(bencher: Bencher<'_, '_>, len: usize) {
    segment(bencher, udp_super_packet(SEGMENTS, len - 28));
}

fn segment(bencher: Bencher<'_, '_>, (vnet, packet): (VnetHeader, Vec<u8>)) {
    bencher.counter(ItemsCount::new(SEGMENTS)).with_inputs(|| packet.clone()).bench_local_refs(
        |packet| {
            let mut segments = Segments::new(vnet, packet).expect("a super-packet");
            while let Some(range) = segments.next(packet) {
                black_box(range);
            }
        },
    );
}
