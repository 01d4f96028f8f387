//! A text with places for what is put in.

use std::fmt;

use askama::filters::{Html as Escaper, HtmlSafe, escape};

/// A text of a language without tags, and what is put into it.
#[derive(Clone, Debug)]
pub(in crate::site) struct Text {
    words: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Text {
    pub(super) fn new(words: &'static str) -> Self {
        Self { words, values: Vec::new() }
    }

    /// Puts a value into the place `{name}`.
    pub(in crate::site) fn put(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.values.push((name, value.to_string()));
        self
    }

    fn value(&self, name: &str) -> Option<&str> {
        let value = self.values.iter().find(|(known, _)| *known == name);
        value.map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.words;
        while let Some((before, after)) = rest.split_once('{') {
            f.write_str(before)?;
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            f.write_str(self.value(name).unwrap_or_default())?;
            rest = after;
        }
        f.write_str(rest)
    }
}

/// A text of a language with tags, and what is put into it, which has none.
#[derive(Clone, Debug)]
pub(in crate::site) struct Html(Text);

impl Html {
    pub(super) fn new(words: &'static str) -> Self {
        Self(Text::new(words))
    }

    /// Puts a value into the place `{name}`, as text.
    pub(in crate::site) fn put(self, name: &'static str, value: impl fmt::Display) -> Self {
        let escaped = escape(value, Escaper).map(|text| text.to_string());
        Self(self.0.put(name, escaped.unwrap_or_default()))
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Its words are the program's own, and what was put in is escaped.
impl HtmlSafe for Html {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_they_are_named() {
        let text = Text::new("{b} of {a}, {b}").put("a", 1).put("b", "{a}");
        assert_eq!(text.to_string(), "{a} of 1, {a}");
        assert_eq!(Text::new("none").to_string(), "none");
    }

    #[test]
    fn value_in_html_is_text() {
        let html = Html::new("<b>{name}</b>").put("name", "<script>\"&'");
        assert_eq!(html.to_string(), "<b>&#60;script&#62;&#34;&#38;&#39;</b>");
    }
}
