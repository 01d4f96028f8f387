//! Goes along a chain in the store and finds the first entry that is not as it was written.

use std::fmt;

use sqlx::{FromRow, any::AnyRow};
use tacit_keys::DataKeys;

use super::{Chain, Content, End, State, hold, open};
use crate::{StoreError, store::Write};

/// Stands for everybody in [`Entry::SELECT`]: no account has a number below 1.
pub(crate) const EVERYBODY: i64 = -1;

/// How many entries are read at a time.
const BATCH: i64 = 1000;

/// A row of a chain's table.
pub(crate) trait Entry: for<'row> FromRow<'row, AnyRow> + Send + Sync + Unpin {
    /// The chain.
    const CHAIN: Chain;

    /// Selects at most $3 rows that follow the one numbered $1, of the account $2 or of [`EVERYBODY`].
    const SELECT: &'static str;

    fn number(&self) -> i64;

    fn hash(&self) -> &[u8];

    /// What is hashed; `None` if it cannot be read.
    fn content(&self, keys: &DataKeys) -> Option<Content>;
}

/// Looks whether any entry was changed, removed, moved, added or cut off; `noted` is an end that the chain had before.
pub(crate) async fn verify<E: Entry>(
    write: &mut Write,
    keys: &DataKeys,
    noted: Option<End>,
) -> Result<Verdict, StoreError> {
    let head = hold(write, E::CHAIN).await?;
    let mut walk = match Walk::begin(keys, E::CHAIN, head, noted) {
        Ok(walk) => walk,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut after = i64::MIN;
    loop {
        let batch = sqlx::query_as(E::SELECT).bind(after).bind(EVERYBODY).bind(BATCH);
        let entries: Vec<E> = batch.fetch_all(write.connection()).await?;
        for entry in &entries {
            let content = entry.content(keys);
            if let Err(fault) = walk.step(entry.number(), content.as_ref(), entry.hash()) {
                return Ok(Err(fault));
            }
        }
        match entries.last() {
            Some(entry) => after = entry.number(),
            None => return Ok(walk.end()),
        }
    }
}

/// What is wrong with a chain, first of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// The entry of this number was changed, or another one put in its place.
    Changed(u64),
    /// The entry of this number is not there.
    Missing(u64),
    /// The entry of this number was not written by the gateway.
    Added(u64),
    /// The chain's head was removed or changed.
    Head,
    /// The chain does not contain the end that was noted before: entries up to this number were replaced or cut off.
    NotedEnd(u64),
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(number) => {
                write!(f, "entry {number} was changed, or another one put in its place")
            }
            Self::Missing(number) => write!(f, "entry {number} was removed"),
            Self::Added(number) => write!(f, "entry {number} was added by somebody else"),
            Self::Head => f.write_str("the chain's head was removed or changed"),
            Self::NotedEnd(number) => {
                write!(f, "entries up to {number} are not those that were noted")
            }
        }
    }
}

/// What a chain is found to be.
pub type Verdict = Result<VerifiedChain, ChainFault>;

/// Walks along a chain from its foot to its head, entry by entry, and stops at the first that is not what was written.
struct Walk {
    chain: Chain,
    state: State,
    at: End,
    noted: Option<End>,
}

impl Walk {
    /// Begins at the foot; `noted` is an end that the chain had before, from outside the store.
    fn begin(
        keys: &DataKeys,
        chain: Chain,
        row: Option<(i64, Vec<u8>)>,
        noted: Option<End>,
    ) -> Result<Self, ChainFault> {
        let (entries, sealed) = row.ok_or(ChainFault::Head)?;
        let state = open(keys, chain, &sealed).map_err(|_| ChainFault::Head)?;
        if i64::try_from(state.head.entries) != Ok(entries) {
            return Err(ChainFault::Head);
        }
        let mut walk = Self { chain, at: state.foot, state, noted };
        walk.compare_noted()?;
        Ok(walk)
    }

    /// Passes the next entry; its content is `None` if it could not be read.
    fn step(
        &mut self,
        number: i64,
        content: Option<&Content>,
        hash: &[u8],
    ) -> Result<(), ChainFault> {
        let expected = self.at.entries + 1;
        if expected > self.state.head.entries {
            return Err(ChainFault::Added(number.unsigned_abs()));
        }
        if number.unsigned_abs() != expected {
            return Err(ChainFault::Missing(expected));
        }
        let content = content.ok_or(ChainFault::Changed(expected))?;
        let right = self.state.hash(self.chain, self.at, content);
        if right != *hash {
            return Err(ChainFault::Changed(expected));
        }
        self.at = End { entries: expected, hash: right };
        self.compare_noted()
    }

