//! Measures Tacit: beside other userspace WireGuard servers, with many devices, under a flood of handshakes, and two builds in turn.

mod loads;
mod peers;
mod population;
mod process;
mod report;
mod subject;
mod verbs;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::verbs::{compare, flood, pair, scale, site, store};

#[derive(Parser)]
#[command(name = "tacit-benches", about = "Measures Tacit, alone and beside other servers")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measures throughput, CPU and latency of Tacit and every peer that is installed, in turn.
    ///
    /// Needs root and `cargo build --release -p tacit`. Installs boringtun-cli and gotatun-cli from crates.io
    /// in target/peers unless they are there. Writes a table, JSON and plots to target/compare/.
    #[command(after_help = "Examples:\n  \
        cargo run --release -p tacit-benches -- compare --quick\n  \
        cargo run --release -p tacit-benches -- compare --rounds 5 --peer newer-go='/opt/wireguard-go -f'")]
    Compare(compare::Options),
    /// Measures starts, memory and forwarding with up to 10,000 live and 1,000,000 registered devices.
    ///
    /// Needs root and `cargo build --release -p tacit`. Writes tables and JSON to target/scale/.
    Scale(scale::Options),
    /// Measures what is left of an established tunnel's throughput under a flood of handshake initiations.
    ///
    /// Needs root and `cargo build --release -p tacit`. Writes a table and JSON to target/flood/.
    Flood(flood::Options),
    /// Measures two builds of Tacit in short turns, or what the seal costs one, or what a setting of the kernel gains it.
    ///
    /// Needs root. Writes a table and JSON to target/pair/.
    #[command(after_help = "Examples:\n  \
        cargo run --release -p tacit-benches -- pair target/release/tacit ./tacit-before\n  \
        cargo build --release -p tacit --features unsealed && mv target/release/tacit ./tacit-unsealed\n  \
        cargo run --release -p tacit-benches -- pair ./tacit-unsealed\n  \
        cargo run --release -p tacit-benches -- pair target/release/tacit --tuned 'ethtool -K uplink gro on'")]
    Pair(pair::Options),
    /// Measures how many changes of sessions are written, and how fast a device is found, on SQLite and PostgreSQL.
    ///
    /// Needs root and Debian's postgresql-15. Writes JSON to target/store/.
    Store(store::Options),
    /// Measures what the customer site answers in a second, and what is left of forwarding meanwhile.
    ///
    /// Needs root, `cargo build --release -p tacit` and Debian's iperf3 and wrk. Writes a table and JSON to target/site/.
    Site(site::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        rustix::process::geteuid().is_root(),
        "the benchmarks make network namespaces: run them as root"
    );
    match arguments.verb {
        Verb::Compare(options) => compare::run(&options),
        Verb::Scale(options) => scale::run(&options),
        Verb::Flood(options) => flood::run(&options),
        Verb::Pair(options) => pair::run(&options),
        Verb::Store(options) => store::run(&options),
        Verb::Site(options) => site::run(&options),
    }
}
