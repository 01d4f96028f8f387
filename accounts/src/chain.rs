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

pub use self::verify::{ChainFault, Verdict, VerifiedChain};
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
    // Before the look at the entries, so that whoever else removes some at this moment is done.
    let (_, sealed) = hold(write, chain).await?.ok_or(StoreError::Corrupt(CHAIN_STATE.name))?;
    let mut state = open(keys, chain, &sealed)?;
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
    let foot = End {
        entries: number.unsigned_abs(),
        hash: hash[..].try_into().map_err(|_| StoreError::Corrupt(CHAIN_STATE.name))?,
    };
    if foot.entries <= state.foot.entries {
        // Somebody put back what was removed, for `verify` to find.
        return Ok(0);
    }
    state.foot = foot;
    save(write, keys, chain, &state).await?;
    let sql = format!("DELETE FROM {table} WHERE number <= $1");
    let removed = sqlx::query(AssertSqlSafe(sql)).bind(number).execute(write.connection()).await?;
    Ok(removed.rows_affected())
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
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAIN: Chain = Chain::StaffLog;

    proptest! {
        #[test]
        fn no_text_makes_an_end_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<End>();
        }
    }

    /// A chain of these contents, and the hashes of its entries.
    pub(super) fn state_of(contents: &[Content]) -> (State, Vec<Hash>) {
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
