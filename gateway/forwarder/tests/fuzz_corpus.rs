//! Replays the fuzz corpus: whatever once was found must stay harmless.

#[expect(unreachable_pub, reason = "the fuzz targets' own library")]
#[path = "../../../tests/fuzz/src/lib.rs"]
mod fuzz;

use std::{fs, path::Path};

fn replay(target: &str, run: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("corpus directory") {
        run(&fs::read(entry.expect("entry").path()).expect("input"));
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs in {}", corpus.display());
}

#[test]
fn inbound_corpus_is_harmless() {
    replay("inbound", fuzz::inbound);
}

#[test]
fn outbound_corpus_is_harmless() {
    replay("outbound", fuzz::outbound);
}

#[test]
fn messages_corpus_is_harmless() {
    replay("messages", fuzz::messages);
}
