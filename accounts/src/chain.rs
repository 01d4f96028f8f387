//! Lists that show it when an entry was changed, removed, moved or cut off.
//!
//! Each entry has a keyed hash of its number, its content and the hash of the entry before. The key of a chain, its
//! head (how many entries there are, and the last one's hash) and its foot (how many were removed when their time was
//! over, and the last of those's hash) are sealed in the table `chains`, so that nobody without the data key can write
//! an entry, or take the last ones away.

mod verify;

use std::{fmt, str::FromStr};

use rand_core::{OsRng, RngCore};
use sqlx::{AnyConnection, AssertSqlSafe};
use tacit_keys::{DataKey, DataKeys};
use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

pub(crate) use self::verify::{EVERYBODY, Entry, verify};
use crate::{StoreError, personal::CHAIN_STATE, store::Write, times::time_column};

/// Length of an entry's hash in bytes.
pub(crate) const HASH_LEN: usize = 32;

/// Key, foot and head.
const STATE_LEN: usize = 32 + 2 * (8 + HASH_LEN);

/// A hash of an entry and so of all before it.
pub(crate) type Hash = [u8; HASH_LEN];

/// What the first entry follows.
const NOTHING: Hash = [0; HASH_LEN];

/// A hash-chained list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Who of the staff looked at or changed what.
    StaffLog,
    /// What left, to whom, on which basis.
    Disclosures,
}

impl Chain {
    /// Both chains.
    pub const ALL: [Self; 2] = [Self::StaffLog, Self::Disclosures];

    /// The chain's name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaffLog => "staff log",
            Self::Disclosures => "disclosure register",
        }
    }

    const fn id(self) -> i64 {
        match self {
            Self::StaffLog => 1,
            Self::Disclosures => 2,
        }
    }

    /// Tells hashes of this chain, and of this layout of its entries, from all others.
    const fn purpose(self) -> &'static str {
        match self {
            Self::StaffLog => "staff_log.hash 1",
            Self::Disclosures => "disclosures.hash 1",
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::StaffLog => "staff_log",
            Self::Disclosures => "disclosures",
        }
    }

    const fn count(self) -> &'static str {
        match self {
            Self::StaffLog => "SELECT COUNT(*) FROM staff_log",
            Self::Disclosures => "SELECT COUNT(*) FROM disclosures",
        }
    }
}

/// An entry's content in the one way that it is hashed: numbers as eight bytes, texts with their length before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content(Vec<u8>);

impl Content {
    pub(crate) fn number(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn optional_number(mut self, number: Option<i64>) -> Self {
        self.0.push(u8::from(number.is_some()));
        self.number(number.unwrap_or(0))
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut content = self.number(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        content.0.extend_from_slice(bytes);
        content
    }
}

/// Where a chain ends: how many entries came before, and the last one's hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// How many entries there were up to here.
    pub entries: u64,
    hash: Hash,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.entries)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no chain's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an end of a chain is a number, a colon and 64 hexadecimal digits, as `tacit staff verify` prints it"
)]
pub struct EndError;

impl FromStr for End {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        let (entries, digits) = text.split_once(':').ok_or(EndError)?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits.len() != 2 * HASH_LEN || !plain(digits) || !plain(entries) {
            return Err(EndError);
        }
        let mut hash = NOTHING;
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| EndError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| EndError)?;
        }
        Ok(Self { entries: entries.parse().map_err(|_| EndError)?, hash })
    }
}

/// What of a chain is sealed.
pub(crate) struct State {
    key: Zeroizing<[u8; 32]>,
    foot: End,
    head: End,
}

impl State {
    fn new() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *key);
        let nothing = End { entries: 0, hash: NOTHING };
        Self { key, foot: nothing, head: nothing }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STATE_LEN] = bytes.try_into().ok()?;
        let (key, ends) = bytes.split_first_chunk::<32>()?;
        let end = |bytes: &[u8]| {
            let (entries, hash) = bytes.split_first_chunk::<8>()?;
            Some(End { entries: u64::from_be_bytes(*entries), hash: hash.try_into().ok()? })
        };
        let (foot, head) = ends.split_at(ends.len() / 2);
        Some(Self { key: Zeroizing::new(*key), foot: end(foot)?, head: end(head)? })
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(STATE_LEN));
        bytes.extend_from_slice(&*self.key);
        for end in [self.foot, self.head] {
            bytes.extend_from_slice(&end.entries.to_be_bytes());
            bytes.extend_from_slice(&end.hash);
        }
        bytes
    }

    /// The hash of the entry that follows `before`.
    fn hash(&self, chain: Chain, before: End, content: &Content) -> Hash {
        let mut bytes = (before.entries + 1).to_be_bytes().to_vec();
        bytes.extend_from_slice(&before.hash);
        bytes.extend_from_slice(&content.0);
        DataKey::from_bytes(*self.key).look_up_hash(chain.purpose(), &bytes)
    }
}

