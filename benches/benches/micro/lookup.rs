//! From a receiver index to its peer, locked.

use divan::{Bencher, black_box};
use tacit_forwarder::indices::Owner;

use crate::world::World;

/// Peers are looked up in an order that no cache foresees.
const STRIDE: usize = 7_919;

/// Index table, slot, lock, and one field of the peer.
#[divan::bench(args = [1, 100, 10_000], sample_size = 1_000)]
fn peer_by_index(bencher: Bencher<'_, '_>, live: u32) {
    let world = World::new();
    let indices: Vec<u32> = (2..2 + live)
        .map(|slot| {
            let mut private_key = [7; 32];
            private_key[..4].copy_from_slice(&slot.to_be_bytes());
            world.add_peer(slot, private_key);
            world.state.indices.draw(Owner { slot, local: 0 }).expect("a free index")
        })
        .collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + STRIDE) % indices.len();
        let owner = world.state.indices.owner(black_box(indices[next])).expect("an owner");
        let held = world.state.peers.slot(owner.slot).expect("a slot").lock();
        held.as_deref().expect("a peer").device()
    });
}
