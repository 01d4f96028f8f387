//! How many handshakes one source may begin while the gateway is under load. No IO; time is passed in.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tacit_messages::clock::Instant;

use crate::wiping;

/// Handshakes per second, of all sources, from which on the gateway is under load: an initiator must then show by a
/// cookie that it receives at its address (WireGuard paper section 5.3).
pub const COOKIE_THRESHOLD: u64 = 500;
/// Handshakes per second that a source with a valid cookie is answered under load.
const PER_SECOND: u32 = 20;
/// Handshakes that a source may begin at once.
const BURST: u32 = 20;
/// Sources that are remembered; others are refused until some are forgotten.
const MAX_SOURCES: usize = 65_536;
/// After this time a source has its whole burst again and need not be remembered.
const FULL_AGAIN: Duration = Duration::from_secs((BURST / PER_SECOND) as u64);

/// Sources and what they have left. An IPv6 source is its /64: whoever has one address has them all.
#[derive(Default)]
pub struct Sources {
    /// Handshake messages of this second whose mac1 was right, to the gateway's current key and to its former one.
    counted: [u64; 2],
    buckets: HashMap<IpAddr, Bucket>,
    /// Whether a source was forgotten whose traces are still to be overwritten.
    forgot: bool,
}

struct Bucket {
    /// Thousandths of a handshake.
    tokens: u32,
    filled: Instant,
}

impl Sources {
    /// Counts a handshake message whose mac1 was right, as the cookie mechanism does for each key of the gateway; returns
    /// whether it asks for cookies, so that a source that comes through has shown one.
    pub fn count(&mut self, by_former_key: bool) -> bool {
        let counted = &mut self.counted[usize::from(by_former_key)];
        *counted += 1;
        *counted > COOKIE_THRESHOLD
    }

    /// Whether `source` may begin a handshake at `now`, the gateway being under load.
    pub fn allow(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = network(source);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= MAX_SOURCES {
            return false;
        }
        let fresh = Bucket { tokens: BURST * 1_000, filled: now };
        let bucket = self.buckets.entry(source).or_insert(fresh);
        let millis = now.since(bucket.filled).min(FULL_AGAIN).as_millis() as u32;
        if millis > 0 {
            bucket.tokens = (bucket.tokens + millis * PER_SECOND).min(BURST * 1_000);
            bucket.filled = now;
        }
        let allowed = bucket.tokens >= 1_000;
        bucket.tokens -= if allowed { 1_000 } else { 0 };
        allowed
    }

    /// Begins a new second, and forgets the sources that have their whole burst again.
    pub fn new_second(&mut self, now: Instant) {
        self.counted = [0; 2];
        let before = self.buckets.len();
        self.buckets.retain(|_, bucket| now.since(bucket.filled) < FULL_AGAIN);
        self.forgot |= self.buckets.len() < before;
    }

    /// Overwrites what is left of sources that were forgotten.
    pub fn wipe(&mut self) {
        if std::mem::take(&mut self.forgot) {
            wiping::rebuild(&mut self.buckets);
        }
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn a_flooding_source_gets_its_share_and_no_more() {
        let start = Instant::now();
        let mut sources = Sources::default();
        let mut allowed = 0;
        for n in 0..100_000u64 {
            let now = start + Duration::from_micros(n * 100);
            allowed += u32::from(sources.allow(source(1), now));
        }
        assert!((BURST + 9 * PER_SECOND..=BURST + 10 * PER_SECOND).contains(&allowed), "{allowed}");
        assert!(sources.allow(source(2), start), "others are not touched by it");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share() {
        let now = Instant::now();
        let mut sources = Sources::default();
        let mut allowed = 0;
        for n in 0..1_000u128 {
            allowed += u32::from(sources.allow(IpAddr::V6((0x2001_0db8 << 96 | n).into()), now));
        }
        assert_eq!(allowed, BURST);
    }

    #[test]
    fn load_begins_after_the_threshold_and_ends_with_the_second() {
        let mut sources = Sources::default();
        for by_former_key in [false, true] {
            assert!((0..COOKIE_THRESHOLD).all(|_| !sources.count(by_former_key)));
        }
        assert!(sources.count(false) && sources.count(true));
        sources.new_second(Instant::now());
        assert!(!sources.count(false) && !sources.count(true));
    }

    #[test]
    fn nothing_is_kept_for_long() {
        let now = Instant::now();
        let mut sources = Sources::default();
        sources.allow(source(1), now);
        sources.new_second(now + FULL_AGAIN);
        assert!(sources.buckets.is_empty());
    }
}
