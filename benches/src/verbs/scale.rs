//! How Tacit bears many devices: live ones, and ones that are only registered; and what several workers cost.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::ProgressBar;
use tacit_keys::PublicKey;
use tacit_messages::clock::Instant;
use tacit_tests::{Gateway, Lab, config::Config};

use crate::{
    loads::{
        live::LiveDevices,
        packets::{self, Shape},
    },
    population::{DEFAULT, LARGE, Networks, make_store},
    process::{Processes, SERVER_CPU},
    report::Report,
    subject,
};

/// How `scale` measures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Numbers of live devices
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000, 10_000])]
    live: Vec<usize>,
    /// Numbers of registered devices
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000, 10_000, 100_000, 1_000_000])]
    registered: Vec<u32>,
    /// Only one of the tables
    #[arg(long, value_enum)]
    only: Option<Table>,
    /// Starts of which the table shows the median
    #[arg(long, default_value_t = 9)]
    starts: usize,
}

/// What `scale` can write.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Live,
    Registered,
    Workers,
}

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Floods of each kind, of which the table shows the median.
const FLOODS: usize = 3;
const FLOOD_PACKETS: usize = 400_000;
/// Devices that flood at once, so that each worker has some, and how much each sends.
const DEVICES_OF_WORKERS: usize = 8;
const PACKETS_OF_A_DEVICE: usize = 100_000;
/// How long the devices keep silent while the gateway's own work is measured.
const IDLE: Duration = Duration::from_secs(3);

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.only.is_none_or(|only| only == Table::Live) {
        let mut report = Report::new("server on one core, load on the other".into());
        let bar = ProgressBar::new(options.live.len() as u64);
        for count in &options.live {
            measure_live(*count, &mut report)
                .with_context(|| format!("with {count} live devices"))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        report.write("scale", "live")?;
    }
    if options.only.is_none_or(|only| only == Table::Registered) {
        let mut report = Report::new(format!("medians of {} starts", options.starts));
        let bar = ProgressBar::new(options.registered.len() as u64);
        for count in &options.registered {
            measure_registered(*count, options.starts, &mut report)
                .with_context(|| format!("with {count} registered devices"))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        report.write("scale", "registered")?;
    }
    if options.only.is_none_or(|only| only == Table::Workers) {
        let mut report = Report::new(format!(
            "{DEVICES_OF_WORKERS} devices at once, nothing pinned, medians of {FLOODS} floods"
        ));
        for workers in [1, 2] {
            measure_workers(workers, &mut report)
                .with_context(|| format!("with {workers} workers"))?;
        }
        report.write("scale", "workers")?;
    }
    Ok(())
}

/// What a packet costs the workers, by the kernel's count of their CPU time: were they to wait for each other's memory,
/// it would be more with two of them.
fn measure_workers(workers: usize, report: &mut Report) -> Result<()> {
    let column = format!("{workers} workers");
    let lab = subject::lab();
    let mut gateway = stopped(&lab, DEFAULT, workers);
    let mut configs = make_store(gateway.data_dir(), DEFAULT, DEVICES_OF_WORKERS, 0)?;
    start(&mut gateway)?;
    let servers = Servers::of(&lab, &gateway, &mut configs)?;
    let shapes = [
        ("flood in, 1392 B, GSO sender", 1_392, true),
        ("flood in, 1392 B", 1_392, false),
        ("flood in, 64 B", 64, false),
    ];
    for (load, packet_len, gso) in shapes {
        let shape = Shape { packet_len, packets: PACKETS_OF_A_DEVICE, gso };
        for _ in 0..FLOODS {
            let each: Vec<Duration> = servers.cpu_of_workers(workers);
            let cpu = || servers.cpu_of_workers(workers).iter().sum();
            let done = packets::inbound_from_all(&lab, &configs, shape, cpu)?;
            report.note(&column, load, "CPU µs/packet, all workers", done.cpu_micros);
            report.note(&column, load, "kpps", done.packets_per_second / 1e3);
            let spent = servers.cpu_of_workers(workers).into_iter().zip(each);
            for (number, (after, before)) in spent.enumerate() {
                let unit = format!("CPU s, worker {number}");
                report.note(&column, load, &unit, (after - before).as_secs_f64());
            }
        }
    }
    Ok(())
}

fn measure_live(count: usize, report: &mut Report) -> Result<()> {
    let column = format!("{count} live");
    let lab = subject::lab();
    let mut gateway = stopped(&lab, DEFAULT, 1);
    let mut configs = make_store(gateway.data_dir(), DEFAULT, count, 0)?;
    let start = start(&mut gateway)?;
    let servers = Servers::of(&lab, &gateway, &mut configs)?;
    report.note(&column, "start", "ms", start.as_secs_f64() * 1e3);
    servers.note_memory(report, &column, "after the start");
    servers.both.pin(SERVER_CPU);

    let mut devices = LiveDevices::connect(&lab.clients[0], &configs)?;
    let echoed = devices.echo();
    report.note(
        &column,
        "devices that got a packet back",
        "%",
        100.0 * echoed as f64 / count as f64,
    );
    std::thread::sleep(Duration::from_secs(1));
    let sessions = gateway.json(&["status"])["sessions"].as_u64().context("sessions in status")?;
    ensure!(sessions == count as u64, "{sessions} of {count} devices are in session");
    servers.note_memory(report, &column, "all live");
    let cpu = servers.both.cpu();
    std::thread::sleep(IDLE);
    let idle = (servers.both.cpu() - cpu).as_secs_f64() / IDLE.as_secs_f64();
    report.note(&column, "CPU while all are silent", "% of a core", idle * 100.0);

    forward(&lab, &configs[0], &servers, report, &column)
}

fn measure_registered(count: u32, starts: usize, report: &mut Report) -> Result<()> {
    let column = format!("{count} registered");
    let lab = subject::lab();
    let mut gateway = stopped(&lab, LARGE, 1);
    let mut configs = make_store(gateway.data_dir(), LARGE, 1, count)?;
    // The first start makes the gateway's key.
    start(&mut gateway)?;
    for _ in 0..starts {
        gateway.stop();
        report.note(&column, "start", "ms", start(&mut gateway)?.as_secs_f64() * 1e3);
    }
    let servers = Servers::of(&lab, &gateway, &mut configs)?;
    servers.note_memory(report, &column, "after the start");
    servers.both.pin(SERVER_CPU);
    forward(&lab, &configs[0], &servers, report, &column)
}

fn stopped(lab: &Lab, networks: Networks, workers: usize) -> Gateway<'_> {
    let (Networks { v4, v6 }, workers) = (networks, workers.to_string());
    Gateway::stopped(lab, "gateway", &["--workers", &workers, "--tunnel-v4", v4, "--tunnel-v6", v6])
}

