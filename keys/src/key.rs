//! Private, public and preshared keys, in and out of the text that `wg` reads and prints.

use std::{fmt, str::FromStr};

use base64::{DecodeSliceError, Engine, engine::general_purpose::STANDARD};
use rand_core::{OsRng, RngCore};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a key in base64, the only form in which `wg` reads and prints one.
const TEXT_LEN: usize = 44;

/// Why a text or a point is not a key. Never says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 44 characters long.
    #[error("a key has 44 characters; this text has another length")]
    Length,
    /// A character that base64 does not have, or no `=` at the end.
    #[error("a key is base64 and ends in one `=`; this text is something else")]
    NotBase64,
    /// The last character carries bits that no key has.
    #[error("the key's last character but one is wrong; copy the whole key again")]
    NotCanonical,
    /// All bytes are zero, which WireGuard reads as no key.
    #[error("the key is all zero, which means no key; make one with `wg genkey` or `wg genpsk`")]
    Zero,
    /// A public key with which every shared secret is zero.
    #[error("the public key is a point of low order, which is unsafe; make one with `wg pubkey`")]
    LowOrder,
}

/// A WireGuard private key, wiped when dropped, printed as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

impl PrivateKey {
    /// Makes a new key from the system's randomness, clamped as `wg genkey` does.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = Self(random_bytes());
        key.0[0] &= 248;
        key.0[31] = (key.0[31] & 127) | 64;
        key
    }

    /// Takes the key's bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as `wg` prints it.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        encode(&self.0)
    }

    /// The public key that belongs to this key, as `wg pubkey` computes it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&StaticSecret::from(self.0)).to_bytes())
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A key shared by the gateway and one device (WireGuard paper section 5.2), wiped when dropped,
/// printed as `[redacted]`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

