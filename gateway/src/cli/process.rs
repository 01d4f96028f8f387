//! The command lines of the processes that a gateway starts of itself. They are not for people.

use std::{env, process::ExitCode};

use clap::{Parser, Subcommand as _};

use super::{
    forwarder::{self, ForwarderArguments},
    starter::{self, StarterArguments},
};

/// Apart from the verbs: to know those would be a good part of the memory of a process that has no use for them.
#[derive(Parser)]
#[command(name = "tacit")]
enum Process {
    /// Carry packets; started by `tacit starter` with descriptors from `tacit run`.
    Forwarder(ForwarderArguments),

    /// Start forwarders; started by `tacit run` before it drops its rights.
    Starter(StarterArguments),
}

/// Is one of them if the command line says so.
pub(super) fn run() -> Option<ExitCode> {
    let name = env::args_os().nth(1)?;
    if !Process::has_subcommand(name.to_str()?) {
        return None;
    }
    Some(match Process::parse() {
        Process::Forwarder(arguments) => forwarder::run(arguments),
        Process::Starter(arguments) => starter::run(arguments),
    })
}
