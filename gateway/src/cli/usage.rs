//! Wrong usage, told in one line as every other failure is.
//!
//! What was typed is not repeated: it may be a customer's, a key, or what a terminal takes for a command.

use std::error::Error as _;

use clap::error::{ContextKind, Error, ErrorKind};

/// Says in one line what is wrong with the command line; `None` for what is an answer and no error, such as help.
pub(super) fn fault(error: &Error) -> Option<String> {
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_answer {
        return None;
    }
    let suggestion = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand]
        .into_iter()
        .find_map(|kind| told(error, kind))
        .map(|suggestion| format!("; did you mean {suggestion}?"));
    let usage = told(error, ContextKind::Usage).map_or_else(
        || "; `--help` tells more".into(),
        |usage| format!("; usage: {}", usage.trim_start_matches("Usage:").trim_start()),
    );
    let line = format!("{}{}{usage}", what(error), suggestion.unwrap_or_default());
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What is wrong.
fn what(error: &Error) -> String {
    let argument = told(error, ContextKind::InvalidArg);
    let flag = argument.as_deref().filter(|text| is_flag(text));
    let place = argument.as_deref().unwrap_or("an argument");
    match error.kind() {
        ErrorKind::UnknownArgument => match flag {
            Some(flag) => format!("there is no {flag} here"),
            None => "there is an argument too many".into(),
        },
        ErrorKind::InvalidValue if told(error, ContextKind::InvalidValue).is_none() => {
            format!("{place} needs a value")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let values = told(error, ContextKind::ValidValue);
            match (values, error.source()) {
                (Some(values), _) => format!("{place} is one of {values}"),
                (None, Some(why)) => format!("{place}: {why}"),
                (None, None) => format!("{place} has a wrong value"),
            }
        }
        ErrorKind::InvalidSubcommand => "there is no such verb".into(),
        ErrorKind::MissingRequiredArgument => format!("{place} is missing"),
        ErrorKind::MissingSubcommand => "a verb is missing".into(),
        ErrorKind::ArgumentConflict => match told(error, ContextKind::PriorArg) {
            Some(other) if other != place => format!("{place} does not go with {other}"),
            _ => format!("{place} may be there once"),
        },
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".into(),
        kind => kind.to_string(),
    }
}

fn told(error: &Error, kind: ContextKind) -> Option<String> {
    error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty())
}

/// Whether a text is written as flags are, which nobody's data is.
fn is_flag(text: &str) -> bool {
    let name = text.strip_prefix("--").unwrap_or_default();
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (1..=40).contains(&name.len()) && name.bytes().all(is_letter)
}
