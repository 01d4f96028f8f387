//! Every clause of the privacy rules has tests of its name: of the store, which run on both databases, and of a running
//! gateway.

use std::{collections::BTreeSet, fs, path::Path};

/// What the store has no part in: the cookie.
const NOT_OF_THE_STORE: [u32; 1] = [6];

/// What only a running gateway or its site shows, besides what the store does.
const OF_A_GATEWAY: [u32; 8] = [1, 2, 4, 6, 7, 9, 11, 12];

const NONE: [u32; 0] = [];

/// Tests of the store that run on one database alone.
const ON_ONE_DATABASE: [&str; 3] = ["files.rs", "hand_over.rs", "server.rs"];

/// The clauses that have a test in the sources below `dir`.
fn tested(dir: &Path, clauses: &mut BTreeSet<u32>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tested(&path, clauses);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !ON_ONE_DATABASE.iter().any(|name| path.ends_with(name))
        {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.trim_start().split_once("fn clause_"));
            clauses
                .extend(names.filter_map(|(_, name)| name.split('_').next()?.parse::<u32>().ok()));
        }
    }
}

/// Those of `clauses` that have no test in the sources below `dir`.
fn untested(dir: &str, clauses: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    tested(&root.join(dir), &mut found);
    clauses.into_iter().filter(|clause| !found.contains(clause)).collect()
}

#[test]
fn every_clause_that_the_store_keeps_has_a_test_on_both_databases() {
    let of_the_store = (1..=12).filter(|clause| !NOT_OF_THE_STORE.contains(clause));
    assert_eq!(untested("accounts/tests/store", of_the_store), NONE);
}

#[test]
fn every_clause_that_a_gateway_keeps_has_a_test_with_a_running_one() {
    assert_eq!(untested("tests/e2e", OF_A_GATEWAY), NONE);
}
