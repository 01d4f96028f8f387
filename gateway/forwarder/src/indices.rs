//! Random receiver indices, and whose they are.
//!
//! boringtun numbers a peer's sessions upwards from a constant, so an observer could link the sessions of a
//! roaming customer by the receiver index, which travels in the clear. On the wire each session has a random
//! 32-bit index of its own; this table leads from it to the peer and to boringtun's number.

use std::sync::atomic::{AtomicU64, Ordering};

use rand_core::{OsRng, RngCore};

use crate::peers::Slot;

/// Indices per slot that the table has room for: current, previous and next session, and as much again.
const ROOM_PER_SLOT: u32 = 4;
const MIN_BUCKETS: u32 = 1 << 12;
/// Draws before the table counts as full: with three of four buckets taken, all fail once in 10^8 times.
const MAX_DRAWS: u32 = 64;

/// Whose a receiver index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The peer's slot.
    pub slot: Slot,
    /// The low 8 bits of boringtun's own index.
    pub local: u8,
}

/// The table. A look-up is one load: indices are drawn until one falls into a free bucket.
pub struct Indices {
    /// Wire index in the upper half, slot and local number in the lower; zero is free.
    buckets: Box<[AtomicU64]>,
}

impl Indices {
    /// Makes an empty table for slots below `capacity`.
    #[must_use]
    #[expect(unsafe_code, reason = "nothing safe makes a table that takes no memory yet")]
    pub fn new(capacity: u32) -> Self {
        let buckets = capacity.saturating_mul(ROOM_PER_SLOT).max(MIN_BUCKETS).next_power_of_two();
        let buckets = Box::new_zeroed_slice(buckets as usize);
        // SAFETY: zero bytes are a number. Memory that comes as zeros takes none until it is written to.
        Self { buckets: unsafe { buckets.assume_init() } }
    }

    fn bucket(&self, wire: u32) -> &AtomicU64 {
        &self.buckets[wire as usize & (self.buckets.len() - 1)]
    }

    /// Draws a fresh random index for `owner`, or none if the table is full.
    pub fn draw(&self, owner: Owner) -> Option<u32> {
        (0..MAX_DRAWS).find_map(|_| {
            let wire = OsRng.next_u32();
            let entry = u64::from(wire) << 32 | u64::from(owner.slot << 8 | u32::from(owner.local));
            let free = wire != 0
                && self
                    .bucket(wire)
                    .compare_exchange(0, entry, Ordering::Release, Ordering::Relaxed)
                    .is_ok();
            free.then_some(wire)
        })
    }

    /// Whose `wire` is.
    #[must_use]
    pub fn owner(&self, wire: u32) -> Option<Owner> {
        let entry = self.bucket(wire).load(Ordering::Acquire);
        let found = wire != 0 && (entry >> 32) as u32 == wire;
        found.then_some(Owner { slot: (entry as u32) >> 8, local: entry as u8 })
    }

    /// Frees `wire`.
    pub fn release(&self, wire: u32) {
        if self.owner(wire).is_some() {
            self.bucket(wire).store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn drawn_indices_lead_to_their_owner_until_released() {
        let indices = Indices::new(256);
        let drawn: Vec<_> = (0..500u32)
            .map(|n| {
                let owner = Owner { slot: n % 256, local: n as u8 };
                (indices.draw(owner).expect("room"), owner)
            })
            .collect();
        assert!(drawn.iter().all(|(wire, owner)| indices.owner(*wire) == Some(*owner)));
        drawn.iter().for_each(|(wire, _)| indices.release(*wire));
        assert!(drawn.iter().all(|(wire, _)| indices.owner(*wire).is_none()));
    }

    #[test]
    fn successive_indices_of_a_slot_share_no_pattern() {
        let indices = Indices::new(1 << 16);
        let drawn: Vec<u32> =
            (0..64u8).map(|local| indices.draw(Owner { slot: 5, local }).expect("room")).collect();
        let upper: HashSet<u32> = drawn.iter().map(|wire| wire >> 8).collect();
        let steps: HashSet<u32> = drawn.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        assert!(upper.len() > 60 && steps.len() > 60);
    }

    #[test]
    fn a_full_table_gives_nothing() {
        let indices = Indices::new(1);
        let owner = Owner { slot: 0, local: 0 };
        let drawn = (0..MIN_BUCKETS * 2).filter_map(|_| indices.draw(owner)).count();
        assert!(drawn <= MIN_BUCKETS as usize && drawn > MIN_BUCKETS as usize / 2);
    }
}
