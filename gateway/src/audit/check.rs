//! What a check is, and what comes of it.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;

/// How a check came out, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    /// What was read shows that it is as it should be.
    #[default]
    Pass,
    /// It is no violation, but an auditor should know; or it could not be read.
    Warn,
    /// A violation.
    Fail,
}

impl Verdict {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// A question about this host, its processes, its store or its configuration.
pub(crate) struct Check {
    /// Its name: what the check is about, never what came of it.
    pub(crate) id: &'static str,
    /// What it means that the check passes, in one sentence.
    pub(crate) meaning: &'static str,
    /// How somebody else sees the same, as root; names in braces stand for this gateway's own.
    pub(crate) by_hand: &'static str,
    /// Judges what was read.
    pub(super) judge: fn(&Evidence) -> Finding,
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    lines: Vec<Line>,
}

/// Something that was read, and whether it speaks for or against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// What follows from it.
    pub(crate) verdict: Verdict,
    /// What was read.
    pub(crate) text: String,
}

impl Finding {
    /// The worst that a line says.
    pub(crate) fn verdict(&self) -> Verdict {
        self.lines.iter().map(|line| line.verdict).max().unwrap_or_default()
    }

    /// The lines, the worst first.
    pub(crate) fn into_lines(mut self) -> Vec<Line> {
        self.lines.sort_by_key(|line| std::cmp::Reverse(line.verdict));
        self.lines
    }

    /// Adds what is as it should be.
    pub(super) fn pass(&mut self, text: impl Into<String>) -> &mut Self {
        self.line(Verdict::Pass, text)
    }

    /// Adds what an auditor should know.
    pub(super) fn warn(&mut self, text: impl Into<String>) -> &mut Self {
        self.line(Verdict::Warn, text)
    }

    /// Adds a violation.
    pub(super) fn fail(&mut self, text: impl Into<String>) -> &mut Self {
        self.line(Verdict::Fail, text)
    }

    /// Adds what is right or a violation.
    pub(super) fn expect(&mut self, is_right: bool, text: impl Into<String>) -> &mut Self {
        self.line(if is_right { Verdict::Pass } else { Verdict::Fail }, text)
    }

    /// Adds what was read with what follows from it.
    pub(super) fn line(&mut self, verdict: Verdict, text: impl Into<String>) -> &mut Self {
        self.lines.push(Line { verdict, text: text.into() });
        self
    }

    #[cfg(test)]
    pub(super) fn texts(&self, verdict: Verdict) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| line.verdict == verdict);
        lines.map(|line| line.text.as_str()).collect()
    }
}

/// The worst that `judge` finds.
#[cfg(test)]
pub(super) fn verdict(judge: impl FnOnce(&mut Finding)) -> Verdict {
    let mut finding = Finding::default();
    judge(&mut finding);
    finding.verdict()
}