impl PresharedKey {
    /// Makes a new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_bytes())
    }

    /// Takes the key's bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as `wg` prints it.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        encode(&self.0)
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A WireGuard public key. It names a customer's device: only [`fmt::Display`] shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the key's bytes.
    ///
    /// # Errors
    /// [`KeyError::Zero`] or [`KeyError::LowOrder`] if every shared secret with it would be zero.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        if bytes == [0; 32] {
            return Err(KeyError::Zero);
        }
        let mut point = bytes;
        point[31] &= 127; // X25519 ignores the top bit (RFC 7748 section 5).
        if LOW_ORDER_POINTS.contains(&point) {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(*decode(text)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[public key]")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The encodings below 2^255 of all points whose order divides 8, on the curve and on its twist.
const LOW_ORDER_POINTS: [[u8; 32]; 7] = [
    [0; 32],
    little_endian(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    little_endian(0xec, 0xff, 0x7f), // p - 1, p = 2^255 - 19
    little_endian(0xed, 0xff, 0x7f), // p, another 0
    little_endian(0xee, 0xff, 0x7f), // p + 1, another 1
];

const fn little_endian(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

fn encode(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
    STANDARD.encode_string(bytes, &mut text);
    text
}

fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    if text.len() != TEXT_LEN {
        return Err(KeyError::Length);
    }
    let mut decoded = Zeroizing::new([0; 33]);
    let len = STANDARD.decode_slice(text, &mut *decoded).map_err(|error| match error {
        DecodeSliceError::DecodeError(base64::DecodeError::InvalidLastSymbol(..)) => {
            KeyError::NotCanonical
        }
        _ => KeyError::NotBase64,
    })?;
    let mut key = Zeroizing::new([0; 32]);
    if len != key.len() {
        return Err(KeyError::NotBase64);
    }
    key.copy_from_slice(&decoded[..32]);
    if *key == [0; 32] {
        return Err(KeyError::Zero);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made with `wg genkey` and `wg pubkey` of wireguard-tools.
    const PAIRS: [(&str, &str); 4] = [
        (
            "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=",
            "KB0EsYBXJQAuCygRsYlx3i2rq9p0RuuMELMD+OJhgDw=",
        ),
        (
            "8G9iSTQHSS7SQWQ+MqLejjuQp9lhUS4Fw+SX2BtKx2Y=",
            "s3WjWh4eI093iCQMwInD96QIi8HypKJROrrFPfcxhC8=",
        ),
        (
            "+M5gitpfltKLwuWth9RP/Asx4yVxS5+IYfSEXzRbyU0=",
            "af1VC3It7fBbZlhYmahCZjv97K9fGESjWZSDjfCVg2E=",
        ),
        // Not clamped.
        (
            "//////////////////////////////////////////8=",
            "hHwNLDdSNPNl5mCVUYejc1oPdhPRYJ06ak2MU66qWiI=",
        ),
    ];

    #[test]
    fn public_keys_are_those_of_wg_pubkey() {
        for (private, public) in PAIRS {
            let private: PrivateKey = private.parse().unwrap();
            assert_eq!(private.public_key().to_string(), public);
        }
    }

    #[test]
    fn generated_keys_are_clamped_and_differ() {
        let (one, other) = (PrivateKey::generate(), PrivateKey::generate());
        assert!(one != other);
        assert_eq!(one.expose()[0] & 7, 0);
        assert_eq!(one.expose()[31] & 192, 64);
        assert!(PresharedKey::generate() != PresharedKey::generate());
    }

    #[test]
    fn what_wg_refuses_is_refused() {
        for (text, fault) in [
            ("", KeyError::Length),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDE", KeyError::Length),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDE=\n", KeyError::Length),
            (" mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDE=", KeyError::Length),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDEx", KeyError::NotBase64),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvD==", KeyError::NotCanonical),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMW_vDE=", KeyError::NotBase64),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMW vDE=", KeyError::NotBase64),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDF=", KeyError::NotCanonical),
            ("mPSJyNXpO6kzgoYWoN8yBgsXRpY9r29qcuQKLMWmvDG=", KeyError::NotCanonical),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", KeyError::Zero),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(fault), "{text:?}");
            assert!(text.parse::<PrivateKey>() == Err(fault), "{text:?}");
            assert!(text.parse::<PresharedKey>() == Err(fault), "{text:?}");
        }
    }

    #[test]
    fn secrets_print_as_redacted() {
        assert_eq!(format!("{:?}", PrivateKey::generate()), "[redacted]");
        assert_eq!(format!("{:?}", PresharedKey::generate()), "[redacted]");
        assert_eq!(format!("{:?}", PrivateKey::generate().public_key()), "[public key]");
    }

    /// Whether every shared secret with `point` is zero.
    fn is_unsafe(point: [u8; 32]) -> bool {
        let shared = StaticSecret::from([9; 32]).diffie_hellman(&point.into());
        !shared.was_contributory()
    }

    #[test]
    fn points_of_low_order_are_refused() {
        for point in LOW_ORDER_POINTS {
            for top_bit in [0, 128] {
                let mut bytes = point;
                bytes[31] |= top_bit;
                assert!(is_unsafe(bytes));
                assert!(PublicKey::from_bytes(bytes).is_err());
            }
        }
    }

    #[test]
    fn points_beside_those_of_low_order_are_keys() {
        for last in [0, 127] {
            for first in 0..=255 {
                for middle in [0, 255] {
                    let bytes = little_endian(first, middle, last);
                    assert_eq!(PublicKey::from_bytes(bytes).is_err(), is_unsafe(bytes));
                }
            }
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn public_key_is_text_in_json() {
        let key = PrivateKey::generate().public_key();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<PublicKey>("\"AAAA\"").is_err());
    }

    proptest! {
        #[test]
        fn keys_survive_text(bytes in any::<[u8; 32]>().prop_filter("zero", |key| *key != [0; 32])) {
            let text = PresharedKey::from_bytes(bytes).expose_base64();
            prop_assert_eq!(text.len(), TEXT_LEN);
            prop_assert_eq!(*text.parse::<PresharedKey>().unwrap().expose(), bytes);
            prop_assert_eq!(text.parse::<PrivateKey>().unwrap().expose_base64(), text.clone());
            let public: PublicKey = text.parse().unwrap();
            prop_assert_eq!(public.to_string(), text.as_str());
        }

        #[test]
        fn each_key_has_one_text(text in "[A-Za-z0-9+/]{42}[A-Za-z0-9+/=]=") {
            if let Ok(key) = text.parse::<PresharedKey>() {
                prop_assert_eq!(&*key.expose_base64(), &text);
            }
        }
    }
}
