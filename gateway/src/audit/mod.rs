//! `tacit audit`: are this host, its processes, the store and the configuration unable to keep a traffic log?
//!
//! [`Evidence::gather`] reads everything first: the kernel, files, and from the gateway what nobody else knows. Then
//! each [`Check`] judges what was read; the judges read nothing themselves, so that tests reach every case. No
//! other program is started. SECURITY.md says what an audit can tell and what it cannot.

mod bpf;
mod check;
mod conntrack;
mod control;
mod data_dir;
mod evidence;
mod firewall;
mod forwarder;
mod host;
mod interfaces;
mod legacy;
mod links;
mod log;
mod memory;
mod metrics;
mod network;
mod perf;
mod process;
mod program;
mod reading;
mod rules;
mod sets;
mod store;
mod watchers;
mod way;

use serde::Serialize;

pub(crate) use check::{Check, Line, Verdict};
pub(crate) use evidence::Evidence;

/// The families of checks, in the order in which they are told.
static FAMILIES: [&[Check]; 14] = [
    forwarder::CHECKS,
    control::CHECKS,
    interfaces::CHECKS,
    bpf::CHECKS,
    perf::CHECKS,
    firewall::CHECKS,
    conntrack::CHECKS,
    host::CHECKS,
    watchers::CHECKS,
    store::CHECKS,
    data_dir::CHECKS,
    metrics::CHECKS,
    log::CHECKS,
    program::CHECKS,
];

/// Every check.
pub(crate) fn checks() -> impl Iterator<Item = &'static Check> {
    FAMILIES.iter().copied().flatten()
}

/// What came of an audit.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The worst that a check says.
    pub(crate) verdict: Verdict,
    /// Every check that was made.
    pub(crate) checks: Vec<Outcome>,
}

/// What came of a check.
#[derive(Serialize)]
pub(crate) struct Outcome {
    /// The check's name.
    pub(crate) id: &'static str,
    /// How it came out.
    pub(crate) verdict: Verdict,
    /// What it means that it passes.
    pub(crate) meaning: &'static str,
    /// What was read, the worst first.
    pub(crate) evidence: Vec<Line>,
    /// How somebody else sees the same, as root.
    pub(crate) by_hand: String,
}

/// Judges what was read: all checks, or those named by `only`.
pub(crate) fn judge(evidence: &Evidence, only: &[String]) -> Report {
    let is_wanted = |check: &&Check| only.is_empty() || only.iter().any(|id| id == check.id);
    let outcome = |check: &Check| {
        let finding = (check.judge)(evidence);
        Outcome {
            id: check.id,
            verdict: finding.verdict(),
            meaning: check.meaning,
            by_hand: evidence.fill(check.by_hand),
            evidence: finding.into_lines(),
        }
    };
    let checks: Vec<_> = checks().filter(is_wanted).map(outcome).collect();
    let verdict = checks.iter().map(|outcome| outcome.verdict).max().unwrap_or_default();
    Report { verdict, checks }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own_a_sentence_and_a_command() {
        let mut ids = BTreeSet::new();
        for check in checks() {
            assert!(ids.insert(check.id), "{} is there twice", check.id);
            let is_kebab = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(check.id.bytes().all(is_kebab), "{}", check.id);
            assert!(check.meaning.ends_with('.') && check.meaning.len() > 20, "{}", check.id);
            assert!(!check.by_hand.is_empty(), "{}", check.id);
        }
    }
}
