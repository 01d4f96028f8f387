//! A customer's e-mail address.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::printable::is_printable;

/// Longest address that mail can be sent to (RFC 5321 section 4.5.3.1.3), in bytes.
pub(crate) const MAX_LEN: usize = 254;
/// Longest part before the `@` (section 4.5.3.1.1), in bytes.
pub(crate) const MAX_LOCAL_LEN: usize = 64;
/// Longest part of a domain between dots (RFC 1035 section 2.3.4), in bytes.
const MAX_LABEL_LEN: usize = 63;

/// Why a text is not an e-mail address. Never says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// Longer than mail allows.
    #[error(
        "an e-mail address has at most {MAX_LEN} bytes, of them {MAX_LOCAL_LEN} before the `@`"
    )]
    TooLong,
    /// No `@`, or more than one.
    #[error("an e-mail address has exactly one `@`, as in name@example.org")]
    At,
    /// The part before the `@`.
    #[error(
        "the part before the `@` of the e-mail address is empty or has a character that it cannot have"
    )]
    Local,
    /// The part after the `@`.
    #[error("the part after the `@` of the e-mail address is not a domain, as in name@example.org")]
    Domain,
    /// A word of letters of two alphabets.
    #[error(
        "the e-mail address has a word with letters of two alphabets that look alike; write it in one of them"
    )]
    LookAlike,
}

/// An e-mail address, its domain in lower case; wiped when dropped, printed as `[sealed]`.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Reads an address as people write it.
    ///
    /// # Errors
    /// [`EmailError`] if mail could not be sent there, or the text could be taken for another address or for something
    /// else in a letter's head.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let email = Self::read(text)?;
        if email.0.split(['@', '.']).any(mixes_alphabets) {
            return Err(EmailError::LookAlike);
        }
        Ok(email)
    }

    /// Reads an address that was taken before, whatever it looks like.
    pub(crate) fn read(text: &str) -> Result<Self, EmailError> {
        if text.len() > MAX_LEN {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = text.split_once('@').ok_or(EmailError::At)?;
        if domain.contains('@') {
            return Err(EmailError::At);
        }
        check_local(local)?;
        let domain = domain.to_lowercase();
        if domain.is_empty() || !domain.split('.').all(is_label) {
            return Err(EmailError::Domain);
        }
        Ok(Self(format!("{local}@{domain}")))
    }

    /// The address.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = EmailError;

    fn from_str(text: &str) -> Result<Self, EmailError> {
        Self::parse(text)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

fn check_local(local: &str) -> Result<(), EmailError> {
    if local.len() > MAX_LOCAL_LEN {
        return Err(EmailError::TooLong);
    }
    let special = |c: char| c.is_whitespace() || "\"(),:;<>[\\]".contains(c);
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if local.is_empty() || dots || local.chars().any(|c| special(c) || !is_printable(c)) {
        return Err(EmailError::Local);
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let hyphen = label.starts_with('-') || label.ends_with('-');
    let letters = label.chars().all(|c| c.is_alphanumeric() || c == '-');
    (1..=MAX_LABEL_LEN).contains(&label.len()) && letters && !hyphen
}

/// Alphabets with letters that look like those of another one, by where they are.
const ALIKE: [&[RangeInclusive<char>]; 6] = [
    // Latin, of which some are wide.
    &['A'..='Z', 'a'..='z', '\u{c0}'..='\u{24f}', '\u{1e00}'..='\u{1eff}', '\u{ff21}'..='\u{ff5a}'],
    // Greek, Cyrillic, Armenian, Cherokee.
    &['\u{370}'..='\u{3ff}', '\u{1f00}'..='\u{1fff}'],
    &['\u{400}'..='\u{52f}', '\u{1c80}'..='\u{1c8f}', '\u{a640}'..='\u{a69f}'],
    &['\u{531}'..='\u{588}'],
    &['\u{13a0}'..='\u{13fd}', '\u{ab70}'..='\u{abbf}'],
    // Letters of formulas.
    &['\u{2100}'..='\u{214f}', '\u{1d400}'..='\u{1d7ff}'],
];

/// Whether a word has letters of two alphabets, with which one address can be made to look like another.
fn mixes_alphabets(word: &str) -> bool {
    let has = |alphabet: &&&[RangeInclusive<char>]| {
        word.chars().any(|c| alphabet.iter().any(|letters| letters.contains(&c)))
    };
    ALIKE.iter().filter(has).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_of_two_alphabets_that_look_alike_is_refused_and_was_taken_before() {
        for text in ["\u{430}nn@example.org", "ann@ex\u{430}mple.org", "ann@example.\u{3bf}rg"] {
            assert!(EmailAddress::parse(text) == Err(EmailError::LookAlike), "{text}");
            assert!(EmailAddress::read(text).is_ok(), "{text}");
        }
        for text in
            ["анна@пример.example", "ann@пример.example", "Zoë@bücher.example", "アン@例え.example"]
        {
            assert!(EmailAddress::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn domain_is_lower_cased_and_the_rest_is_kept() {
        let email = EmailAddress::parse("Ann.Lee+vpn@Mail.Example.ORG").unwrap();
        assert_eq!(email.expose(), "Ann.Lee+vpn@mail.example.org");
    }

    #[test]
    fn reading_what_was_written_changes_nothing() {
        let email = EmailAddress::parse("Zoë@BÜCHER.example").unwrap();
        assert!(EmailAddress::parse(email.expose()) == Ok(email));
    }

    #[test]
    fn what_mail_cannot_reach_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        let longer = format!("a@{}.example", "b.".repeat(130));
        for (text, fault) in [
            ("", EmailError::At),
            ("ann", EmailError::At),
            ("ann@@example.org", EmailError::At),
            ("ann@b@example.org", EmailError::At),
            ("@example.org", EmailError::Local),
            ("ann lee@example.org", EmailError::Local),
            ("ann\r\nBcc:x@example.org", EmailError::Local),
            ("ann\u{202e}@example.org", EmailError::Local),
            ("<ann@example.org", EmailError::Local),
            (".ann@example.org", EmailError::Local),
            ("ann@", EmailError::Domain),
            ("ann@example..org", EmailError::Domain),
            ("ann@-example.org", EmailError::Domain),
            ("ann@example.org\n", EmailError::Domain),
            ("ann@example.org>", EmailError::Domain),
            (long.as_str(), EmailError::TooLong),
            (longer.as_str(), EmailError::TooLong),
        ] {
            assert!(EmailAddress::parse(text) == Err(fault), "{text:?}");
        }
    }

    #[test]
    fn printing_shows_nothing() {
        let email = EmailAddress::parse("ann@example.org").unwrap();
        assert_eq!(format!("{email:?}"), "[sealed]");
    }
}
