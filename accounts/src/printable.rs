//! Which characters may stand in text that people write and others read.

use std::{fmt, str::FromStr};

use zeroize::Zeroizing;

/// Whether `c` shows as itself: no control character, nothing invisible, nothing that turns the line around.
pub(crate) fn is_printable(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !hidden
}

/// Longest line in characters.
pub(crate) const MAX_LINE_CHARS: usize = 200;

/// Why a text is no line. Never says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Empty or too long.
    #[error("a reference or a recipient has 1 to {MAX_LINE_CHARS} characters")]
    Length,
    /// A character that does not show.
    #[error("a reference or a recipient has only characters that show, and no space at its ends")]
    Character,
}

/// A line that people write, such as who received something; wiped when dropped, printed as `[sealed]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(Zeroizing<String>);

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// [`LineError`] if it is empty, too long, or could not be shown as it is.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        // Not more than is looked at, whatever comes.
        if !(1..=MAX_LINE_CHARS).contains(&text.chars().take(MAX_LINE_CHARS + 1).count()) {
            return Err(LineError::Length);
        }
        if text.trim() != text || !text.chars().all(is_printable) {
            return Err(LineError::Character);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The line.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}
