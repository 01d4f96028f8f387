//! Secrets that are given to a customer once and kept as a hash only: links in letters, and activation codes.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of a link's token in bytes before it is text.
const LEN: usize = 32;

/// The part of a link that shows that its letter was received. Random: it says nothing about anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    pub(crate) fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; LEN]);
        OsRng.fill_bytes(&mut *bytes);
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// The text that goes into the link.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> Vec<u8> {
        hash("tacit link", &self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Reads what came back in a link; a text that is no token is one that nobody was given.
impl From<&str> for Token {
    fn from(text: &str) -> Self {
        let longest = text.floor_char_boundary(2 * LEN);
        Self(Zeroizing::new(text[..longest].to_owned()))
    }
}

/// Bytes as they stand in links and cookies.
pub(crate) fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a secret that cannot be guessed: no key or salt is needed.
pub(crate) fn hash(purpose: &str, secret: &str) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(purpose.as_bytes());
    hash.update([0]);
    hash.update(secret.as_bytes());
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_comes_back_from_its_link() {
        let token = Token::generate();
        assert_eq!(token.expose().len(), 43);
        assert_eq!(Token::from(token.expose()).hash(), token.hash());
        assert_ne!(Token::generate().hash(), token.hash());
    }

    #[test]
    fn hash_depends_on_its_purpose() {
        assert_ne!(hash("a", "secret"), hash("b", "secret"));
        assert_ne!(hash("a", "secret"), hash("a", "secre"));
    }

    #[test]
    fn printing_shows_nothing() {
        assert_eq!(format!("{:?}", Token::generate()), "[redacted]");
    }
}
