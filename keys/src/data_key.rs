//! The data key: seals personal data before it is written to the store, which does not have the key.
//!
//! A sealed value is, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this format, 1 |
//! | 4 | [`KeyId`] of the key, big-endian |
//! | 24 | random nonce |
//! | as the plaintext | ciphertext (XChaCha20-Poly1305) |
//! | 16 | tag |
//!
//! The tag also covers version, key and [`Place`], so a value opens only in the row and column that it was sealed for.

use std::fmt;

use blake2::{Blake2sMac256, digest::Mac};
use chacha20poly1305::{AeadInPlace, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use rand_core::{OsRng, RngCore};
use zeroize::Zeroizing;

use crate::PresharedKey;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const HEAD_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// How much longer a sealed value is than what it hides.
pub const SEAL_LEN: usize = HEAD_LEN + TAG_LEN;

/// Tells data keys apart; says nothing about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Where in the store a sealed value belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The number of the row.
    pub row: i64,
}

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, or of another version.
    #[error("the value is not a sealed one")]
    NotSealed,
    /// Sealed with a key that is not at hand.
    #[error("the value is sealed with another data key, {0}")]
    OtherKey(KeyId),
    /// Changed, or moved from another row or column.
    #[error("the sealed value was changed or belongs elsewhere")]
    Forged,
}

/// A key that seals personal data, wiped when dropped, printed as `[redacted]`.
#[derive(Clone)]
pub struct DataKey {
    key: PresharedKey,
    id: KeyId,
    sealing: Zeroizing<[u8; 32]>,
}

impl DataKey {
    /// Makes a new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(PresharedKey::generate())
    }

    /// Takes 32 random bytes as the key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::new(PresharedKey::from_bytes(bytes))
    }

    pub(crate) fn new(key: PresharedKey) -> Self {
        let id = derive(&key, b"tacit data key: id", &[]);
        let id = KeyId(u32::from_be_bytes([id[0], id[1], id[2], id[3]]));
        let sealing = derive(&key, b"tacit data key: sealing", &[]);
        Self { key, id, sealing }
    }

    /// What the key is told apart by.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key as its file has it.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        self.key.expose_base64()
    }

    /// Seals `plaintext` for `place`.
    #[must_use]
    pub fn seal(&self, place: Place, plaintext: &[u8]) -> Vec<u8> {
        let mut nonce = XNonce::default();
        OsRng.fill_bytes(&mut nonce);
        let mut sealed = Vec::with_capacity(plaintext.len() + SEAL_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.0.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = self
            .cipher()
            .encrypt_in_place_detached(&nonce, &bound(self.id, place), &mut sealed[HEAD_LEN..])
            .expect("a column's value is shorter than what the cipher can take, 256 GiB");
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`Self::seal`] sealed for `place`.
    ///
    /// # Errors
    /// [`OpenError`] if it is not that.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let id = sealing_key(sealed).ok_or(OpenError::NotSealed)?;
        if id != self.id {
            return Err(OpenError::OtherKey(id));
        }
        let nonce = XNonce::from_slice(&sealed[HEAD_LEN - NONCE_LEN..HEAD_LEN]);
        let (ciphertext, tag) = sealed[HEAD_LEN..].split_at(sealed.len() - SEAL_LEN);
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        self.cipher()
            .decrypt_in_place_detached(
                nonce,
                &bound(id, place),
                &mut plaintext,
                Tag::from_slice(tag),
            )
            .map_err(|_| OpenError::Forged)?;
        Ok(plaintext)
    }

    /// A keyed hash of `value`, by which it is found without being opened; `purpose` tells equal values of different columns apart.
    #[must_use]
    pub fn look_up_hash(&self, purpose: &str, value: &[u8]) -> [u8; 32] {
        let key = derive(&self.key, b"tacit data key: look-up of ", purpose.as_bytes());
        *keyed_hash(&key, &[value])
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.sealing).into())
    }
}

impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for DataKey {}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Which key a value was sealed with; `None` if it is not a sealed value.
#[must_use]
pub fn sealing_key(sealed: &[u8]) -> Option<KeyId> {
    if sealed.len() < SEAL_LEN || sealed[0] != VERSION {
        return None;
    }
    Some(KeyId(u32::from_be_bytes([sealed[1], sealed[2], sealed[3], sealed[4]])))
}

