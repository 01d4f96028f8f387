//! From the UDP socket to the TUN device.

use std::{cell::RefCell, os::fd::AsFd};

use boringtun::noise::TunnResult;
use divan::{Bencher, black_box, counter::ItemsCount};
use tacit_forwarder::{
    coalesce::Coalescer,
    ecn::{self, Ecn},
    inbound::{Inbound, Io},
    packet, wireguard,
};
use tacit_messages::clock::Instant;

use crate::world::{SLOT, World, udp_packet};

const BATCH: usize = 16;

/// A turn with 16 datagrams: receive, decrypt, check, coalesce, write to /dev/null.
#[divan::bench(args = [64, 1_392], sample_size = 1, sample_count = 2_000)]
fn turn_with_io(bencher: Bencher<'_, '_>, len: usize) {
    let world = RefCell::new(World::new());
    let mut inbound = Inbound::new(true);
    let packet = udp_packet(len);
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let mut world = world.borrow_mut();
            for _ in 0..BATCH {
                let sealed = world.seal(&packet);
                world.send(&sealed);
            }
        })
        .bench_local_values(|()| {
            let world = world.borrow();
            let io = Io { udp: world.gateway_socket.as_fd(), tun: world.null.as_fd() };
            inbound.turn(io, &world.state, &world.state.counters[0], Instant::now())
        });
}

/// A packet from its datagram to the coalescer: find the peer, lock, decrypt, check, coalesce.
#[divan::bench(args = [64, 1_392], sample_size = 64)]
fn packet_without_io(bencher: Bencher<'_, '_>, len: usize) {
    let world = RefCell::new(World::new());
    let coalescer = RefCell::new(Coalescer::new(true));
    let packet = udp_packet(len);
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| {
            if !coalescer.borrow().has_room() {
                coalescer.borrow_mut().flush(world.borrow().null.as_fd());
            }
            world.borrow_mut().seal(&packet)
        })
        .bench_local_values(|mut datagram| {
            carry(&world.borrow(), &mut coalescer.borrow_mut(), &mut datagram);
            datagram
        });
}

fn carry(world: &World, coalescer: &mut Coalescer, datagram: &mut [u8]) {
    if !coalescer.has_room() {
        coalescer.flush(world.null.as_fd());
    }
    let owner = world.state.indices.owner(wireguard::receiver_index(datagram)).expect("an owner");
    let mut held = world.state.peers.slot(owner.slot).expect("a slot").lock();
    let peer = held.as_deref_mut().expect("a peer");
    wireguard::set_receiver_index(datagram, peer.tunnel.local_index(owner.local));
    let len = match peer.tunnel.tunn.decapsulate(None, datagram, coalescer.room()) {
        TunnResult::WriteToTunnelV4(packet, _) => packet.len(),
        _ => panic!("no packet"),
    };
    let packet = &mut coalescer.room()[..len];
    assert_eq!(packet::ip_len(packet), Some(len));
    assert!(peer.owns_source(packet));
    assert!(world.state.destinations.check(packet).is_ok());
    assert!(ecn::decapsulate(Ecn::NotEct, packet));
    coalescer.push(len);
}

/// The cipher alone, as boringtun wraps it.
#[divan::bench(args = [64, 1_392], sample_size = 64)]
fn decapsulate(bencher: Bencher<'_, '_>, len: usize) {
    let world = RefCell::new(World::new());
    let packet = udp_packet(len);
    let mut buffer = vec![0; 2_048];
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| {
            let world = &mut *world.borrow_mut();
            let mut sealed = world.seal(&packet);
            let owner = world.state.indices.owner(wireguard::receiver_index(&sealed));
            let held = world.state.peers.slot(SLOT).expect("a slot").lock();
            let local =
                held.as_deref().expect("a peer").tunnel.local_index(owner.expect("an owner").local);
            wireguard::set_receiver_index(&mut sealed, local);
            sealed
        })
        .bench_local_refs(|datagram| {
            let world = world.borrow();
            let mut held = world.state.peers.slot(SLOT).expect("a slot").lock();
            let peer = held.as_deref_mut().expect("a peer");
            let opened = peer.tunnel.tunn.decapsulate(None, datagram, &mut buffer);
            assert!(matches!(black_box(opened), TunnResult::WriteToTunnelV4(..)));
        });
}
