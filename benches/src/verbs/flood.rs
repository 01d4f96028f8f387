//! What is left of an established tunnel's throughput while handshake initiations of nobody's keys arrive.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use tacit_messages::clock::Instant;
use tacit_tests::{Lab, Namespace, gateway::program};

use crate::{
    loads::{
        client::LightClient,
        initiations::{Forgery, Initiations},
        packets::{self, Shape},
        tcp::{self, Iperf, Way},
    },
    process::{LOAD_CPU, SERVER_CPU},
    report::Report,
    subject::{self, Running, Subject},
};

/// How `flood` measures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The steady load, in thousands of packets per second of 1,392 bytes
    #[arg(long, default_value_t = 300.0)]
    kpps: f64,
    /// The TCP load in Mbit/s of each of four streams
    #[arg(long, default_value_t = 100)]
    mbit: u32,
}

/// How long each load takes, in seconds.
const SECONDS: u32 = 4;

/// What is measured beside no flood.
const FLOODS: [(&str, Option<Forgery>); 3] = [
    ("no flood", None),
    ("initiations with wrong mac1", Some(Forgery::WrongMac)),
    ("initiations with right mac1", Some(Forgery::RightMac)),
];

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let lab = subject::lab();
    let running = Subject::tacit("tacit", program()).start(&lab, 1)?;
    running.processes.pin(SERVER_CPU);
    let client = LightClient::up(&lab.clients[0], &running.tcp_client, Some(LOAD_CPU))?;
    let iperf = Iperf::start(&lab, client.namespace, Some(LOAD_CPU), None)?;
    tcp::idle_round_trips(client.namespace);

    let conditions =
        format!("server on one core, clients on the other, medians of {} rounds", options.rounds);
    let mut report = Report::new(conditions);
    let bar = ProgressBar::new((options.rounds * FLOODS.len()) as u64);
    for _ in 0..options.rounds {
        let mut alone = None;
        for (column, forgery) in FLOODS {
            let lab = Established { lab: &lab, running: &running, iperf: &iperf, options };
            let through = lab.measure(column, forgery, &mut report)?;
            let alone: &Through = alone.get_or_insert(through);
            through.note_ratios(alone, column, &mut report);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    report.write("flood", "flood")
}

/// A gateway with two established tunnels.
struct Established<'a> {
    lab: &'a Lab,
    running: &'a Running<'a>,
    iperf: &'a Iperf<'a>,
    options: &'a Options,
}

/// What got through.
#[derive(Clone, Copy, Debug)]
struct Through {
    kpps: f64,
    gbit_up: f64,
    gbit_down: f64,
}

const STEADY: &str = "steady flood in, 1392 B";
const TCP_UP: &str = "tcp up, 4 paced streams";
const TCP_DOWN: &str = "tcp down, 4 paced streams";

impl Established<'_> {
    fn measure(
        &self,
        column: &str,
        forgery: Option<Forgery>,
        report: &mut Report,
    ) -> Result<Through> {
        let initiations = forgery
            .map(|forgery| Initiations::new(self.lab, &self.running.flood_client, forgery))
            .transpose()?;
        let flood = initiations.as_ref();
        let cpu = || self.running.processes.cpu();

        let packets_per_second = self.options.kpps * 1e3;
        let packets = (packets_per_second * f64::from(SECONDS)) as usize;
        let shape = Shape { packet_len: 1_392, packets, gso: true };
        let config = &self.running.flood_client;
        let inbound = packets::Inbound::new(self.lab, config, shape)?;
        let (flooded, arriving) = under(flood, &self.lab.gateway, || {
            inbound.send_steadily(self.lab, packets_per_second, cpu)
        })?;
        drop(inbound);
        let kpps = flooded.packets_per_second / 1e3;
        report.note(column, STEADY, "kpps", kpps);
        report.note(column, STEADY, "% arrived", flooded.arrived * 100.0);
        arriving.note(column, STEADY, report);

        let (handshake, _) =
            under(flood, &self.lab.gateway, || Ok(packets::handshake(self.lab, config).ok()))?;
        // One that does not come about shows as infinite.
        let millis = handshake.map_or(f64::INFINITY, |took| took.as_secs_f64() * 1e3);
        report.note(column, "another device's handshake", "ms", millis);

        let mut tcp = |load: &str, way| -> Result<f64> {
            let more = format!("-b {}M", self.options.mbit);
            let (transferred, arriving) = under(flood, &self.lab.gateway, || {
                self.iperf.transfer(way, 4, SECONDS, &more, cpu)
            })?;
            report.note(column, load, "Gbit/s", transferred.gbit_per_second);
            arriving.note(column, load, report);
            Ok(transferred.gbit_per_second)
        };
        Ok(Through { kpps, gbit_up: tcp(TCP_UP, Way::Up)?, gbit_down: tcp(TCP_DOWN, Way::Down)? })
    }
}

impl Through {
    fn note_ratios(&self, alone: &Self, column: &str, report: &mut Report) {
        let mut note = |load: &str, with: f64, without: f64| {
            report.note(column, load, "% of no flood", 100.0 * with / without);
        };
        note(STEADY, self.kpps, alone.kpps);
        note(TCP_UP, self.gbit_up, alone.gbit_up);
        note(TCP_DOWN, self.gbit_down, alone.gbit_down);
    }
}

/// What the gateway's sockets had to bear beside the load.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    initiations_per_second: f64,
    /// Datagrams that found the sockets' buffers full.
    lost_per_second: f64,
}

impl Arriving {
    fn note(&self, column: &str, load: &str, report: &mut Report) {
        let (load, lost) = (format!("{load}: initiations"), format!("{load}: full buffers"));
        report.note(column, &load, "thousand/s", self.initiations_per_second / 1e3);
        report.note(column, &lost, "thousand/s", self.lost_per_second / 1e3);
    }
}

/// Measures while initiations arrive, if there are any.
fn under<T>(
    flood: Option<&Initiations>,
    gateway: &Namespace,
    measure: impl FnOnce() -> Result<T>,
) -> Result<(T, Arriving)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = flood.map(|flood| scope.spawn(|| flood.send_until(&stop)));
        let (start, lost) = (Instant::now(), receive_errors(gateway));
        let measured = measure();
        stop.store(true, Ordering::Relaxed);
        let seconds = Instant::now().since(start).as_secs_f64();
        let sent = sender.and_then(|sender| sender.join().ok()).unwrap_or(0);
        // The queues run empty before the next load.
        std::thread::sleep(Duration::from_millis(500));
        let lost_per_second = (receive_errors(gateway)? - lost?) / seconds;
        Ok((measured?, Arriving { initiations_per_second: sent as f64 / seconds, lost_per_second }))
    })
}

/// Datagrams that found a full buffer in a namespace so far.
fn receive_errors(namespace: &Namespace) -> Result<f64> {
    let text = namespace.sh("cat /proc/net/snmp");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next(), lines.next());
    let place = names.and_then(|names| names.split(' ').position(|name| name == "RcvbufErrors"));
    let value = place.and_then(|place| values?.split(' ').nth(place)?.parse().ok());
    value.context("RcvbufErrors in /proc/net/snmp")
}