/// What a value's tag covers besides the value.
fn bound(id: KeyId, place: Place) -> Vec<u8> {
    let mut bound = vec![VERSION];
    bound.extend_from_slice(&id.0.to_be_bytes());
    for name in [place.table, place.column] {
        bound.extend_from_slice(name.as_bytes());
        bound.push(0);
    }
    bound.extend_from_slice(&place.row.to_be_bytes());
    bound
}

fn derive(key: &PresharedKey, purpose: &[u8], detail: &[u8]) -> Zeroizing<[u8; 32]> {
    keyed_hash(key.expose(), &[purpose, detail])
}

/// BLAKE2s with a key, which RFC 7693 defines as a MAC.
fn keyed_hash(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = <Blake2sMac256 as blake2::digest::KeyInit>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place { table: "accounts", column: "email", row: 7 };

    fn key(number: u8) -> DataKey {
        DataKey::from_bytes([number; 32])
    }

    #[test]
    fn value_opens_only_where_it_was_sealed_for() {
        let sealed = key(1).seal(PLACE, b"ann");
        assert_eq!(**key(1).open(PLACE, &sealed).unwrap(), *b"ann");
        for elsewhere in [
            Place { row: 8, ..PLACE },
            Place { column: "name", ..PLACE },
            Place { table: "archive", ..PLACE },
            Place { table: "accountsemail", column: "", row: 7 },
        ] {
            assert_eq!(key(1).open(elsewhere, &sealed).unwrap_err(), OpenError::Forged);
        }
    }

    #[test]
    fn other_key_is_told_by_its_id() {
        let sealed = key(1).seal(PLACE, b"ann");
        assert_eq!(sealing_key(&sealed), Some(key(1).id()));
        let error = key(2).open(PLACE, &sealed).unwrap_err();
        assert_eq!(error, OpenError::OtherKey(key(1).id()));
    }

    #[test]
    fn what_is_too_short_or_of_another_version_is_no_sealed_value() {
        let sealed = key(1).seal(PLACE, b"");
        assert_eq!(sealed.len(), SEAL_LEN);
        assert_eq!(**key(1).open(PLACE, &sealed).unwrap(), *b"");
        for len in 0..SEAL_LEN {
            assert_eq!(key(1).open(PLACE, &sealed[..len]).unwrap_err(), OpenError::NotSealed);
        }
        let mut later = sealed;
        later[0] = 2;
        assert_eq!(key(1).open(PLACE, &later).unwrap_err(), OpenError::NotSealed);
    }

    #[test]
    fn format_stays_what_it_is() {
        // Computed with Python's hashlib (keyed BLAKE2s).
        let key = DataKey::from_bytes(std::array::from_fn(|index| index as u8));
        assert_eq!(key.id().to_string(), "b676b55c");
        let hash = key.look_up_hash("accounts.email", b"ann@example.org");
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "c90cb020b383ba00650003b99050e5b6d672f729478ea93987aac7e90fcf6b55");
    }

    #[test]
    fn look_up_hash_depends_on_key_and_purpose() {
        let hash = key(1).look_up_hash("a", b"value");
        assert_eq!(hash, key(1).look_up_hash("a", b"value"));
        assert_ne!(hash, key(2).look_up_hash("a", b"value"));
        assert_ne!(hash, key(1).look_up_hash("b", b"value"));
        assert_ne!(hash, key(1).look_up_hash("a", b"valu"));
    }

    #[test]
    fn printing_shows_no_key() {
        assert_eq!(format!("{:?}", key(1)), "[redacted]");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again(
            bytes in any::<[u8; 32]>(),
            row in any::<i64>(),
            plaintext in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let key = DataKey::from_bytes(bytes);
            let place = Place { row, ..PLACE };
            let sealed = key.seal(place, &plaintext);
            prop_assert_eq!(sealed.len(), plaintext.len() + SEAL_LEN);
            prop_assert_eq!(&**key.open(place, &sealed).unwrap(), &plaintext);
            prop_assert_ne!(key.seal(place, &plaintext), sealed, "a nonce came twice");
        }

        #[test]
        fn any_change_is_noticed(
            plaintext in prop::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            flipped in 1..=255u8,
        ) {
            let mut sealed = key(1).seal(PLACE, &plaintext);
            let at = at.index(sealed.len());
            sealed[at] ^= flipped;
            prop_assert!(key(1).open(PLACE, &sealed).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(key(1).open(PLACE, &bytes).is_err());
        }
    }
}
