//! The side-by-side benchmark: the same loads through every server, in turn, round by round.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tacit_tests::gateway::program;

use crate::{
    loads::{
        client::LightClient,
        packets::{self, Shape},
        tcp::{self, Iperf, Way},
    },
    peers::peers,
    process::{LOAD_CPU, SERVER_CPU},
    report::Report,
    subject::{self, Subject},
};

/// How `compare` measures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds; the table shows medians [default: 3, or 1 if quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Short loads, and one round unless told otherwise: in under three minutes
    #[arg(long)]
    quick: bool,
    /// Another server: its name and the command to which the interface name is added
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<String>,
    /// Another build of Tacit: its name and the program
    #[arg(long, value_name = "NAME=PROGRAM")]
    tacit: Vec<String>,
    /// Only these servers, by name
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only loads whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    load: String,
    /// Leaves both processors to everybody instead of one to the server and one to the load
    #[arg(long)]
    unpinned: bool,
}

/// One load.
#[derive(Clone, Copy, Debug)]
enum Load {
    Tcp(Way, usize),
    Flood { inbound: bool, shape: Shape },
    Idle,
    Paced(Way),
}

/// The loads and what they are called.
fn loads(quick: bool) -> Vec<(&'static str, Load)> {
    let packets = |many: usize| if quick { many / 6 } else { many };
    let flood = |inbound, packet_len, many, gso| Load::Flood {
        inbound,
        shape: Shape { packet_len, packets: packets(many), gso },
    };
    vec![
        ("tcp up, 1 stream", Load::Tcp(Way::Up, 1)),
        ("tcp up, 8 streams", Load::Tcp(Way::Up, 8)),
        ("tcp down, 1 stream", Load::Tcp(Way::Down, 1)),
        ("tcp down, 8 streams", Load::Tcp(Way::Down, 8)),
        ("flood in, 1392 B, GSO sender", flood(true, 1_392, 2_000_000, true)),
        ("flood in, 1392 B", flood(true, 1_392, 1_000_000, false)),
        ("flood out, 1392 B, GSO sender", flood(false, 1_392, 2_000_000, true)),
        ("flood out, 1392 B", flood(false, 1_392, 1_000_000, false)),
        ("flood in, 64 B, GSO sender", flood(true, 64, 4_000_000, true)),
        ("flood in, 64 B", flood(true, 64, 2_000_000, false)),
        ("flood out, 64 B, GSO sender", flood(false, 64, 4_000_000, true)),
        ("flood out, 64 B", flood(false, 64, 2_000_000, false)),
        ("rtt idle", Load::Idle),
        ("rtt paced up", Load::Paced(Way::Up)),
        ("rtt paced down", Load::Paced(Way::Down)),
    ]
}

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let is_wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let subjects: Vec<Subject> = is_wanted("tacit")
        .then(|| Subject::tacit("tacit", program()))
        .into_iter()
        .chain(other_builds(&options.tacit)?)
        .chain(peers(&options.peer, is_wanted)?)
        .collect();
    ensure!(!subjects.is_empty(), "--only names none of the servers");
    let loads: Vec<_> =
        loads(options.quick).into_iter().filter(|(name, _)| name.contains(&options.load)).collect();
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let bar = ProgressBar::new((rounds * subjects.len() * loads.len()) as u64);
    bar.set_style(ProgressStyle::with_template(
        "{elapsed_precise} [{wide_bar}] {pos}/{len} {msg}",
    )?);
    let place =
        if options.unpinned { "unpinned" } else { "server on one core, clients on the other" };
    let mut report = Report::new(format!("{place}, medians of {rounds} rounds"));
    for round in 0..rounds {
        // Who comes first changes, or what drifts within a round would favour one.
        let mut turn: Vec<&Subject> = subjects.iter().collect();
        turn.rotate_left(round % subjects.len());
        for subject in turn {
            measure(subject, &loads, options, &bar, &mut report)
                .with_context(|| format!("measuring {}", subject.name))?;
        }
    }
    bar.finish_and_clear();
    report.write("compare", if options.unpinned { "unpinned" } else { "pinned" })?;
    report.plot("compare", if options.unpinned { "unpinned" } else { "pinned" })
}

/// Builds of Tacit that are given as `name=program`.
fn other_builds(given: &[String]) -> Result<Vec<Subject>> {
    let build = |given: &String| {
        let (name, program) = given.split_once('=').context("--tacit takes NAME=PROGRAM")?;
        ensure!(Path::new(program).exists(), "--tacit {name}: there is no {program}");
        Ok(Subject::tacit(name, program.into()))
    };
    given.iter().map(build).collect()
}

fn measure(
    subject: &Subject,
    loads: &[(&'static str, Load)],
    options: &Options,
    bar: &ProgressBar,
    report: &mut Report,
) -> Result<()> {
    let lab = subject::lab();
    let running = subject.start(&lab, if options.unpinned { 2 } else { 1 })?;
    let load_cpu = (!options.unpinned).then_some(LOAD_CPU);
    if !options.unpinned {
        running.processes.pin(SERVER_CPU);
    }
    let client = LightClient::up(&lab.clients[0], &running.tcp_client, load_cpu)?;
    let iperf = Iperf::start(&lab, client.namespace, load_cpu, None)?;
    tcp::idle_round_trips(client.namespace);
    let seconds = if options.quick { 2 } else { 5 };
    let cpu = || running.processes.cpu();
    let label = subject.label();
    for (name, load) in loads {
        bar.set_message(format!("{}: {name}", subject.name));
        let mut note = |unit: &str, value: f64| report.note(&label, name, unit, value);
        match *load {
            Load::Tcp(way, streams) => {
                let done = iperf.transfer(way, streams, seconds, "", cpu)?;
                note("Gbit/s", done.gbit_per_second);
                note("CPU s/GB", done.cpu_per_gb);
            }
            Load::Flood { inbound, shape } => {
                let flood = if inbound { packets::inbound } else { packets::outbound };
                let done = flood(&lab, &running.flood_client, shape, &cpu)?;
                note("kpps", done.packets_per_second / 1e3);
                note("CPU µs/packet", done.cpu_micros);
            }
            Load::Idle | Load::Paced(_) => {
                let times = match *load {
                    Load::Paced(way) => iperf.loaded_round_trips(way),
                    _ => tcp::idle_round_trips(client.namespace),
                };
                note("ms, median", times.median);
                note("ms, p99", times.p99);
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        bar.inc(1);
    }
    report.note(&label, "peak memory", "MiB", running.processes.peak_mib());
    Ok(())
}
