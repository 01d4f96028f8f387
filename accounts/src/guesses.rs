//! Who guesses at passwords has to wait, and whose password is guessed at has not: otherwise everybody could lock everybody out.
//!
//! Tries are counted for each network, and for each network and person. What all networks together guessed of a person makes a
//! network wait longer, but only one that guessed itself, and since its own last try alone: nobody elsewhere can be in its way.
//! Somebody's log-in changes nothing for other networks, so that nobody sees by their waits when it was.

use std::{hash::Hash, time::Duration};

use tacit_messages::clock::Instant;

use crate::throttle::Throttle;

/// Tries until a network has to wait: of one person, and of all.
const TRIES_OF_A_PERSON: u32 = 5;
const TRIES_OF_A_NETWORK: u32 = 30;

/// Wrong tries of a person by all networks, until each that made some has to wait.
const TRIES_OF_A_PERSON_BY_ALL: u32 = 50;

/// Tries to log in, as whom and from where.
#[derive(Debug)]
pub(crate) struct Guesses {
    networks: Throttle,
    persons: Throttle,
    persons_by_all: Throttle,
}

impl Guesses {
    pub(crate) fn new() -> Self {
        Self {
            networks: Throttle::new(TRIES_OF_A_NETWORK),
            persons: Throttle::new(TRIES_OF_A_PERSON),
            persons_by_all: Throttle::new(TRIES_OF_A_PERSON_BY_ALL),
        }
    }

    /// Counts a try before it is known whether it is right, because many at once are many; or says how long they must wait.
    pub(crate) fn take(
        &self,
        person: impl Hash,
        network: impl Hash,
        now: Instant,
    ) -> Result<(), Duration> {
        self.networks.take(&network, now)?;
        let least = self.persons_by_all.wait(&person, now);
        self.persons.take_after((&person, &network), least, now)
    }

    /// Notes that it was wrong.
    pub(crate) fn wrong(&self, person: impl Hash, now: Instant) {
        self.persons_by_all.count(person, now);
    }

    /// Notes that it was right: what that network tried of that person is forgotten.
    pub(crate) fn right(&self, person: impl Hash, network: impl Hash) {
        self.persons.forget((&person, &network));
        self.networks.give_back(network);
    }

    /// Forgets whose last try is an hour ago.
    pub(crate) fn forget_old(&self, now: Instant) {
        for throttle in [&self.networks, &self.persons, &self.persons_by_all] {
            throttle.forget_old(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A wrong try, and whether it was made.
    fn guess(guesses: &Guesses, network: u32, now: Instant) -> bool {
        let taken = guesses.take("ann", network, now).is_ok();
        if taken {
            guesses.wrong("ann", now);
        }
        taken
    }

    #[test]
    fn who_guesses_all_day_from_elsewhere_keeps_the_customer_out_at_no_time() {
        let (guesses, start) = (Guesses::new(), Instant::now());
        for second in 0..2 * 60 * 60 {
            let now = start + seconds(second);
            for network in 0..4 {
                guess(&guesses, network, now);
            }
            if second % 600 == 0 {
                assert_eq!(guesses.take("ann", 99, now), Ok(()), "after {second} s");
                guesses.right("ann", 99);
            }
        }
    }

    #[test]
    fn customer_who_mistypes_while_others_guess_waits_and_is_let_in() {
        let (guesses, start) = (Guesses::new(), Instant::now());
        let mut now = start;
        for second in 0..4000 {
            now = start + seconds(second);
            for network in 0..20 {
                guess(&guesses, network, now);
            }
        }
        assert!(guess(&guesses, 99, now));
        let wait = guesses.take("ann", 99, now).unwrap_err();
        assert!(wait <= seconds(300), "{wait:?}");
        for second in 1..=wait.as_secs() {
            for network in 0..20 {
                guess(&guesses, network, now + seconds(second));
            }
        }
        assert_eq!(guesses.take("ann", 99, now + wait), Ok(()), "the only slot was another's");
    }

    #[test]
    fn guesses_of_many_networks_are_bounded() {
        const NETWORKS: u32 = 40;
        let (guesses, start) = (Guesses::new(), Instant::now());
        let mut made = [0; 2];
        for second in 0..2 * 3600 {
            let now = start + seconds(second);
            let hour = usize::try_from(second / 3600).unwrap();
            made[hour] += (0..NETWORKS).filter(|network| guess(&guesses, *network, now)).count();
        }
        // What is free, and one in five minutes for each network.
        assert!(made[0] <= 50 + 20 * NETWORKS as usize, "{made:?}");
        assert!(made[1] <= 13 * NETWORKS as usize, "{made:?}");
        assert!(made[1] >= 11 * NETWORKS as usize, "{made:?}");
    }

    #[test]
    fn log_in_of_the_customer_changes_nothing_for_who_guesses_elsewhere() {
        let waits = |logs_in: bool| {
            let (guesses, now) = (Guesses::new(), Instant::now());
            for network in 0..20 {
                for _ in 0..4 {
                    guess(&guesses, network, now);
                }
            }
            if logs_in {
                guesses.take("ann", 99, now).unwrap();
                guesses.right("ann", 99);
            }
            let wait = |network| guesses.take("ann", network, now).err();
            (0..20).map(wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(true), waits(false));
        assert!(waits(true).iter().any(Option::is_some));
    }

    #[test]
    fn right_password_gives_back_the_tries_of_its_network_alone() {
        let (guesses, now) = (Guesses::new(), Instant::now());
        for network in [1, 2] {
            for _ in 0..5 {
                assert!(guess(&guesses, network, now));
            }
        }
        assert!(guesses.take("ann", 1, now).is_err());
        guesses.right("ann", 1);
        assert_eq!(guesses.take("ann", 1, now), Ok(()));
        assert!(guesses.take("ann", 2, now).is_err(), "what another network tried is forgotten");
    }
}
