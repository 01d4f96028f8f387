//! Tacit against other userspace WireGuard servers, side by side on this machine.

mod compare;
mod flood;
mod process;
mod report;
mod subject;
mod tcp;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "tacit-benches",
    about = "Measures Tacit beside other userspace WireGuard servers"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measures throughput, CPU and latency of Tacit and every peer that is installed, in turn.
    ///
    /// Needs root and `cargo build --release -p tacit`. Writes a table and JSON to target/compare/.
    #[command(after_help = "Examples:\n  \
        cargo run --release -p tacit-benches -- compare --quick\n  \
        cargo run --release -p tacit-benches -- compare --rounds 5 --peer newer-go='/opt/wireguard-go -f'")]
    Compare(compare::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().verb {
        Verb::Compare(options) => compare::run(&options),
    }
}
