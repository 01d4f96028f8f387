//! How often somebody may try. Kept in memory only, under keyed hashes, and for an hour at most.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use tacit_messages::clock::Instant;

/// How long a try is remembered.
pub(crate) const MEMORY: Duration = Duration::from_secs(60 * 60);

/// The longest wait that is imposed.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// How many that try are remembered; then all who are new have to wait until there is room.
const MOST: usize = 100_000;

/// Counts what everyone tries; after `free` tries the next is only let through after a wait, which doubles each time.
#[derive(Debug)]
pub(crate) struct Throttle {
    free: u32,
    hashing: RandomState,
    tries: Mutex<HashMap<u64, Tries>>,
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
}

impl Throttle {
    pub(crate) fn new(free: u32) -> Self {
        Self { free, hashing: RandomState::new(), tries: Mutex::default() }
    }

    /// Counts a try of `who`, or says how long they must wait before the next.
    pub(crate) fn take(&self, who: impl Hash, now: Instant) -> Result<(), Duration> {
        let key = self.hashing.hash_one(who);
        let mut all = self.tries.lock();
        if let Some(tries) = all.get_mut(&key).filter(|tries| now.since(tries.last) < MEMORY) {
            let waited = now.since(tries.last);
            let wait = tries.wait(self.free);
            if waited < wait {
                return Err(wait.saturating_sub(waited));
            }
            *tries = Tries { count: tries.count.saturating_add(1), last: now };
            return Ok(());
        }
        if all.len() >= MOST {
            all.retain(|_, tries| now.since(tries.last) < MEMORY);
        }
        if all.len() >= MOST {
            return Err(LONGEST_WAIT);
        }
        all.insert(key, Tries { count: 1, last: now });
        Ok(())
    }

    /// Forgets what `who` tried, because it was right.
    pub(crate) fn forget(&self, who: impl Hash) {
        self.tries.lock().remove(&self.hashing.hash_one(who));
    }

    /// Takes one try of `who` back, because it was right.
    pub(crate) fn give_back(&self, who: impl Hash) {
        if let Some(tries) = self.tries.lock().get_mut(&self.hashing.hash_one(who)) {
            tries.count = tries.count.saturating_sub(1);
        }
    }

    /// Forgets everybody whose last try is an hour ago.
    pub(crate) fn forget_old(&self, now: Instant) {
        let mut tries = self.tries.lock();
        tries.retain(|_, tries| now.since(tries.last) < MEMORY);
        tries.shrink_to_fit();
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.tries.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::new(1), Instant::now());
        for number in 0..MOST {
            throttle.take(number, now).unwrap();
        }
        assert!(throttle.take("one more", now).is_err());
        assert_eq!(throttle.remembered(), MOST);
        assert_eq!(throttle.take("one more", now + MEMORY), Ok(()));
    }
}
