//! Two builds of Tacit that run side by side, under short loads in turn: the finest comparison that a noisy machine gives.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tacit_tests::Lab;

use crate::{
    loads::{
        client::LightClient,
        packets::{self, Shape},
        tcp::{Iperf, Way},
    },
    process::{LOAD_CPU, SERVER_CPU},
    report::{Report, median_and_interval},
    subject::{self, Running, Subject},
};

/// How `pair` measures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A build of Tacit
    program: PathBuf,
    /// The build to compare it with [default: the same without its seal, if it is one with `--features unsealed`]
    other: Option<PathBuf>,
    /// Compare the program with itself, but for this shell command, which is run in the second one's namespace before:
    /// what a setting of the kernel (`uplink` is the card) changes
    #[arg(long, value_name = "COMMAND", conflicts_with = "other")]
    tuned: Option<String>,
    /// Only loads whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    load: String,
    /// Starts of both gateways, since where memory comes to lie differs from start to start
    #[arg(long, default_value_t = 4)]
    starts: usize,
    /// Pairs of each load after each start
    #[arg(long, default_value_t = 8)]
    pairs: usize,
}

/// One load.
#[derive(Clone, Copy, Debug)]
enum Load {
    Tcp(Way, usize),
    Flood { inbound: bool, shape: Shape },
}

