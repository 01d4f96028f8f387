//! From the TUN device to the UDP socket.

use std::cell::RefCell;

use boringtun::noise::TunnResult;
use divan::{Bencher, black_box, counter::ItemsCount};
use tacit_forwarder::{
    outbound::Outbound,
    tun::VnetHeader,
    wireguard::{PADDING, padded_len},
};
use tacit_messages::clock::Instant;

use crate::world::{MTU, SLOT, World, tcp_super_packet, udp_super_packet};

/// Packets that a socket pair holds.
const READS: usize = 8;
const SEGMENTS: usize = 46;

/// A turn with 8 single packets: read, find the peer, pad, encrypt, send as one train.
#[divan::bench(args = [64, 1_392], sample_size = 1, sample_count = 2_000)]
fn turn_with_io(bencher: Bencher<'_, '_>, len: usize) {
    let (_, packet) = udp_super_packet(1, len - 28);
    turns(bencher, VnetHeader::default(), &packet, READS, READS);
}

/// A turn with one TCP super-packet of 46 segments: read, cut, encrypt, send as trains.
#[divan::bench(sample_size = 1, sample_count = 1_000)]
fn super_packet_with_io(bencher: Bencher<'_, '_>) {
    let (vnet, packet) = tcp_super_packet(SEGMENTS);
    turns(bencher, vnet, &packet, 1, SEGMENTS);
}

fn turns(bencher: Bencher<'_, '_>, vnet: VnetHeader, packet: &[u8], reads: usize, packets: usize) {
    let world = World::new();
    let mut outbound = Outbound::default();
    let read = [&vnet.to_bytes(), packet].concat();
    bencher
        .counter(ItemsCount::new(packets))
        .with_inputs(|| {
            world.drain();
            for _ in 0..reads {
                world.kernel.send(&read).expect("room in the socket pair");
            }
        })
        .bench_local_values(|()| {
            let counters = &world.state.counters[0];
            outbound.turn(world.outbound_io(), &world.state, counters, Instant::now())
        });
}

/// A packet from the TUN device's buffer to the train: find the peer, lock, pad, encrypt.
#[divan::bench(args = [64, 1_392])]
fn packet_without_io(bencher: Bencher<'_, '_>, len: usize) {
    let world = World::new();
    let (_, packet) = udp_super_packet(1, len - 28);
    let buffer = RefCell::new([packet, vec![0; PADDING]].concat());
    let mut sealed = vec![0; 2_048];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let buffer = buffer.borrow();
        let packet: &[u8] = black_box(&buffer);
        let destination = packet[16..].first_chunk::<4>().expect("an address");
        let slot = world.state.pool.slot_v4((*destination).into()).expect("a slot");
        let mut held = world.state.peers.slot(slot).expect("a slot").lock();
        let peer = held.as_deref_mut().expect("a peer");
        let padded = &packet[..padded_len(len, MTU.into())];
        let message = peer.tunnel.tunn.encapsulate(padded, &mut sealed);
        assert!(matches!(black_box(message), TunnResult::WriteToNetwork(_)));
    });
    assert!(world.state.peers.slot(SLOT).is_some());
}
