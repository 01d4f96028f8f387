//! Tacit.
fn main() {}
