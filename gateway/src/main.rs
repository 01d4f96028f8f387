//! Tacit: a WireGuard gateway that cannot keep a traffic log.
//!
//! `tacit run` is the control process: it owns the store, the keys, the host's network and the admin socket
//! ([`control`]). It starts the [`starter`], which starts the forwarder; both are this program again. All other verbs
//! ask a running gateway over its admin socket ([`admin`]); `tacit prove` makes an experiment with one of its own
//! ([`prove`]).

mod admin;
mod audit;
mod bounded;
mod cli;
mod config;
mod control;
mod database;
mod endpoint;
mod host;
mod log;
mod metrics;
mod name_service;
mod netlink;
mod program;
mod prove;
mod rfc3339;
mod seal;
mod starter;

use std::process::ExitCode;

use tacit_forwarder::wiping::WipingAllocator;

/// What either process no longer needs is overwritten as it is freed.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    cli::run()
}
