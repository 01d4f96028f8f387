//! Whether everybody can use a page: axe-core, run in a real browser.

use std::fs;

use crate::{browser::Browser, gateway::tool};

/// What is run in the page after axe itself: it tells of each rule that is broken, and where.
const ASK: &str = "
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ['violations'] }).then(
    (found) => done(found.violations.map((rule) => rule.id + ': ' + rule.nodes.map((node) => node.html).join(' '))),
    (error) => done(['axe failed: ' + error]),
);";

/// The rules that the present page breaks, each with the elements that do.
///
/// # Panics
/// If axe is missing or does not run.
#[must_use]
pub fn violations(browser: &Browser<'_>) -> Vec<String> {
    let axe = fs::read_to_string(tool("axe-core-4.11.1/axe.min.js")).expect("reading axe");
    let found = browser.run_until_done(&format!("{axe};{ASK}"));
    let found = found.as_array().expect("a list of violations").iter();
    found.map(|rule| rule.as_str().unwrap_or_default().to_owned()).collect()
}