/// Starts the gateway; returns how long it takes until it says that it is ready.
fn start(gateway: &mut Gateway<'_>) -> Result<Duration> {
    let ready = |gateway: &Gateway<'_>| gateway.log().matches("ready").count();
    let before = ready(gateway);
    let start = Instant::now();
    gateway.spawn();
    while ready(gateway) == before {
        if Instant::now().since(start) > PATIENCE {
            bail!("the gateway did not become ready:\n{}", gateway.log());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(Instant::now().since(start))
}

/// The busy device's traffic among the others.
fn forward(
    lab: &Lab,
    busy: &Config,
    servers: &Servers<'_>,
    report: &mut Report,
    column: &str,
) -> Result<()> {
    let cpu = || servers.both.cpu();
    let shape = |packet_len, gso| Shape { packet_len, packets: FLOOD_PACKETS, gso };
    let mut note = |load: &str, done: packets::Flooded| {
        report.note(column, load, "kpps", done.packets_per_second / 1e3);
        report.note(column, load, "CPU µs/packet", done.cpu_micros);
    };
    for _ in 0..FLOODS {
        note("flood in, 1392 B, GSO sender", packets::inbound(lab, busy, shape(1_392, true), cpu)?);
        note("flood in, 64 B", packets::inbound(lab, busy, shape(64, false), cpu)?);
        note(
            "flood out, 1392 B, GSO sender",
            packets::outbound(lab, busy, shape(1_392, true), cpu)?,
        );
    }
    servers.note_memory(report, column, "after the load");
    report.note(column, "memory, peak, both processes", "MiB", servers.both.peak_mib());
    Ok(())
}

/// The gateway's two processes.
struct Servers<'lab> {
    both: Processes<'lab>,
    control: Processes<'lab>,
    forwarder: Processes<'lab>,
}

impl<'lab> Servers<'lab> {
    /// Asks a running gateway for its processes, and writes its key into `configs`.
    fn of(lab: &'lab Lab, gateway: &Gateway<'_>, configs: &mut [Config]) -> Result<Self> {
        let status = gateway.json(&["status"]);
        let key = status["public_key"].as_str().context("public_key in status")?;
        let key: PublicKey = key.parse()?;
        configs.iter_mut().for_each(|config| config.gateway_key = *key.as_bytes());
        let id = |process: &str| status[process]["pid"].as_u64().context("a pid in status");
        let processes = |ids| Processes { namespace: &lab.gateway, ids };
        let (control, forwarder) = (id("control")?, id("forwarder")?);
        Ok(Self {
            both: processes(vec![control, forwarder]),
            control: processes(vec![control]),
            forwarder: processes(vec![forwarder]),
        })
    }

    /// CPU time of each of the forwarder's workers.
    fn cpu_of_workers(&self, workers: usize) -> Vec<Duration> {
        (0..workers)
            .map(|number| self.forwarder.cpu_of_threads(&format!("worker-{number}")))
            .collect()
    }

    fn note_memory(&self, report: &mut Report, column: &str, when: &str) {
        for (name, processes) in [("control", &self.control), ("forwarder", &self.forwarder)] {
            let load = format!("memory {when}, {name}");
            report.note(column, &load, "MiB", processes.resident_mib());
        }
    }
}
