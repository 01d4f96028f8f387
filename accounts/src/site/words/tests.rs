//! Whether all words of the site stand in the languages' files, and each language has all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{LANGUAGES, Words};

/// Files whose texts no visitor reads: browsers and operators do, or they are hashed.
const NOT_FOR_VISITORS: [&str; 3] = ["headers.rs", "certificate.rs", "visits.rs"];

/// Attributes that are shown or read out.
const READ: [&str; 5] = ["aria-label", "placeholder", "title", "alt", "label"];

/// Calls that name a text, and whether it has tags.
const CALLS: [(&str, bool); 2] = [("say(\"", false), ("html(\"", true)];

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

fn templates() -> Vec<(String, String)> {
    let read = |path: PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    files_in(&manifest_dir().join("templates")).into_iter().map(read).collect()
}

/// The site's sources without their tests, comments, and messages for who develops or operates it.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for path in files_in(&manifest_dir().join("src/site")) {
        if path.ends_with("words/tests.rs")
            || NOT_FOR_VISITORS.iter().any(|name| path.ends_with(name))
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = program.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        let lines =
            lines.filter(|line| !line.contains(".expect(\"") && !line.contains("reason = \""));
        sources.push((path.display().to_string(), lines.collect::<Vec<_>>().join("\n")));
    }
    sources
}

/// What is between `open` and `close`, each time.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .filter_map(|rest| rest.split_once(close))
        .map(|(inner, _)| inner)
        .collect()
}

/// A text without what is between `open` and `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut parts = text.split(open);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + " " + part.split_once(close).map_or("", |(_, rest)| rest))
}

fn has_letters(text: &str) -> bool {
    // The form of an activation code is not a word.
    text.chars().any(|letter| letter.is_alphabetic() && letter != 'X')
}