/// An entry that is being written: its number, and its hash.
pub(crate) struct Next {
    pub(crate) number: i64,
    pub(crate) hash: Hash,
}

/// Makes the chains of a store that has none yet.
pub(crate) async fn adopt(write: &mut Write, keys: &DataKeys) -> Result<(), StoreError> {
    for chain in Chain::ALL {
        let entries: i64 = sqlx::query_scalar(chain.count()).fetch_one(write.connection()).await?;
        // Entries without a head are somebody's doing, which a new one would hide.
        if entries == 0 {
            let state = State::new().bytes();
            sqlx::query(
                "INSERT INTO chains (id, entries, state) VALUES ($1, 0, $2) ON CONFLICT (id) DO NOTHING",
            )
            .bind(chain.id())
            .bind(keys.current().seal(CHAIN_STATE.place(chain.id()), &state))
            .execute(write.connection())
            .await?;
        }
    }
    Ok(())
}

/// Takes the next place of the chain for an entry with this content, which the caller then writes in the same change.
pub(crate) async fn extend(
    write: &mut Write,
    keys: &DataKeys,
    chain: Chain,
    content: &Content,
) -> Result<Next, StoreError> {
    // First of all, so that whoever else writes an entry waits here.
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as(
        "UPDATE chains SET entries = entries + 1 WHERE id = $1 RETURNING entries, state",
    )
    .bind(chain.id())
    .fetch_optional(write.connection())
    .await?;
    let (number, sealed) = row.ok_or(StoreError::Corrupt(CHAIN_STATE.name))?;
    let mut state = open(keys, chain, &sealed)?;
    let hash = state.hash(chain, state.head, content);
    state.head = End { entries: state.head.entries + 1, hash };
    if i64::try_from(state.head.entries) != Ok(number) {
        return Err(StoreError::Corrupt("chains.entries"));
    }
    save(write, keys, chain, &state).await?;
    Ok(Next { number, hash })
}

/// Removes the entries from the chain's begin on that were made at `latest` or before, and returns how many.
pub(crate) async fn remove_past(
    write: &mut Write,
    keys: &DataKeys,
    chain: Chain,
    latest: UnixSeconds,
) -> Result<u64, StoreError> {
    let table = chain.table();
    // Up to the first that stays: a chain is shortened at its begin only.
    let last: Option<(i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT number, hash FROM {table} WHERE number <
            COALESCE((SELECT MIN(number) FROM {table} WHERE at > $1), number + 1)
         ORDER BY number DESC LIMIT 1"
    )))
    .bind(time_column(latest))
    .fetch_optional(write.connection())
    .await?;
    let Some((number, hash)) = last else { return Ok(0) };
    let hash = hash[..].try_into().map_err(|_| StoreError::Corrupt(CHAIN_STATE.name))?;
    shorten(write, keys, chain, (number, hash)).await?;
    let sql = format!("DELETE FROM {table} WHERE number <= $1");
    let removed = sqlx::query(AssertSqlSafe(sql)).bind(number).execute(write.connection()).await?;
    Ok(removed.rows_affected())
}

/// Moves the chain's foot on to the entry of this number and hash: that one and all before it are being removed.
async fn shorten(
    write: &mut Write,
    keys: &DataKeys,
    chain: Chain,
    last_removed: (i64, Hash),
) -> Result<(), StoreError> {
    let row = hold(write, chain).await?;
    let (_, sealed) = row.ok_or(StoreError::Corrupt(CHAIN_STATE.name))?;
    let mut state = open(keys, chain, &sealed)?;
    state.foot = End { entries: last_removed.0.unsigned_abs(), hash: last_removed.1 };
    save(write, keys, chain, &state).await
}

