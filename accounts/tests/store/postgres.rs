//! What the store promises, shown through its public API: on PostgreSQL. `main.rs` shows the same on SQLite.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod accounts;
mod allocation;
mod backup;
mod chains;
mod devices;
mod export;
mod fleet;
mod gateways;
mod hand_over;
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
mod server;
mod sessions;

use harness::*;

const ON: On = On::Postgres;
