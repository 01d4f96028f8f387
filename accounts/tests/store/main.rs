//! What the store promises, shown through its public API: on SQLite. `postgres.rs` shows the same on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod accounts;
mod allocation;
mod backup;
mod chains;
mod devices;
mod export;
mod files;
mod fleet;
mod gateways;
mod harness;
mod inventory;
mod kill;
mod opening;
mod people;
mod post;
mod replaced;
mod reseal;
mod retention;
mod rules;
mod rules_calendar;
mod sealing;
mod sessions;

use harness::*;

const ON: On = On::Sqlite;

/// What is SQLite's or PostgreSQL's alone.
const DIFFERENT: [&str; 3] = ["mod files;", "mod hand_over;", "mod server;"];

#[test]
fn what_is_tested_on_sqlite_is_tested_on_postgres() {
    let modules = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|line| line.starts_with("mod ") && !DIFFERENT.contains(line));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(modules(include_str!("main.rs")), modules(include_str!("postgres.rs")));
}
