//! What is wrong in a settings file, in one line.

use std::path::Path;

use figment::error::Kind;

/// Says in one line what is wrong in the settings file at `path`.
pub(super) fn explain(error: &figment::Error, path: &Path) -> String {
    let key = error.path.join(".");
    let path = path.display();
    match &error.kind {
        Kind::UnknownField(field, known) => {
            let hyphened = field.replace('_', "-");
            let hint = if known.contains(&hyphened.as_str()) {
                format!("write `{hyphened}`")
            } else {
                "`tacit run --help` names them all".into()
            };
            format!("{path}: unknown setting `{field}`; {hint}")
        }
        kind if key.is_empty() => format!("{path}: {}", one_line(&kind.to_string())),
        kind => format!("{path}: `{key}`: {}", one_line(&kind.to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
