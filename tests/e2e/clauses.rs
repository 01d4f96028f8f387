//! Every clause of the privacy rules has tests of its name.

use std::{collections::BTreeSet, fs, path::Path};

/// The clauses that have a test in the sources below `dir`.
fn tested(dir: &Path, clauses: &mut BTreeSet<u32>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tested(&path, clauses);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.trim_start().split_once("fn clause_"));
            clauses
                .extend(names.filter_map(|(_, name)| name.split('_').next()?.parse::<u32>().ok()));
        }
    }
}

#[test]
fn every_clause_has_a_test_of_its_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut clauses = BTreeSet::new();
    for part in ["accounts", "gateway", "tests"] {
        tested(&root.join(part), &mut clauses);
    }
    let mut missing = (1..=12).filter(|clause| !clauses.contains(clause));
    assert_eq!(missing.next(), None);
}
