//! What the customer site answers in a second, and what is left of forwarding meanwhile.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use tacit_messages::clock::Instant;
use tacit_tests::{Gateway, Lab, Visitor, gateway::program, lab::GATEWAY_V4};

use crate::{
    loads::{
        client::LightClient,
        tcp::{self, Iperf, Way},
    },
    process::{LOAD_CPU, Processes, SERVER_CPU, pin_thread, set_niceness},
    report::{Report, median_and_interval},
    subject,
};

/// How `site` measures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Pairs of each load with and without visitors; the table shows medians
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// Another build of Tacit [default: target/release/tacit]
    #[arg(long, value_name = "PROGRAM")]
    tacit: Option<PathBuf>,
}

/// How long each load takes, in seconds. What is around drifts slowly, so short pairs see the same of it.
const SECONDS: u32 = 2;
const STREAMS: usize = 8;
const PORT: u16 = 8443;

/// Who logs in at once, each time from another network with another name, so that nobody has to wait.
const LOGGING_IN: usize = 8;

/// What visitors do.
#[derive(Clone, Copy, Debug)]
enum Visits {
    Home,
    LogIn,
}

const NOBODY: &str = "no visitors";
const VISITORS: [(&str, Visits); 2] = [("home page", Visits::Home), ("log-in", Visits::LogIn)];
const WAYS: [(&str, Way); 2] = [("tcp up", Way::Up), ("tcp down", Way::Down)];

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let lab = subject::lab();
    // The visitors' many networks.
    lab.clients[1].sh("ip route add local 172.16.0.0/12 dev lo");
    lab.gateway.sh("ip route add 172.16.0.0/12 via 192.0.2.18");
    let flags =
        ["--workers", "1", "--site", "0.0.0.0:8443", "--site-url", "https://vpn.example.org"];
    let mut gateway = Gateway::stopped(&lab, "gateway", &flags)
        .built_as(&options.tacit.clone().unwrap_or_else(program));
    gateway.run();
    let config = gateway.customer("bench@example.org");
    let status = gateway.json(&["status"]);
    let id = |process: &str| status[process]["pid"].as_u64();
    let ids = ["control", "forwarder", "starter"].map(id).into_iter().collect::<Option<_>>();
    let processes = Processes { namespace: &lab.gateway, ids: ids.context("no process")? };
    processes.pin(SERVER_CPU);
    let client = LightClient::up(&lab.clients[0], &config, Some(LOAD_CPU))?;
    let iperf = Iperf::start(&lab, client.namespace, Some(LOAD_CPU), Some(LOAD_CPU))?;
    tcp::idle_round_trips(client.namespace);

    let conditions = format!("server on one core, load on the other, {} pairs", options.pairs);
    let mut report = Report::new(conditions);
    let site = Site { lab: &lab, certificate: gateway.data_dir().join("site.pem") };
    let control = Processes { namespace: &lab.gateway, ids: processes.ids[..1].to_vec() };
    let transfer = |way| iperf.transfer(way, STREAMS, SECONDS, "", || control.cpu());
    let mut left = BTreeMap::<_, Vec<f64>>::new();
    let bar = ProgressBar::new((options.pairs * VISITORS.len() * WAYS.len()) as u64);
    for pair in 0..options.pairs {
        for (column, visits) in VISITORS {
            site.note_alone(visits, column, &mut report)?;
            for (load, way) in WAYS {
                // One right after the other, since the machine is not as fast at all times; and each first in turn.
                let alone = || transfer(way);
                let beside = || site.beside(visits, || transfer(way));
                let (without, (with, answered)) = if pair % 2 == 0 {
                    (alone()?, beside()?)
                } else {
                    let with = beside()?;
                    (alone()?, with)
                };
                for (column, transferred) in [(NOBODY, without), (column, with)] {
                    report.note(column, load, "Gbit/s", transferred.gbit_per_second);
                    report.note(
                        column,
                        load,
                        "control's % of a core",
                        100.0 * transferred.cpu_share(),
                    );
                }
                let ratio = with.gbit_per_second / without.gbit_per_second;
                left.entry((load, column)).or_default().push(100.0 * ratio);
                answered.note(column, &format!("{load}: answers"), &mut report);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    for ((load, column), percentages) in left {
        let (median, [from, to]) = median_and_interval(&percentages);
        report.note(column, load, "% of no visitors", median);
        report.note(column, load, "95 % from", from);
        report.note(column, load, "to", to);
    }
    report.write("site", "site")
}

/// The site and its visitors.
struct Site<'lab> {
    lab: &'lab Lab,
    certificate: PathBuf,
}

/// What visitors got.
#[derive(Clone, Copy, Debug)]
struct Answered {
    per_second: f64,
}

impl Answered {
    fn note(self, column: &str, load: &str, report: &mut Report) {
        report.note(column, load, "per second", self.per_second);
    }
}

impl Site<'_> {
    /// What visitors get while nothing is forwarded.
    fn note_alone(&self, visits: Visits, column: &str, report: &mut Report) -> Result<()> {
        let (_, answered) = self.beside(visits, || {
            std::thread::sleep(Duration::from_secs(SECONDS.into()));
            Ok(())
        })?;
        answered.note(column, "nothing forwarded: answers", report);
        Ok(())
    }

    /// Measures while there are visitors.
    fn beside<T>(
        &self,
        visits: Visits,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Answered)> {
        match visits {
            Visits::Home => self.beside_home(measure),
            Visits::LogIn => self.beside_log_in(measure),
        }
    }

    /// While `wrk` loads the first page over and over.
    fn beside_home<T>(&self, measure: impl FnOnce() -> Result<T>) -> Result<(T, Answered)> {
        let line = format!(
            "exec nice -n 19 taskset -c {LOAD_CPU} wrk -t 1 -c 16 -d {SECONDS}s https://{GATEWAY_V4}:{PORT}/"
        );
        std::thread::scope(|scope| {
            let visiting = scope.spawn(|| self.lab.clients[1].sh(&line));
            let measured = measure();
            let told = visiting.join().ok().context("wrk failed (Debian package wrk)")?;
            let field = |name: &str| told.lines().find_map(|line| line.trim().strip_prefix(name));
            ensure!(field("Non-2xx").is_none(), "the site refused: {told}");
            let rate = field("Requests/sec:").and_then(|rate| rate.trim().parse().ok());
            Ok((measured?, Answered { per_second: rate.context("wrk tells no rate")? }))
        })
    }

    /// While people log in whom the site does not know, which takes as long as for those whom it knows.
    fn beside_log_in<T>(&self, measure: impl FnOnce() -> Result<T>) -> Result<(T, Answered)> {
        static TRIED: AtomicUsize = AtomicUsize::new(0);
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..LOGGING_IN {
                scope.spawn(|| {
                    let _ = pin_thread(LOAD_CPU);
                    let _ = set_niceness(19);
                    while !stop.load(Ordering::Relaxed) {
                        let number = TRIED.fetch_add(1, Ordering::Relaxed);
                        if self.log_in(number) {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let began = Instant::now();
            let measured = measure();
            let lasted = Instant::now().since(began).as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let per_second = answered.load(Ordering::Relaxed) as f64 / lasted;
            Ok((measured?, Answered { per_second }))
        })
    }

    /// Whether a try was answered for what it was, not for being one too many.
    fn log_in(&self, number: usize) -> bool {
        let site = SocketAddr::new(GATEWAY_V4.into(), PORT);
        let visitor = Visitor::at(site, &self.lab.clients[1], &self.certificate);
        let answer =
            visitor.coming_from(network(number)).log_in(&format!("n{number}@example.org"), "wrong");
        answer.body.contains("is wrong")
    }
}

/// An address of the visitors' network with this number; there are 4,096.
fn network(number: usize) -> IpAddr {
    let first = u32::from(Ipv4Addr::new(172, 16, 0, 1));
    Ipv4Addr::from(first + (((number % 4096) as u32) << 8)).into()
}
