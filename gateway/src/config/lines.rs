//! Where each setting stands in a settings file.

use std::{collections::BTreeMap, ops::Range};

use serde::de::IgnoredAny;
use toml::Spanned;

/// Settings of a file and the lines that they stand at, the first being 1.
pub(super) type Lines = BTreeMap<String, usize>;

/// A text that is not TOML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotToml {
    /// Where it stops to be.
    pub(super) line: usize,
    /// What is wrong there.
    pub(super) why: String,
}

/// Finds out where in `text` each of its settings stands.
///
/// # Errors
/// [`NotToml`] if the text is not TOML.
pub(super) fn lines(text: &str) -> Result<Lines, NotToml> {
    let keys: BTreeMap<Spanned<String>, IgnoredAny> = toml::from_str(text).map_err(|error| {
        let line = line_at(text, &error.span().unwrap_or_default());
        NotToml { line, why: error.message().into() }
    })?;
    Ok(keys.into_keys().map(|key| (key.get_ref().clone(), line_at(text, &key.span()))).collect())
}

fn line_at(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_where_they_stand() {
        let text = "# mtu = 1\nmtu = 1400\n\ncontact = \"\"\"\nlog = 1\n\"\"\"\n\"log\" = 'info'\n[x]\ny = 1";
        let expected = [("contact", 4), ("log", 7), ("mtu", 2), ("x", 8)];
        let expected = Lines::from(expected.map(|(key, line)| (key.to_owned(), line)));
        assert_eq!(lines(text).unwrap(), expected);
    }

    #[test]
    fn what_is_not_toml_is_found_too() {
        assert_eq!(lines("a = 1\nb =\n").unwrap_err().line, 2);
        assert_eq!(lines("a = 1\na = 2\n").unwrap_err().line, 2);
    }
}
