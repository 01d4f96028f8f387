//! The words of the rules, and what may stand in them.

use crate::printable::is_printable;

/// The rules that are in force until an operator publishes others.
pub const DEFAULT_RULES: &str = include_str!("../../rules/default.md");

/// Longest text, in bytes.
pub const MAX_LEN: usize = 128 * 1024;

/// Longest summary, in characters.
const MAX_SUMMARY: usize = 1000;

/// Why a text cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but blanks.
    #[error("the rules are empty; name a file with their text")]
    Empty,
    /// Longer than anybody reads.
    #[error("the rules have more than {MAX_LEN} bytes; shorten them")]
    TooLong,
    /// Not text.
    #[error("the rules are not UTF-8 text; save them as such")]
    NotText,
    /// A character that does not show as itself.
    #[error("line {0} of the rules has a control or invisible character; remove it")]
    Unprintable(usize),
    /// The summary has the wrong length, more than one line, or a character that does not show as itself.
    #[error("a summary is one line of 1 to {MAX_SUMMARY} printable characters")]
    Summary,
}

/// The text of the rules: lines of printable characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesText(String);

impl RulesText {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`TextError`]
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        if bytes.len() > MAX_LEN {
            return Err(TextError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let is_wrong = |line: &str| line.chars().any(|c| c != '\t' && !is_printable(c));
        if let Some(number) = text.split('\n').position(is_wrong) {
            return Err(TextError::Unprintable(number + 1));
        }
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        Ok(Self(format!("{}\n", text.trim_end())))
    }

    /// The text; each line ends with a line feed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a version changes, in one line for the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary(String);

impl Summary {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// [`TextError::Summary`]
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        let length = text.chars().count();
        if !(1..=MAX_SUMMARY).contains(&length) || !text.chars().all(is_printable) {
            return Err(TextError::Summary);
        }
        Ok(Self(text.to_owned()))
    }

    /// A summary of the program's own making, shortened if need be.
    pub(crate) fn made(text: &str) -> Self {
        let mut short: String =
            text.chars().filter(|c| is_printable(*c)).take(MAX_SUMMARY).collect();
        if text.chars().count() > MAX_SUMMARY {
            short.pop();
            short.push('…');
        }
        Self(short)
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_rules_can_be_published() {
        assert_eq!(RulesText::parse(DEFAULT_RULES.as_bytes()).unwrap().as_str(), DEFAULT_RULES);
    }

    #[test]
    fn line_ends_of_other_systems_are_taken() {
        assert_eq!(RulesText::parse(b"\xef\xbb\xbfa\r\nb\r\n\r\n").unwrap().as_str(), "a\nb\n");
    }

    #[test]
    fn hostile_text_is_refused() {
        let long = vec![b'a'; MAX_LEN + 1];
        for (bytes, error) in [
            (&b""[..], TextError::Empty),
            (b" \n\t\n", TextError::Empty),
            (b"\xff\xfe", TextError::NotText),
            (b"one\ntwo \x1b[2J", TextError::Unprintable(2)),
            (b"one\rtwo", TextError::Unprintable(1)),
            ("one\n\n\u{202e}eno".as_bytes(), TextError::Unprintable(3)),
            (b"\0", TextError::Unprintable(1)),
            (&long, TextError::TooLong),
        ] {
            assert_eq!(RulesText::parse(bytes), Err(error));
        }
        let long = "a".repeat(MAX_SUMMARY + 1);
        for text in ["", " ", "a\r\nBcc: x@example.org", "a\u{202e}b", &long] {
            assert_eq!(Summary::parse(text), Err(TextError::Summary));
        }
    }

    #[test]
    fn summary_of_own_making_always_fits() {
        let made = Summary::made(&"ab\n".repeat(MAX_SUMMARY));
        assert_eq!(Summary::parse(made.as_str()), Ok(made));
    }
}
