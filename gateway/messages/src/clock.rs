//! The one file that reads a clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Seconds since 1970-01-01T00:00:00Z. No record of anybody has a finer time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The wall clock.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Realtime);
        Self(u64::try_from(now.tv_sec).unwrap_or(0))
    }

    /// This time moved back by `age`, at the earliest 1970.
    #[must_use]
    pub fn minus(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(age.as_secs()))
    }

    /// This time moved on by `age`.
    #[must_use]
    pub fn plus(self, age: Duration) -> Self {
        Self(self.0.saturating_add(age.as_secs()))
    }
}

/// A point on a clock that never goes back and that counts suspended time (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// Reads the clock.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        Self(Duration::new(
            u64::try_from(now.tv_sec).unwrap_or(0),
            u32::try_from(now.tv_nsec).unwrap_or(0),
        ))
    }

    /// This point moved back by `age`, at the earliest to the machine's start.
    #[must_use]
    pub fn minus(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(age))
    }

    /// The time from `earlier` to this, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}
