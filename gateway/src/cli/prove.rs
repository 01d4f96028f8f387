//! `tacit prove`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::print::Output;
use crate::prove::{self, Progress, Verdict};

/// Something was found that must not be there.
const FOUND: u8 = 3;

#[derive(Args)]
#[command(after_help = "Examples:
  tacit prove                             a verdict and what it rests on
  tacit prove --report ./proof            also as report.html, which a customer can read
  tacit prove --json > proof.json

Runs as root on any machine, beside a running gateway and without touching it: everything happens in namespaces
that go with the program. Takes about ten seconds. Needs strace. Exit code 0: nothing of the traffic was
kept; 3: something was, and the report says what and where; 1: the experiment could not be made, or shows nothing.")]
pub(super) struct ProveArguments {
    /// Write report.txt, report.json and report.html into this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &ProveArguments) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &arguments.report {
        // Before the experiment, which takes its time.
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let progress = Progress::new();
    let report = prove::run(&progress)?;
    drop(progress);
    if let Some(dir) = &arguments.report {
        report.write(dir).with_context(|| format!("writing the report to {}", dir.display()))?;
    }
    arguments.output.print(&report, prove::Report::text)?;
    Ok(match report.verdict {
        Verdict::NothingKept => ExitCode::SUCCESS,
        Verdict::Kept => ExitCode::from(FOUND),
        Verdict::Void => ExitCode::FAILURE,
    })
}
