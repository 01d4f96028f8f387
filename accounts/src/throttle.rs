//! How often somebody may try. Kept in memory only, under keyed hashes, and for an hour at most.

use std::{hash::Hash, time::Duration};

use parking_lot::Mutex;
use tacit_messages::clock::Instant;

use crate::recent::Recent;

/// How long a try is remembered.
pub(crate) const MEMORY: Duration = Duration::from_secs(60 * 60);

/// The longest wait that is imposed.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Counts what everyone tries; after `free` tries the next is only let through after a wait, which doubles each time.
#[derive(Debug)]
pub(crate) struct Throttle {
    free: u32,
    tries: Mutex<Recent<Tries>>,
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    count: u32,
    last: Instant,
}

impl Tries {
    fn wait(self, free: u32) -> Duration {
        let Some(over) = self.count.checked_sub(free) else { return Duration::ZERO };
        Duration::from_secs(1 << over.min(16)).min(LONGEST_WAIT)
    }

    fn is_remembered(&self, now: Instant) -> bool {
        now.since(self.last) < MEMORY
    }
}

impl Throttle {
    pub(crate) fn new(free: u32) -> Self {
        Self { free, tries: Mutex::default() }
    }

    /// Counts a try of `who`, or says how long they must wait before the next.
    pub(crate) fn take(&self, who: impl Hash, now: Instant) -> Result<(), Duration> {
        self.take_after(who, Duration::ZERO, now)
    }

    /// The same, but whoever tried before waits no shorter than `least` since then.
    pub(crate) fn take_after(
        &self,
        who: impl Hash,
        least: Duration,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut all = self.tries.lock();
        let known = all.find(&who).filter(|tries| tries.is_remembered(now));
        if let Some(tries) = known {
            let wait = tries.wait(self.free).max(least);
            let waited = now.since(tries.last);
            if waited < wait {
                return Err(wait.saturating_sub(waited));
            }
        }
        let count = known.map_or(0, |tries| tries.count).saturating_add(1);
        all.note(&who, Tries { count, last: now });
        Ok(())
    }

    /// Counts a try of `who` that nobody was asked about.
    pub(crate) fn count(&self, who: impl Hash, now: Instant) {
        let mut all = self.tries.lock();
        let known = all.find(&who).filter(|tries| tries.is_remembered(now));
        let count = known.map_or(0, |tries| tries.count).saturating_add(1);
        all.note(&who, Tries { count, last: now });
    }

    /// How long one waits after so many tries as were counted of `who`.
    pub(crate) fn wait(&self, who: impl Hash, now: Instant) -> Duration {
        let known = self.tries.lock().find(&who).filter(|tries| tries.is_remembered(now));
        known.map_or(Duration::ZERO, |tries| tries.wait(self.free))
    }

    /// Forgets what `who` tried, because it was right.
    pub(crate) fn forget(&self, who: impl Hash) {
        self.tries.lock().forget(&who);
    }

    /// Takes one try of `who` back, because it was right.
    pub(crate) fn give_back(&self, who: impl Hash) {
        let mut all = self.tries.lock();
        if let Some(tries) = all.find(&who) {
            all.note(&who, Tries { count: tries.count.saturating_sub(1), ..tries });
        }
    }

    /// Forgets everybody whose last try is an hour ago.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.tries.lock().retain(|tries| tries.is_remembered(now));
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.tries.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recent::MOST;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waits_double_after_the_free_tries() {
        let (throttle, mut now) = (Throttle::new(2), Instant::now());
        for _ in 0..2 {
            assert_eq!(throttle.take("ann", now), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(throttle.take("ann", now), Err(seconds(wait)));
            now = now + seconds(wait - 1);
            assert_eq!(throttle.take("ann", now), Err(seconds(1)));
            now = now + seconds(1);
            assert_eq!(throttle.take("ann", now), Ok(()));
        }
        assert_eq!(throttle.take("bob", now), Ok(()), "others wait too");
    }

    #[test]
    fn all_is_forgotten_in_an_hour() {
        let (throttle, now) = (Throttle::new(1), Instant::now());
        throttle.take("ann", now).unwrap();
        throttle.take("bob", now + seconds(60)).unwrap();
        throttle.forget_old(now + MEMORY);
        assert_eq!(throttle.remembered(), 1);
        throttle.forget_old(now + MEMORY + seconds(60));
        assert_eq!(throttle.remembered(), 0);
        throttle.take("ann", now).unwrap();
        assert_eq!(throttle.take("ann", now + MEMORY), Ok(()));
    }

    #[test]
    fn right_try_ends_the_wait() {
        let (throttle, now) = (Throttle::new(1), Instant::now());
        throttle.take("ann", now).unwrap();
        assert!(throttle.take("ann", now).is_err());
        throttle.forget("ann");
        assert_eq!(throttle.take("ann", now), Ok(()));
    }

    #[test]
    fn others_tries_make_those_wait_longer_who_tried_themselves() {
        let (throttle, now) = (Throttle::new(5), Instant::now());
        assert_eq!(throttle.take_after("ann", seconds(64), now), Ok(()), "who never tried waits");
        assert_eq!(throttle.take_after("ann", seconds(64), now), Err(seconds(64)));
        assert_eq!(throttle.take_after("ann", seconds(64), now + seconds(64)), Ok(()));
    }

    #[test]
    fn many_others_keep_nobody_out() {
        let (throttle, now) = (Throttle::new(1), Instant::now());
        for number in 0..2 * MOST {
            assert_eq!(throttle.take(number, now), Ok(()), "somebody new has to wait");
        }
        assert!(throttle.remembered() <= MOST);
        assert!(throttle.take(2 * MOST - 1, now).is_err(), "who came last is forgotten");
    }
}
