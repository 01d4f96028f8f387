//! Tacit.

mod host;

fn main() {}