async fn save(
    write: &mut Write,
    keys: &DataKeys,
    chain: Chain,
    state: &State,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE chains SET state = $1 WHERE id = $2")
        .bind(keys.current().seal(CHAIN_STATE.place(chain.id()), &state.bytes()))
        .bind(chain.id())
        .execute(write.connection())
        .await?;
    Ok(())
}

fn open(keys: &DataKeys, chain: Chain, sealed: &[u8]) -> Result<State, StoreError> {
    let bytes = CHAIN_STATE.open(keys, chain.id(), sealed)?;
    State::read(&bytes).ok_or(StoreError::Corrupt(CHAIN_STATE.name))
}

/// The number of the chain's entries and its sealed state, which nobody else changes until this change ends.
async fn hold(write: &mut Write, chain: Chain) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
    // An update, because that is how both databases let one wait for another.
    let row = sqlx::query_as(
        "UPDATE chains SET entries = entries WHERE id = $1 RETURNING entries, state",
    );
    Ok(row.bind(chain.id()).fetch_optional(write.connection()).await?)
}

/// What tells the store from every other, also once it is restored from a backup, and tells nothing else; `None` if the
/// store has lost it.
pub(crate) async fn mark(
    connection: &mut AnyConnection,
    keys: &DataKeys,
) -> Result<Option<Hash>, sqlx::Error> {
    let chain = Chain::StaffLog;
    let sealed: Option<Vec<u8>> = sqlx::query_scalar("SELECT state FROM chains WHERE id = $1")
        .bind(chain.id())
        .fetch_optional(connection)
        .await?;
    let state = sealed.and_then(|sealed| open(keys, chain, &sealed).ok());
    Ok(state.map(|state| DataKey::from_bytes(*state.key).look_up_hash("store", &[])))
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

    const CHAIN: Chain = Chain::StaffLog;

    type Entry = (i64, Content, Hash);

    fn entries(count: i64) -> (State, Vec<Entry>) {
        let contents: Vec<_> = (1..=count).map(|at| Content::default().number(at / 2)).collect();
        let (state, hashes) = state_of(&contents);
        let numbered = (1..).zip(contents).zip(hashes);
        (state, numbered.map(|((number, content), hash)| (number, content, hash)).collect())
    }

    fn walk(state: State, entries: &[Entry]) -> Verdict {
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
    fn tamper(entries: &mut Vec<Entry>, how: &Tampering) -> u64 {
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

        #[test]
        fn no_text_makes_an_end_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<End>();
        }
    }

    fn state_of(contents: &[Content]) -> (State, Vec<Hash>) {
        let mut state = State::new();
        let mut hashes = Vec::new();
        for content in contents {
            let hash = state.hash(CHAIN, state.head, content);
            state.head = End { entries: state.head.entries + 1, hash };
            hashes.push(hash);
        }
        (state, hashes)
    }

    #[test]
    fn content_cannot_be_read_in_two_ways() {
        let one = Content::default().bytes(b"ab").bytes(b"c");
        let other = Content::default().bytes(b"a").bytes(b"bc");
        assert_ne!(one, other);
        let none = Content::default().optional_number(None);
        assert_ne!(none, Content::default().optional_number(Some(0)));
    }

    #[test]
    fn hash_depends_on_key_chain_place_and_former_entries() {
        let content = Content::default().number(7);
        let (state, hashes) = state_of(&[content.clone(), content.clone()]);
        assert_ne!(hashes[0], hashes[1]);
        let nothing = End { entries: 0, hash: NOTHING };
        assert_ne!(State::new().hash(CHAIN, nothing, &content), hashes[0]);
        assert_ne!(state.hash(Chain::Disclosures, nothing, &content), hashes[0]);
    }

    #[test]
    fn end_is_read_as_it_is_written() {
        let (state, _) = state_of(&[Content::default()]);
        assert_eq!(state.head.to_string().parse::<End>().unwrap(), state.head);
        for text in [
            "",
            "1",
            "1:",
            "x:00",
            &format!("1:{}", "é".repeat(32)),
            &format!("+1:{}", "0".repeat(64)),
        ] {
            assert_eq!(text.parse::<End>(), Err(EndError), "{text}");
        }
    }

    #[test]
    fn state_is_read_as_it_is_written() {
        let (state, _) = state_of(&[Content::default(), Content::default()]);
        let read = State::read(&state.bytes()).unwrap();
        assert!(read.head == state.head && read.foot == state.foot && read.key == state.key);
        assert!(State::read(&state.bytes()[1..]).is_none());
    }
}
