//! What was lately noted of whom, under keyed hashes, and of how many at most.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    mem,
};

/// Of how many something is remembered.
pub(crate) const MOST: usize = 100_000;

/// What was noted of each. There are two halves: when the later one is full, the earlier one goes as a whole. So of too many
/// those are dropped of whom nothing was noted for longest, and nobody's note takes a search.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    hashing: RandomState,
    later: HashMap<u64, V>,
    earlier: HashMap<u64, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { hashing: RandomState::new(), later: HashMap::new(), earlier: HashMap::new() }
    }
}

impl<V: Copy> Recent<V> {
    /// What was noted of `who`.
    pub(crate) fn find(&self, who: &impl Hash) -> Option<V> {
        let key = self.hashing.hash_one(who);
        self.later.get(&key).or_else(|| self.earlier.get(&key)).copied()
    }

    /// Notes something of `who`, in the place of what was noted before.
    pub(crate) fn note(&mut self, who: &impl Hash, value: V) {
        let key = self.hashing.hash_one(who);
        self.earlier.remove(&key);
        self.later.insert(key, value);
        if self.later.len() >= MOST / 2 {
            self.earlier = mem::take(&mut self.later);
        }
    }

    /// Forgets `who`.
    pub(crate) fn forget(&mut self, who: &impl Hash) {
        let key = self.hashing.hash_one(who);
        self.later.remove(&key);
        self.earlier.remove(&key);
    }

    /// Forgets all but those of whom `is_of_use` says that it is worth remembering.
    pub(crate) fn retain(&mut self, is_of_use: impl Fn(&V) -> bool) {
        for half in [&mut self.later, &mut self.earlier] {
            half.retain(|_, value| is_of_use(value));
            half.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.later.len() + self.earlier.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_longest_untouched_are_dropped() {
        let mut recent = Recent::default();
        recent.note(&"ann", 1);
        recent.note(&"bob", 1);
        for number in 0..MOST {
            recent.note(&number, 0);
            if number % 1000 == 0 {
                recent.note(&"ann", number);
            }
            assert!(recent.len() < MOST);
        }
        assert_eq!(recent.find(&"ann"), Some(MOST - 1000), "who is always there is dropped");
        assert_eq!(recent.find(&"bob"), None);
        assert_eq!(recent.find(&(MOST - 1)), Some(0), "who came last is dropped");
    }

    #[test]
    fn note_takes_the_place_of_the_one_before_in_either_half() {
        let mut recent = Recent::default();
        recent.note(&"ann", 1);
        for number in 1..MOST / 2 {
            recent.note(&number, 0);
        }
        recent.note(&"ann", 2);
        assert_eq!((recent.find(&"ann"), recent.len()), (Some(2), MOST / 2));
        recent.forget(&"ann");
        assert_eq!(recent.find(&"ann"), None);
        recent.retain(|value| *value != 0);
        assert_eq!(recent.len(), 0);
    }
}