/// The values of a tag's attributes that are shown or read out.
fn read_values(tag: &str) -> Vec<String> {
    let parts: Vec<&str> = tag.split('"').collect();
    let attributes = parts.chunks_exact(2).map(|pair| (pair[0].trim_end_matches('='), pair[1]));
    let is_read = |name: &str| READ.contains(&name) || name.starts_with("data-");
    let name = |before: &str| before.split_whitespace().last().unwrap_or_default().to_owned();
    attributes
        .filter(|(before, _)| is_read(&name(before)))
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// The literals of a program's text that are no bytes.
fn literals(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split('"').collect();
    let pairs = parts.chunks_exact(2).filter(|pair| !pair[0].ends_with('b'));
    pairs.map(|pair| pair[1]).collect()
}

/// The words that a template has of its own.
fn own_words(template: &str) -> Vec<String> {
    let expressions =
        between(template, "{{", "}}").into_iter().chain(between(template, "{%", "%}"));
    let sentences =
        expressions.flat_map(literals).filter(|literal| is_sentence(literal)).map(str::to_owned);
    let markup = without(&without(template, "{{", "}}"), "{%", "%}");
    let values = between(&markup, "<", ">").into_iter().flat_map(read_values);
    let shown = without(&markup, "<", ">");
    let shown = shown.split_whitespace().map(str::to_owned);
    sentences.chain(values.chain(shown).filter(|text| has_letters(text))).collect()
}

/// Whether a literal has words with a space between, or begins as a sentence does.
fn is_sentence(literal: &str) -> bool {
    let letters: Vec<char> = literal.chars().collect();
    let is_word = |letter: char| letter.is_alphabetic();
    let begins =
        matches!(letters[..], [first, second, ..] if first.is_uppercase() && second.is_lowercase());
    (begins && !literal.contains('='))
        || letters.windows(3).any(|three| is_word(three[0]) && three[1] == ' ' && is_word(three[2]))
}

#[test]
fn templates_have_no_words_of_their_own() {
    for (name, text) in templates() {
        assert_eq!(own_words(&text), Vec::<String>::new(), "{name}");
    }
    for (faulty, word) in [
        ("<p>Hello {{ name }}</p>", "Hello"),
        ("<p>{{ frame.say(\"a.b\") }} {% if x %}now{% endif %}</p>", "now"),
        ("<nav aria-label=\"Main\">", "Main"),
        ("<p data-failed=\"Sorry\" hidden>", "Sorry"),
        ("<p>{{ \"All of it\" }}</p>", "All of it"),
    ] {
        assert_eq!(own_words(faulty), [word], "{faulty}");
    }
}

#[test]
fn handlers_have_no_sentences_of_their_own() {
    let sources = sources();
    assert!(sources.len() > 20, "{}", sources.len());
    for (name, text) in sources {
        let literals = literals(&text).into_iter();
        let sentences: Vec<_> = literals.filter(|literal| is_sentence(literal)).collect();
        assert!(sentences.is_empty(), "{name}: {sentences:#?}");
    }
    assert!(
        is_sentence("Sorry.")
            && is_sentence("{} is gone")
            && !is_sentence("text/css; charset=utf-8")
    );
}

/// The keys that templates and handlers name, and whether the text has tags; and the kinds of names.
fn named() -> (BTreeMap<String, bool>, BTreeSet<String>) {
    let (mut keys, mut kinds) = (BTreeMap::new(), BTreeSet::new());
    for (_, text) in templates().into_iter().chain(sources()) {
        for (call, has_tags) in CALLS {
            keys.extend(
                between(&text, call, "\"").into_iter().map(|key| (key.to_owned(), has_tags)),
            );
        }
        kinds.extend(between(&text, "name(\"", "\"").into_iter().map(str::to_owned));
        let failures = between(&text, "(\"failure.", "\")").into_iter();
        let failures = failures.flat_map(|pair| pair.split("\", \"failure."));
        keys.extend(failures.map(|key| (format!("failure.{key}"), false)));
    }
    (keys, kinds)
}

#[test]
fn every_text_is_there_and_is_used() {
    let (keys, kinds) = named();
    let words = Words::first();
    for (key, has_tags) in &keys {
        let text = words.find(key).unwrap_or_else(|| panic!("{key} has no words"));
        assert_eq!(text.contains('<'), *has_tags, "{key}: {text}");
    }
    for key in words.texts.keys() {
        let (page, _) = key.split_once('.').unwrap();
        let is_used = keys.contains_key(key) || kinds.contains(page) || page == "done";
        assert!(is_used, "nothing names {key}");
    }
}

/// The places of a text and its tags, in the order of the alphabet.
fn form(text: &str) -> Vec<&str> {
    let places = between(text, "{", "}").into_iter();
    let mut form: Vec<&str> = places.chain(between(text, "<", ">")).collect();
    form.sort_unstable();
    form
}

/// Where the words of a language have another form than those of the first.
fn differences(words: &Words, first: &Words) -> Vec<String> {
    let keys: BTreeSet<&String> = words.texts.keys().chain(first.texts.keys()).collect();
    let form = |words: &Words, key: &str| words.find(key).map(|text| form(text).join(" "));
    let differs = |key: &&String| form(words, key) != form(first, key);
    keys.into_iter().filter(differs).cloned().collect()
}

#[test]
fn every_language_says_the_same() {
    for (language, texts) in LANGUAGES {
        let words = Words::read(language, texts).unwrap();
        assert_eq!(differences(&words, Words::first()), Vec::<String>::new(), "{language}");
        for (key, text) in &words.texts {
            assert!(!text.trim().is_empty() && text.trim() == text, "{language} {key}");
        }
    }
    let first = Words::read("en", "[a]\nb = \"{n} <b>of</b> {m}\"\nc = \"c\"\nd = \"d\"").unwrap();
    let other =
        Words::read("de", "[a]\nb = \"<b>von</b> {m}: {n}\"\nc = \"{n}\"\ne = \"e\"").unwrap();
    assert_eq!(differences(&other, &first), ["a.c", "a.d", "a.e"]);
}

#[test]
fn name_without_a_word_is_itself() {
    let words = Words::first();
    assert_eq!(words.name("basis", "lawful-order").to_string(), "lawful order");
    assert_eq!(words.name("basis", "{odd}").to_string(), "{odd}");
}
