//! How much somebody may do in a day of what takes something from others. Kept in memory only, under keyed hashes, for as long as
//! it is not all there again.

use std::{hash::Hash, time::Duration};

use parking_lot::Mutex;
use tacit_messages::clock::Instant;

use crate::recent::Recent;

/// After how long all of an allowance is there again.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So many times at once, and once more each time that such a part of a day has passed.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// In how long one comes back.
    step: Duration,
    /// When all of it is there again.
    whole_at: Mutex<Recent<Instant>>,
}

impl Allowance {
    pub(crate) fn new(in_a_day: u32) -> Self {
        Self { step: DAY / in_a_day, whole_at: Mutex::default() }
    }

    /// Takes one of `who`'s, or says how long they must wait until there is one.
    pub(crate) fn take(&self, who: impl Hash, now: Instant) -> Result<(), Duration> {
        let mut all = self.whole_at.lock();
        let whole_at = all.find(&who).map_or(now, |whole_at| whole_at.max(now)) + self.step;
        let over = whole_at.since(now + DAY);
        if !over.is_zero() {
            return Err(over);
        }
        all.note(&who, whole_at);
        Ok(())
    }

    /// Gives one back to `who`, because it was not used.
    pub(crate) fn give_back(&self, who: impl Hash) {
        let mut all = self.whole_at.lock();
        if let Some(whole_at) = all.find(&who) {
            all.note(&who, whole_at.minus(self.step));
        }
    }

    /// Forgets everybody who has all of it again.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.whole_at.lock().retain(|whole_at| *whole_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(6 * 60 * 60);

    #[test]
    fn what_is_used_up_comes_back_one_by_one() {
        let (allowance, now) = (Allowance::new(4), Instant::now());
        for _ in 0..4 {
            assert_eq!(allowance.take("ann", now), Ok(()));
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(allowance.take("ann", later), Err(STEP - Duration::from_secs(60)));
        assert_eq!(allowance.take("bob", later), Ok(()), "others wait too");
        assert_eq!(allowance.take("ann", now + STEP), Ok(()));
        assert_eq!(allowance.take("ann", now + STEP), Err(STEP));
        let next_day = now + STEP + DAY;
        let taken = (0..9).filter(|_| allowance.take("ann", next_day).is_ok());
        assert_eq!(taken.count(), 4, "more than is allowed is saved up");
    }

    #[test]
    fn what_was_not_used_is_there_again() {
        let (allowance, now) = (Allowance::new(1), Instant::now());
        allowance.take("ann", now).unwrap();
        allowance.give_back("ann");
        assert_eq!(allowance.take("ann", now), Ok(()));
        allowance.give_back("bob");
        assert_eq!(allowance.take("bob", now), Ok(()));
        assert_eq!(allowance.take("bob", now), Err(DAY), "what nobody took was given back");
    }

    #[test]
    fn who_has_all_again_is_forgotten() {
        let (allowance, now) = (Allowance::new(4), Instant::now());
        allowance.take("ann", now).unwrap();
        allowance.forget_old((now + STEP).minus(Duration::from_secs(1)));
        assert_eq!(allowance.whole_at.lock().len(), 1);
        allowance.forget_old(now + STEP);
        assert_eq!(allowance.whole_at.lock().len(), 0);
    }
}
