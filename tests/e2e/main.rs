//! End-to-end tests: the program, real clients, real packets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod at_rest;
mod audit;
mod backup;
mod bad_input;
mod clauses;
mod cli;
mod clients;
mod config;
mod control_seal;
mod database;
mod dependencies;
mod devices;
mod drain;
mod fail_closed;
mod fleet;
mod fleet_database;
mod gateway_key;
mod host;
mod hostile;
mod image;
mod install;
mod isolation;
mod killed;
mod lab_check;
mod letters;
mod many;
mod memory;
mod metrics;
mod people;
mod prefix;
mod prove;
mod restarts;
mod seal;
mod service_manager;
mod sessions;
mod several_gateways;
mod site;
mod soak;
mod store;
mod store_away;
mod taken_over;
mod times;
mod wire;
