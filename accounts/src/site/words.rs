//! The words of the site.
//!
//! All that people read stands in one file a language, `accounts/site/words/*.toml`: by page, each text under a key. Templates
//! and handlers have no words of their own; they name a key, as `account.title`, and put in what belongs there. Errors of the
//! library are told apart by kind ([`problems`]), and their own messages, which are for operators, are not shown. Scripts show what
//! the page gives them.
//!
//! So another language is a translated copy of that file and a line in [`LANGUAGES`]. Which of several languages somebody reads
//! would be decided where a [`Site`](super::Site) gets its words; as long as there is one, nothing decides.

mod problems;
mod text;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use tacit_messages::UnixSeconds;

pub(super) use self::text::{Html, Text};
use crate::times::rfc3339;

/// Each language's tag (BCP 47) and words.
const LANGUAGES: [(&str, &str); 1] = [("en", include_str!("../../site/words/en.toml"))];

static ALL: LazyLock<Vec<Words>> = LazyLock::new(|| {
    let read = |(language, texts)| Words::read(language, texts);
    LANGUAGES.into_iter().map(read).collect::<Result<_, _>>().expect("a test reads all languages")
});

/// The words of one language.
#[derive(Debug)]
pub(super) struct Words {
    /// The language's tag, as HTML wants it.
    pub(super) language: &'static str,
    texts: HashMap<String, String>,
}

impl Words {
    /// The words of the first language.
    pub(super) fn first() -> &'static Self {
        &ALL[0]
    }

    fn read(language: &'static str, texts: &str) -> Result<Self, toml::de::Error> {
        let pages: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(texts)?;
        let texts = pages.into_iter().flat_map(|(page, texts)| {
            texts.into_iter().map(move |(key, text)| (format!("{page}.{key}"), text))
        });
        Ok(Self { language, texts: texts.collect() })
    }

    /// A text without tags; what shows it in HTML has to escape it, as templates do.
    pub(super) fn say(&'static self, key: &str) -> Text {
        Text::new(self.find(key).unwrap_or_default())
    }

    /// A text with tags; what is put into it is escaped.
    pub(super) fn html(&'static self, key: &str) -> Html {
        Html::new(self.find(key).unwrap_or_default())
    }

    /// What the language calls something that the program knows by a name of its own, or else that name.
    pub(super) fn name(&'static self, kind: &str, name: &str) -> Text {
        match self.find(&format!("{kind}.{name}")) {
            Some(text) => Text::new(text),
            None => Text::new("{name}").put("name", name),
        }
    }

    fn find(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }
}

/// A time as the pages show it.
pub(super) fn when(time: UnixSeconds) -> String {
    readable(&rfc3339(time))
}

/// A time in RFC 3339's form as the pages show it.
pub(super) fn readable(time: &str) -> String {
    time.replace('T', " ").replace('Z', " UTC")
}
