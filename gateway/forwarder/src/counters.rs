//! Whole-gateway counters, one set per thread so that no two threads write to the same cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use tacit_messages::{DropReason, Totals, totals::DROP_REASONS};

/// The counters of one thread: only it writes, anybody may read.
#[repr(align(128))]
#[derive(Default)]
pub struct Counters {
    inbound_packets: AtomicU64,
    inbound_bytes: AtomicU64,
    outbound_packets: AtomicU64,
    outbound_bytes: AtomicU64,
    handshakes: AtomicU64,
    drops: [AtomicU64; DROP_REASONS],
}

/// Adds without a locked instruction: there is one writer.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Counters {
    /// Counts one dropped packet.
    pub fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// Counts dropped packets.
    pub fn dropped_many(&self, reason: DropReason, packets: u64) {
        add(&self.drops[reason as usize], packets);
    }

    /// Counts packets from devices.
    pub fn inbound(&self, packets: u64, bytes: u64) {
        add(&self.inbound_packets, packets);
        add(&self.inbound_bytes, bytes);
    }

    /// Counts packets to devices.
    pub fn outbound(&self, packets: u64, bytes: u64) {
        add(&self.outbound_packets, packets);
        add(&self.outbound_bytes, bytes);
    }

    /// Counts a completed handshake.
    pub fn handshake(&self) {
        add(&self.handshakes, 1);
    }

    /// Adds these counters to `totals`.
    pub fn add_to(&self, totals: &mut Totals) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        totals.inbound_packets += load(&self.inbound_packets);
        totals.inbound_bytes += load(&self.inbound_bytes);
        totals.outbound_packets += load(&self.outbound_packets);
        totals.outbound_bytes += load(&self.outbound_bytes);
        totals.handshakes += load(&self.handshakes);
        for (total, drops) in totals.drops.iter_mut().zip(&self.drops) {
            *total += load(drops);
        }
    }
}
