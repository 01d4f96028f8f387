//! `tacit audit`.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use tokio::time::timeout;

use super::print::{Output, Printable, table};
use crate::{
    admin::{NoteAudit, client},
    audit::{self, Check, Evidence, Line, Outcome, Report, Verdict},
    program,
};

/// How long the gateway may take to note what came of an audit.
const NOTE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = "Examples:
  tacit audit                                      every check, with evidence
  tacit audit --only swap --only firewall-log      these two
  tacit audit --list                               what is checked
  tacit audit --json                               for programs

Each check says PASS, WARN or FAIL, what was read, and the command with which somebody else sees the same. WARN is
no violation, but an auditor should know. The exit code is 3 if a check fails, else 0. What comes of every check
together is shown on the first page of the gateway's site, until the gateway ends.")]
pub(super) struct AuditArguments {
    /// Make this check only; repeatable.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,

    /// List the checks and what they mean.
    #[arg(long, conflicts_with = "only")]
    list: bool,

    #[command(flatten)]
    output: Output,
}

/// Whether an audit found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Violation,
}

pub(super) async fn run(socket_path: &Path, arguments: AuditArguments) -> anyhow::Result<Found> {
    let AuditArguments { only, list, output } = arguments;
    if list {
        let checks: Vec<_> = audit::checks().map(Listed::from).collect();
        output.print(&checks, |checks| list_text(checks))?;
        return Ok(Found::Nothing);
    }
    for id in &only {
        let is_known = audit::checks().any(|check| check.id == id);
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let named: String = id.chars().filter(plain).take(40).collect();
        ensure!(is_known, "there is no check {named}; `tacit audit --list` names them all");
    }
    let report = audit::judge(&Evidence::gather(socket_path).await?, &only);
    let colours = Colours::of_stdout();
    output.print(&report, |report| text(report, colours))?;
    if only.is_empty() {
        note(socket_path, &report).await;
    }
    Ok(if report.verdict == Verdict::Fail { Found::Violation } else { Found::Nothing })
}

/// Has the gateway's site show what came of an audit. A gateway that hangs or is another version need not.
async fn note(socket_path: &Path, report: &Report) {
    let verdicts = report.checks.iter().map(|outcome| (outcome.id.to_owned(), outcome.verdict));
    let note = NoteAudit { checks: verdicts.collect(), commit: program::COMMIT.into() };
    let _ = timeout(NOTE_PATIENCE, client::call(socket_path, note)).await;
}

/// A check that is listed.
#[derive(Serialize)]
struct Listed {
    id: &'static str,
    meaning: &'static str,
    by_hand: &'static str,
}

impl From<&Check> for Listed {
    fn from(check: &Check) -> Self {
        Self { id: check.id, meaning: check.meaning, by_hand: check.by_hand }
    }
}

fn list_text(checks: &[Listed]) -> String {
    let rows = checks.iter().map(|check| [check.id.to_owned(), check.meaning.to_owned()]);
    table(["CHECK", "MEANING"], rows, "no checks")
}

/// Whether verdicts are coloured.
#[derive(Clone, Copy)]
struct Colours(bool);

impl Colours {
    fn of_stdout() -> Self {
        Self(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn paint(self, verdict: Verdict) -> String {
        let colour = match verdict {
            Verdict::Pass => 32,
            Verdict::Warn => 33,
            Verdict::Fail => 31,
        };
        let name = verdict.name();
        if self.0 { format!("\x1b[1;{colour}m{name}\x1b[0m") } else { name.into() }
    }
}

fn text(report: &Report, colours: Colours) -> String {
    let mut text = String::new();
    for outcome in &report.checks {
        // Writing to a string does not fail.
        let _ = write_outcome(&mut text, outcome, colours);
    }
    let count = |verdict| report.checks.iter().filter(|outcome| outcome.verdict == verdict).count();
    let (passed, warned, failed) =
        (count(Verdict::Pass), count(Verdict::Warn), count(Verdict::Fail));
    let _ = writeln!(
        text,
        "{}: {passed} passed, {warned} with a warning, {failed} failed. SECURITY.md says what an audit cannot tell.",
        colours.paint(report.verdict)
    );
    text
}

fn write_outcome(text: &mut String, outcome: &Outcome, colours: Colours) -> std::fmt::Result {
    writeln!(text, "{} {}", colours.paint(outcome.verdict), outcome.id)?;
    writeln!(text, "     {}", outcome.meaning)?;
    for Line { verdict, text: line } in &outcome.evidence {
        let mark = match verdict {
            Verdict::Pass => "-",
            Verdict::Warn => "?",
            Verdict::Fail => "!",
        };
        writeln!(text, "     {mark} {}", Printable(line))?;
    }
    writeln!(text, "     by hand: {}\n", Printable(&outcome.by_hand))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let outcome = Outcome {
            id: "swap",
            verdict: Verdict::Fail,
            meaning: "Memory is never written to a disk.",
            evidence: vec![Line { verdict: Verdict::Fail, text: "/swap\u{1b}[2J: a disk".into() }],
            by_hand: "cat /proc/swaps".into(),
        };
        Report { verdict: Verdict::Fail, checks: vec![outcome] }
    }

    #[test]
    fn report_has_no_colour_and_no_command_of_a_terminal_unless_there_is_one() {
        let plain = text(&report(), Colours(false));
        assert!(plain.starts_with("FAIL swap\n     Memory is never"), "{plain}");
        assert!(
            plain.contains("! /swap\\u{1b}[2J: a disk\n     by hand: cat /proc/swaps"),
            "{plain}"
        );
        assert!(plain.contains("FAIL: 0 passed, 0 with a warning, 1 failed."), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(text(&report(), Colours(true)).starts_with("\u{1b}[1;31mFAIL\u{1b}[0m swap"));
    }

    #[test]
    fn json_has_verdicts_as_words() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["checks"][0]["verdict"], "FAIL");
        assert_eq!(json["checks"][0]["evidence"][0]["verdict"], "FAIL");
    }
}