const LOADS: [(&str, Load); 8] = [
    ("tcp up, 1 stream", Load::Tcp(Way::Up, 1)),
    ("tcp up, 8 streams", Load::Tcp(Way::Up, 8)),
    ("tcp down, 1 stream", Load::Tcp(Way::Down, 1)),
    ("tcp down, 8 streams", Load::Tcp(Way::Down, 8)),
    ("flood in, 1392 B, GSO sender", FLOOD_IN),
    ("flood out, 1392 B, GSO sender", FLOOD_OUT),
    ("flood in, 1392 B", Load::Flood { inbound: true, shape: PLAIN }),
    ("flood out, 1392 B", Load::Flood { inbound: false, shape: PLAIN }),
];
const TRAINS: Shape = Shape { packet_len: 1_392, packets: 500_000, gso: true };
const PLAIN: Shape = Shape { packet_len: 1_392, packets: 100_000, gso: false };
const FLOOD_IN: Load = Load::Flood { inbound: true, shape: TRAINS };
const FLOOD_OUT: Load = Load::Flood { inbound: false, shape: TRAINS };
/// How long a TCP load takes. What is around drifts slowly, so short pairs see the same of it.
const SECONDS: u32 = 1;

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { starts, pairs, .. } = options;
    let subjects = subjects(options)?;
    let loads: Vec<_> =
        LOADS.into_iter().filter(|(name, _)| name.contains(&options.load)).collect();
    let bar = ProgressBar::new((starts * pairs * loads.len()) as u64);
    bar.set_style(ProgressStyle::with_template(
        "{elapsed_precise} [{wide_bar}] {pos}/{len} {msg}",
    )?);
    let mut ratios: Vec<Ratios> = loads.iter().map(|_| Ratios::default()).collect();
    let conditions =
        format!("server on one core, clients on the other, {starts} starts of {pairs} pairs");
    let mut report = Report::new(conditions);
    for start in 0..*starts {
        let labs = [subject::lab(), subject::lab()];
        if let Some(command) = &options.tuned {
            tune(&labs[1], command)?;
        }
        let paths = [Path::up(&labs[0], &subjects[0])?, Path::up(&labs[1], &subjects[1])?];
        for pair in 0..*pairs {
            for ((name, load), ratios) in loads.iter().zip(&mut ratios) {
                bar.set_message(*name);
                let borne = bear_in_turn(&paths, *load, (start + pair) % 2)?;
                let [rate, cost] = load.units();
                for (subject, borne) in subjects.iter().zip(borne) {
                    report.note(&subject.name, name, rate, borne.rate);
                    report.note(&subject.name, name, cost, borne.cost);
                }
                ratios.add(borne);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    for ((load, kind), ratios) in loads.iter().zip(&ratios) {
        ratios.note(load, kind.units(), &mut report);
    }
    Ratios::together(&ratios).note("all loads", ["throughput", "CPU"], &mut report);
    report.write("pair", "pair")
}

/// Has a lab's gateway namespace set up as the operator wants to try it.
fn tune(lab: &Lab, command: &str) -> Result<()> {
    let output = lab.gateway.output(Command::new("sh").args(["-c", command]));
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{command}` failed: {}", said.trim());
    Ok(())
}

fn subjects(options: &Options) -> Result<[Subject; 2]> {
    let Options { program, other, tuned, .. } = options;
    for program in [Some(program), other.as_ref()].into_iter().flatten() {
        ensure!(program.exists(), "there is no {}", program.display());
    }
    let named = |program: &std::path::Path| {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Subject::tacit(&name, program.to_path_buf())
    };
    let of_one = |name| Subject::tacit(name, program.clone());
    Ok(match other {
        Some(other) => [named(program), named(other)],
        None if tuned.is_some() => [of_one("as it is"), of_one("tuned")],
        None => [of_one("sealed"), of_one("unsealed").with_variable("TACIT_UNSEALED", "1")],
    })
}

/// Has both bear a load. Who comes first changes, or what drifts would favour one.
fn bear_in_turn(paths: &[Path<'_>; 2], load: Load, first: usize) -> Result<[Borne; 2]> {
    if first == 0 {
        let borne = paths[0].bear(load)?;
        Ok([borne, paths[1].bear(load)?])
    } else {
        let borne = paths[1].bear(load)?;
        Ok([paths[0].bear(load)?, borne])
    }
}

/// A gateway with its clients and target.
struct Path<'lab> {
    lab: &'lab Lab,
    running: Running<'lab>,
    iperf: Iperf<'lab>,
    _client: LightClient<'lab>,
}

/// What a gateway did under a load.
#[derive(Clone, Copy, Debug)]
struct Borne {
    rate: f64,
    cost: f64,
}

impl Load {
    /// What [`Borne::rate`] and [`Borne::cost`] are given in.
    const fn units(self) -> [&'static str; 2] {
        match self {
            Self::Tcp(..) => ["Gbit/s", "CPU s/GB"],
            Self::Flood { .. } => ["kpps", "CPU µs/packet"],
        }
    }
}

impl<'lab> Path<'lab> {
    fn up(lab: &'lab Lab, subject: &Subject) -> Result<Self> {
        let running =
            subject.start(lab, 1).with_context(|| format!("starting {}", subject.label()))?;
        running.processes.pin(SERVER_CPU);
        let client = LightClient::up(&lab.clients[0], &running.tcp_client, Some(LOAD_CPU))?;
        let iperf = Iperf::start(lab, client.namespace, Some(LOAD_CPU), None)?;
        Ok(Self { lab, running, _client: client, iperf })
    }

    fn bear(&self, load: Load) -> Result<Borne> {
        let cpu = || self.running.processes.cpu();
        let borne = match load {
            Load::Tcp(way, streams) => {
                let done = self.iperf.transfer(way, streams, SECONDS, "", cpu)?;
                Borne { rate: done.gbit_per_second, cost: done.cpu_per_gb }
            }
            Load::Flood { inbound, shape } => {
                let flood = if inbound { packets::inbound } else { packets::outbound };
                let done = flood(self.lab, &self.running.flood_client, shape, &cpu)?;
                Borne { rate: done.packets_per_second / 1e3, cost: done.cpu_micros }
            }
        };
        std::thread::sleep(Duration::from_millis(50));
        Ok(borne)
    }
}

/// The first by the second, pair by pair.
#[derive(Default)]
struct Ratios {
    rate: Vec<f64>,
    cost: Vec<f64>,
}

impl Ratios {
    fn add(&mut self, [first, second]: [Borne; 2]) {
        self.rate.push(first.rate / second.rate);
        self.cost.push(first.cost / second.cost);
    }

    fn together(all: &[Self]) -> Self {
        let joined = |which: fn(&Self) -> &[f64]| all.iter().flat_map(which).copied().collect();
        Self { rate: joined(|ratios| &ratios.rate), cost: joined(|ratios| &ratios.cost) }
    }

    fn note(&self, load: &str, units: [&str; 2], report: &mut Report) {
        for (unit, ratios) in units.into_iter().zip([&self.rate, &self.cost]) {
            let (median, [from, to]) = median_and_interval(ratios);
            report.note("ratio of a pair", load, unit, median);
            report.note("95 % from", load, unit, from);
            report.note("to", load, unit, to);
        }
    }
}
