//! What is wrong in a settings file, in one line: where it stands, what it is, what to do.

use std::path::Path;

use figment::error::Kind;

use super::{lines::NotToml, places::ConfigFile};

/// How many letters of ten may differ for a setting to be taken for another.
const LIKENESS: usize = 3;

/// Says what is wrong with a setting that stands in `file`.
pub(super) fn explain(error: &figment::Error, file: &ConfigFile) -> String {
    let key = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(field, known) => {
            format!(
                "{}: unknown setting `{field}`; {}",
                file.place(field),
                suggestion(field, known)
            )
        }
        kind => {
            let place = file.place(error.path.first().map_or("", String::as_str));
            let what = one_line(&kind.to_string());
            if key.is_empty() {
                format!("{place}: {what}")
            } else {
                format!("{place}: `{key}`: {what}")
            }
        }
    }
}

/// Says where the file at `path` stops to be TOML.
pub(super) fn explain_syntax(error: &NotToml, path: &Path) -> String {
    format!("{}:{}: {}", path.display(), error.line, one_line(&error.why))
}

/// Says what to write instead of `field`.
pub(super) fn suggestion(field: &str, known: &[&str]) -> String {
    let hyphened = field.replace('_', "-").to_lowercase();
    if known.contains(&hyphened.as_str()) {
        return format!("write `{hyphened}`");
    }
    let distance = |known: &&&str| strsim::damerau_levenshtein(&hyphened, known);
    match known.iter().min_by_key(distance) {
        Some(near) if distance(&near) * 10 <= near.len() * LIKENESS => {
            format!("did you mean `{near}`?")
        }
        _ => "`tacit run --help` names them all".into(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_a_setting_is_taken_for_it() {
        let known = ["mtu", "listen", "data-dir", "device-limit"];
        assert_eq!(suggestion("data_dir", &known), "write `data-dir`");
        assert_eq!(suggestion("lisen", &known), "did you mean `listen`?");
        assert_eq!(suggestion("devices-limit", &known), "did you mean `device-limit`?");
        assert_eq!(suggestion("colour", &known), "`tacit run --help` names them all");
    }
}
