//! Devices that are on their way here from a gateway with the same key that is drained, by the receiver index that they
//! still use there. No IO; time is passed in.
//!
//! A packet with such an index cannot be opened here, but it shows that its device has come, and where it is: so the
//! gateway shakes hands with it, instead of leaving that to a client that notices only after 15 s of silence. Whoever
//! does not see the device's packets has to guess 32 random bits; whoever does has one handshake message sent in five
//! seconds to where they say that they are. Workers look here only for a packet whose index is nobody's, and that is one
//! load while nobody is expected.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU8, AtomicUsize, Ordering},
};

use parking_lot::RwLock;
use tacit_messages::{PublicKey, clock::Instant};

use crate::{session::REJECT_AFTER_TIME, wiping};

/// How many may be expected, be the tunnel network as large as it likes.
const MOST: usize = 1 << 16;

/// Seconds between two packets of a device that count. It passes within them, so at least five are between.
const REST: u8 = 6;

/// The table.
pub struct Expected {
    count: AtomicUsize,
    by_index: RwLock<HashMap<u32, Device>>,
}

struct Device {
    newcomer: Newcomer,
    /// Seconds until a packet counts again.
    rest: AtomicU8,
}

/// A device that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its key.
    pub public_key: PublicKey,
    /// When the other gateway last heard of it.
    pub last_seen: Instant,
    /// Whether it knows the gateways by their former key.
    pub by_former_key: bool,
}

impl Default for Expected {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), by_index: RwLock::default() }
    }
}

impl Expected {
    /// Expects a device with this index, until it has been silent for 180 s.
    pub fn expect(&self, index: u32, newcomer: Newcomer) {
        let mut by_index = self.by_index.write();
        if by_index.len() >= MOST && !by_index.contains_key(&index) {
            return;
        }
        let fresh = || Device { newcomer, rest: AtomicU8::new(0) };
        by_index.entry(index).or_insert_with(fresh).newcomer = newcomer;
        self.count.store(by_index.len(), Ordering::Relaxed);
    }

    /// Whether a packet with this index, which is nobody's, is a device's that is expected and has not lately sent one.
    #[must_use]
    pub fn has_come(&self, index: u32) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let by_index = self.by_index.read();
        by_index.get(&index).is_some_and(|device| {
            device.rest.compare_exchange(0, REST, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    /// The device that is expected with this index.
    #[must_use]
    pub fn newcomer(&self, index: u32) -> Option<Newcomer> {
        self.by_index.read().get(&index).map(|device| device.newcomer)
    }

    /// Begins a new second: forgets whoever has been silent for too long, or `is_here`.
    pub fn new_second(&self, now: Instant, is_here: impl Fn(&Newcomer) -> bool) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        // `is_here` locks peers, and a worker that has one locked may look here: so nobody is kept from reading meanwhile.
        let here: HashSet<u32> = {
            let by_index = self.by_index.read();
            let here = by_index.iter().filter(|(_, device)| is_here(&device.newcomer));
            here.map(|(index, _)| *index).collect()
        };
        let mut by_index = self.by_index.write();
        let before = by_index.len();
        by_index.retain(|index, device| {
            let rest = device.rest.get_mut();
            *rest = rest.saturating_sub(1);
            let is_late = now.since(device.newcomer.last_seen) >= REJECT_AFTER_TIME;
            !is_late && !here.contains(index)
        });
        if by_index.len() < before {
            wiping::rebuild(&mut by_index);
        }
        self.count.store(by_index.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: PublicKey = [7; 32];
    const INDEX: u32 = 0x5eed_1234;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn newcomer(public_key: PublicKey, last_seen: Instant) -> Newcomer {
        Newcomer { public_key, last_seen, by_former_key: false }
    }

    /// A table that expects one device, silent for 20 s, since the second moment.
    fn expecting() -> (Expected, Instant) {
        let (expected, now) = (Expected::default(), Instant::now());
        expected.expect(INDEX, newcomer(KEY, now.minus(seconds(20))));
        (expected, now)
    }

    #[test]
    fn packet_with_another_index_is_nobodys() {
        assert!(!Expected::default().has_come(INDEX));
        let (expected, _) = expecting();
        assert!(!expected.has_come(INDEX + 1));
        assert!(expected.has_come(INDEX));
    }

    #[test]
    fn packets_of_a_device_count_once_in_five_seconds() {
        let (expected, start) = expecting();
        let counted = (0..100_000u64).filter(|n| {
            if n % 1_000 == 999 {
                expected.new_second(start + seconds(n / 1_000), |_| false);
            }
            expected.has_come(INDEX)
        });
        let counted: Vec<u64> = counted.map(|n| n / 1_000).collect();
        assert_eq!(counted.len(), 17);
        assert!(counted.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{counted:?}");
    }

    #[test]
    fn device_is_forgotten_after_180_seconds_of_silence_there_and_here() {
        let (expected, now) = expecting();
        expected.new_second(now + seconds(159), |_| false);
        assert!(expected.newcomer(INDEX).is_some());
        expected.new_second(now + seconds(160), |_| false);
        assert!(expected.newcomer(INDEX).is_none() && !expected.has_come(INDEX));
        assert_eq!(expected.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn device_that_is_here_is_expected_no_longer() {
        let (expected, now) = expecting();
        expected.new_second(now, |newcomer| newcomer.public_key == KEY);
        assert!(!expected.has_come(INDEX));
    }

    #[test]
    fn table_is_open_to_workers_while_peers_are_looked_at() {
        let (expected, now) = expecting();
        let can_read = || expected.by_index.try_read().is_some();
        expected
            .new_second(now, |_| std::thread::scope(|scope| scope.spawn(can_read).join().unwrap()));
        assert!(expected.newcomer(INDEX).is_none(), "a worker had to wait");
    }

    #[test]
    fn table_has_room_for_so_many_and_no_more() {
        let (expected, now) = (Expected::default(), Instant::now());
        (0..=MOST as u32).for_each(|index| expected.expect(index, newcomer(KEY, now)));
        assert_eq!(expected.count.load(Ordering::Relaxed), MOST);
        assert!(!expected.has_come(MOST as u32));
        expected.expect(1, newcomer([8; 32], now));
        assert_eq!(expected.newcomer(1).map(|newcomer| newcomer.public_key), Some([8; 32]));
    }
}
