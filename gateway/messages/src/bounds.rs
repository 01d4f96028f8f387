//! How much the forwarder may say to control, so that messages cannot carry a log.
//!
//! The forwarder keeps to these rates by itself. Control holds it to them, whatever it has become: a forwarder that
//! says more is ended. What each rate comes to in bits is in SECURITY.md.

use std::time::Duration;

use crate::clock::Instant;

/// Questions per second about unknown keys, whoever sends handshakes.
pub const LOOKUPS_PER_SECOND: u32 = 1_000;

/// Time between two totals.
pub const TOTALS_INTERVAL: Duration = Duration::from_secs(1);

/// A client that flaps between addresses makes at most one session in this time.
pub const ROAM_INTERVAL: Duration = Duration::from_secs(10);

/// How long `Leave` holds; control says it again while the gateway is drained.
pub const LEAVE_LIFETIME: Duration = Duration::from_secs(10);

/// How often at most a gateway that is left tells how one device is known: each handshake changes that.
pub const MOVING_INTERVAL: Duration = Duration::from_secs(10);

/// How soon it tells again what has not changed: other gateways forget.
pub const MOVING_AGAIN: Duration = Duration::from_secs(120);

/// In this time as many devices may be told of as there are tunnel addresses, besides as many at any time: each once in
/// two minutes because of [`MOVING_AGAIN`], and once because of its handshakes.
const MOVINGS_INTERVAL: Duration = Duration::from_secs(60);

/// In this time as many sessions may begin as there are tunnel addresses, besides as many at any time.
const SESSIONS_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Networks with fewer addresses are treated as if they had so many.
const LEAST_ADDRESSES: u32 = 1_000;

/// Something that may happen once per interval, and a number of times at once after it has not for long.
#[derive(Clone, Debug)]
pub struct Bucket {
    interval: Duration,
    full: Duration,
    /// Time saved; each event costs an interval.
    saved: Duration,
    filled: Instant,
}

impl Bucket {
    /// Allows one event per `interval`, and `burst` at once.
    #[must_use]
    pub fn new(interval: Duration, burst: u32, now: Instant) -> Self {
        let full = interval * burst;
        Self { interval, full, saved: full, filled: now }
    }

    /// Begins of sessions in tunnel networks with `addresses` addresses: after a restart every customer comes at once.
    #[must_use]
    pub fn of_sessions(addresses: u32, now: Instant) -> Self {
        let sessions = addresses.max(LEAST_ADDRESSES);
        Self::new(SESSIONS_INTERVAL / sessions, sessions, now)
    }

    /// Devices that are told of while the gateway is left, in tunnel networks with `addresses` addresses.
    #[must_use]
    pub fn of_movings(addresses: u32, now: Instant) -> Self {
        let devices = addresses.max(LEAST_ADDRESSES);
        Self::new(MOVINGS_INTERVAL / devices, devices, now)
    }

    /// Allows `times` as many events at once, at the same rate.
    #[must_use]
    pub fn with_burst_times(self, times: u32) -> Self {
        let full = self.full * times;
        Self { full, saved: full, ..self }
    }

    /// Counts an event, if it is allowed at `now`.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let left = self.saved.checked_sub(self.interval);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }

    /// Allows what came of `time` to be counted at once: nobody counted meanwhile.
    pub fn grant(&mut self, time: Duration) {
        self.saved += time;
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.saved >= self.full
    }

    fn fill(&mut self, now: Instant) {
        if self.saved < self.full {
            self.saved = (self.saved + now.since(self.filled)).min(self.full);
        }
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `events`, one per `pause`, are allowed.
    fn allowed(bucket: &mut Bucket, start: Instant, events: u32, pause: Duration) -> usize {
        (0..events).filter(|n| bucket.take(start + pause * *n)).count()
    }

    #[test]
    fn burst_is_followed_by_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Duration::from_secs(1), 5, start);
        assert_eq!(allowed(&mut bucket, start, 1_000, Duration::from_millis(100)), 5 + 99);
    }

    #[test]
    fn rate_alone_is_always_allowed() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Duration::from_millis(1), 1, start);
        assert_eq!(allowed(&mut bucket, start, 10_000, Duration::from_millis(1)), 10_000);
    }

    #[test]
    fn nothing_is_saved_beyond_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Duration::from_secs(1), 3, start);
        let later = start + Duration::from_secs(1_000);
        assert_eq!(allowed(&mut bucket, later, 10, Duration::ZERO), 3);
        assert!(!bucket.is_full(later));
        assert!(bucket.is_full(later + Duration::from_secs(3)));
    }

    #[test]
    fn time_that_nobody_counted_in_can_be_made_up_for_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Duration::from_secs(1), 3, start);
        bucket.grant(Duration::from_secs(7));
        assert_eq!(allowed(&mut bucket, start, 20, Duration::ZERO), 10);
        let later = start + Duration::from_secs(100);
        assert_eq!(allowed(&mut bucket, later, 20, Duration::ZERO), 3);
    }

    #[test]
    fn every_customer_may_come_at_once_and_again_within_an_hour() {
        let start = Instant::now();
        let mut bucket = Bucket::of_sessions(65_536, start);
        assert_eq!(allowed(&mut bucket, start, 70_000, Duration::ZERO), 65_536);
        let hour = start + SESSIONS_INTERVAL;
        assert!(allowed(&mut bucket, hour, 70_000, Duration::ZERO) >= 65_535);
    }
}
