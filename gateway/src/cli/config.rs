//! `tacit config`: the settings as `tacit run` would find them. Needs no running gateway.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::print::{self, Output};
use crate::config::{self, Loaded, Origin, Overrides, Places};

#[derive(Subcommand)]
pub(super) enum ConfigVerb {
    /// Check the settings as `tacit run` would, without starting anything.
    ///
    /// Takes all that `tacit run` takes: file, TACIT_… variables and flags. What is wrong is told with file and line.
    #[command(after_help = "Examples:
  tacit config check
  tacit config check --config ./tacit.toml && systemctl reload tacit")]
    Check(ConfigArguments),

    /// Show every setting, its value, and where that comes from.
    #[command(after_help = "Examples:
  tacit config show
  tacit config show --json | jq '.[] | select(.from != \"default\")'")]
    Show(ConfigArguments),
}

#[derive(Args)]
pub(super) struct ConfigArguments {
    #[command(flatten)]
    overrides: Box<Overrides>,

    #[command(flatten)]
    output: Output,
}

/// A setting as it is printed.
#[derive(Serialize)]
struct Setting {
    setting: String,
    value: Value,
    from: String,
}

/// What a check that found nothing says.
#[derive(Serialize)]
struct Checked {
    /// How many settings are not left to their defaults.
    set: usize,
}

pub(super) fn run(places: &Places, verb: &ConfigVerb) -> anyhow::Result<()> {
    match verb {
        ConfigVerb::Check(ConfigArguments { overrides, output }) => {
            let loaded = config::check(places, overrides)?;
            let checked = Checked { set: loaded.origins.len() };
            output.print(&checked, |Checked { set }| {
                format!("the settings are good: {set} set, the others at their defaults")
            })
        }
        ConfigVerb::Show(ConfigArguments { overrides, output }) => {
            let settings = list(config::load(places, overrides)?)?;
            output.print(&settings, |settings| text(settings))
        }
    }
}

fn list(loaded: Loaded) -> anyhow::Result<Vec<Setting>> {
    let Value::Object(values) = serde_json::to_value(&loaded.settings)? else {
        return Ok(Vec::new());
    };
    let from = |key: &str| loaded.origins.get(key).unwrap_or(&Origin::Default).to_string();
    let setting = |(key, value): (String, Value)| Setting { from: from(&key), setting: key, value };
    Ok(values.into_iter().map(setting).collect())
}

fn text(settings: &[Setting]) -> String {
    let row =
        |Setting { setting, value, from }: &Setting| [setting.clone(), plain(value), from.clone()];
    print::table(["SETTING", "VALUE", "FROM"], settings.iter().map(row), "none")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
