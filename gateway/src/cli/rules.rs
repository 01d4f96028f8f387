//! `tacit rules`.

use std::{fs::File, io::Read, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use tacit_accounts::rules::{Date, MAX_LEN, RulesText};

use super::{
    RunningGateway,
    print::{Output, pairs, table},
};
use crate::admin::{
    ListRules, PublishRules, ShowRules,
    rules::{Version, VersionState, VersionWithText},
};

#[derive(Subcommand)]
pub(super) enum RulesVerb {
    /// Publish a version of the privacy rules.
    ///
    /// A significant change is told to every customer by e-mail. A date less than 14 days after the last of these letters is
    /// refused, with the earliest one that would do. Who gets the letter late has the change 14 days after it.
    #[command(after_help = "Examples:
  tacit rules publish rules.md --effective 2026-03-01
  tacit rules publish rules.md --effective 2026-03-01 --summary 'Sessions are kept for 14 days instead of 30.'
  tacit rules publish rules.md --effective 2026-02-01 --minor")]
    Publish(PublishArguments),

    /// List all versions.
    #[command(after_help = "Examples:
  tacit rules list
  tacit rules list --json")]
    List(Output),

    /// Show a version's words; those in force, unless a number is given.
    #[command(after_help = "Examples:
  tacit rules show
  tacit rules show 3 --differences
  tacit rules show 1 > rules.md")]
    Show(ShowArguments),
}

#[derive(Args)]
pub(super) struct PublishArguments {
    /// Text of the rules (UTF-8; lines that begin with # are headings).
    file: PathBuf,
    /// First day on which they are in force (UTC).
    #[arg(long, value_name = "YYYY-MM-DD")]
    effective: Date,
    /// The change is of no significance to customers: nobody is told by letter.
    #[arg(long)]
    minor: bool,
    /// What changes, in one line for the letter [default: the sections that do].
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct ShowArguments {
    /// Number of the version.
    version: Option<i64>,
    /// Show it beside the version before, with changed lines marked + and -.
    #[arg(long)]
    differences: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: RulesVerb) -> anyhow::Result<()> {
    match verb {
        RulesVerb::Publish(arguments) => publish(gateway, arguments).await,
        RulesVerb::List(output) => {
            let versions = gateway.ask(ListRules {}).await?;
            output.print(&versions, |versions| versions_table(versions))
        }
        RulesVerb::Show(ShowArguments { version, differences, output }) => {
            let version = gateway.ask(ShowRules { version }).await?;
            output.print(&version, |version| words(version, differences))
        }
    }
}

async fn publish(gateway: &RunningGateway<'_>, arguments: PublishArguments) -> anyhow::Result<()> {
    let PublishArguments { file, effective, minor, summary, output } = arguments;
    let reading = || format!("reading {}", file.display());
    let mut bytes = Vec::new();
    // One byte more than there may be, so that a longer file is refused as such.
    let longest = u64::try_from(MAX_LEN).unwrap_or(u64::MAX) + 1;
    let opened = File::open(&file).with_context(reading)?;
    opened.take(longest).read_to_end(&mut bytes).with_context(reading)?;
    let text = RulesText::parse(&bytes)?.as_str().to_owned();
    let effective = effective.to_string();
    let version = gateway.ask(PublishRules { text, effective, minor, summary }).await?;
    output.print(&version, |version| {
        let published = pairs([
            ("version", version.version.to_string()),
            ("effective", version.effective.clone()),
            ("what changes", version.summary.clone()),
        ]);
        let next = match version.significant {
            true => "every customer gets a letter; `tacit notice list --wait` follows them",
            false => "nobody is told by letter",
        };
        format!("{published}\n{next}")
    })
}

fn versions_table(versions: &[Version]) -> String {
    let rows = versions.iter().map(|version| {
        [
            version.version.to_string(),
            version.effective.clone(),
            match version.state {
                VersionState::Former => "former",
                VersionState::InForce => "in force",
                VersionState::Coming => "coming",
            }
            .into(),
            if version.significant { "significant" } else { "minor" }.into(),
            version.summary.clone(),
        ]
    });
    table(["VERSION", "EFFECTIVE", "STATE", "CHANGE", "WHAT CHANGES"], rows, "no rules")
}

fn words(version: &VersionWithText, differences: bool) -> String {
    if differences && !version.differences.is_empty() {
        version.differences.join("\n")
    } else {
        version.text.clone()
    }
}
