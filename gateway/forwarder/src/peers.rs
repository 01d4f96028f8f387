//! Live devices by slot: the host number of their tunnel addresses is their place in the table.

use std::sync::OnceLock;

use parking_lot::{Mutex, MutexGuard};

use crate::peer::Peer;

/// Host number within the tunnel networks.
pub type Slot = u32;

const CHUNK: usize = 256;

/// One peer and its lock, on a cache line of its own so that workers do not disturb each other.
#[repr(align(64))]
#[derive(Default)]
pub struct PeerSlot(Mutex<Option<Box<Peer>>>);

impl PeerSlot {
    /// Locks the slot. Never hold two: peers are locked one at a time.
    pub fn lock(&self) -> MutexGuard<'_, Option<Box<Peer>>> {
        self.0.lock()
    }
}

/// The table. Chunks are made when the first device in them goes live.
pub struct Peers {
    chunks: Box<[OnceLock<Box<[PeerSlot]>>]>,
}

impl Peers {
    /// Makes an empty table for slots below `capacity`.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        let chunks = (capacity as usize).div_ceil(CHUNK);
        Self { chunks: (0..chunks).map(|_| OnceLock::new()).collect() }
    }

    /// The slot, if a device near it was ever live.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> Option<&PeerSlot> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get().map(|chunk| &chunk[slot % CHUNK])
    }

    /// Puts `peer` in its slot; whoever was there goes.
    pub fn insert(&self, slot: Slot, peer: Box<Peer>) {
        let slot = slot as usize;
        let Some(chunk) = self.chunks.get(slot / CHUNK) else { return };
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| PeerSlot::default()).collect());
        *chunk[slot % CHUNK].lock() = Some(peer);
    }
}