    /// Ends at the head, or says what is missing.
    fn end(self) -> Result<VerifiedChain, ChainFault> {
        if self.at.entries < self.state.head.entries {
            return Err(ChainFault::Missing(self.at.entries + 1));
        }
        match self.noted {
            Some(noted) if noted.entries > self.at.entries => {
                Err(ChainFault::NotedEnd(noted.entries))
            }
            _ if self.at != self.state.head => Err(ChainFault::Head),
            _ => Ok(VerifiedChain { removed: self.state.foot.entries, end: self.at }),
        }
    }

    fn compare_noted(&mut self) -> Result<(), ChainFault> {
        match self.noted {
            Some(noted) if noted.entries == self.at.entries && noted != self.at => {
                Err(ChainFault::NotedEnd(noted.entries))
            }
            _ => Ok(()),
        }
    }
}

/// A chain without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    /// How many entries were removed because their time was over.
    pub removed: u64,
    /// Where it ends. Who notes that elsewhere can later see that nothing up to there was replaced.
    pub end: End,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::{HASH_LEN, Hash, tests::state_of};

    const CHAIN: Chain = Chain::StaffLog;

    type Row = (i64, Content, Hash);

    fn entries(count: i64) -> (State, Vec<Row>) {
        let contents: Vec<_> = (1..=count).map(|at| Content::default().number(at / 2)).collect();
        let (state, hashes) = state_of(&contents);
        let numbered = (1..).zip(contents).zip(hashes);
        (state, numbered.map(|((number, content), hash)| (number, content, hash)).collect())
    }

    fn walk(state: State, entries: &[Row]) -> Verdict {
        let mut walk = Walk { chain: CHAIN, at: state.foot, state, noted: None };
        for (number, content, hash) in entries {
            walk.step(*number, Some(content), hash)?;
        }
        walk.end()
    }

    /// What somebody does to the list who cannot write an entry of their own.
    #[derive(Clone, Debug)]
    enum Tampering {
        Change(usize, u8),
        ChangeHash(usize, u8),
        Remove(usize),
        RemoveAndRenumber(usize),
        Swap(usize, usize),
        CutOff(usize),
        Repeat(usize),
    }

    fn tampering(count: usize) -> impl Strategy<Value = Tampering> {
        let (at, byte) = (0..count, 1..=255_u8);
        prop_oneof![
            (at.clone(), byte.clone()).prop_map(|(at, byte)| Tampering::Change(at, byte)),
            (at.clone(), byte).prop_map(|(at, byte)| Tampering::ChangeHash(at, byte)),
            at.clone().prop_map(Tampering::Remove),
            at.clone().prop_map(Tampering::RemoveAndRenumber),
            (at.clone(), at.clone()).prop_map(|(one, other)| Tampering::Swap(one, other)),
            at.clone().prop_map(Tampering::CutOff),
            at.prop_map(Tampering::Repeat),
        ]
    }

    /// Tampers with the list, and returns which entry is the first that is not what was written.
    fn tamper(entries: &mut Vec<Row>, how: &Tampering) -> u64 {
        let count = entries.len();
        let first = match *how {
            Tampering::Change(at, byte) => {
                entries[at].1.0[7] ^= byte;
                at
            }
            Tampering::ChangeHash(at, byte) => {
                entries[at].2[usize::from(byte) % HASH_LEN] ^= byte;
                at
            }
            Tampering::Remove(at) => {
                entries.remove(at);
                at
            }
            Tampering::RemoveAndRenumber(at) => {
                entries.remove(at);
                (1..).zip(&mut *entries).for_each(|(number, entry)| entry.0 = number);
                at
            }
            Tampering::Swap(one, other) if one != other => {
                entries.swap(one, other);
                (1..).zip(&mut *entries).for_each(|(number, entry)| entry.0 = number);
                one.min(other)
            }
            Tampering::Swap(..) => return 0,
            Tampering::CutOff(at) => {
                entries.truncate(at);
                at
            }
            Tampering::Repeat(at) => {
                let mut again = entries[at].clone();
                again.0 = entries[count - 1].0 + 1;
                entries.push(again);
                count
            }
        };
        first as u64 + 1
    }

    proptest! {
        #[test]
        fn first_entry_that_was_tampered_with_is_named(
            (count, how) in (2..30_usize).prop_flat_map(|count| (Just(count), tampering(count))),
        ) {
            let (state, mut entries) = entries(count as i64);
            let expected = tamper(&mut entries, &how);
            match walk(state, &entries) {
                Ok(_) => prop_assert_eq!(expected, 0),
                Err(ChainFault::Changed(number) | ChainFault::Missing(number) | ChainFault::Added(number)) => {
                    prop_assert_eq!(number, expected);
                }
                Err(fault) => prop_assert!(false, "{}", fault),
            }
        }
    }
}
