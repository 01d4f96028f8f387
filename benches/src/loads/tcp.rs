//! TCP and pings through a WireGuard client, the same for every server.

use std::{process::Child, process::Command, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tacit_tests::{Lab, Namespace, clock::wait_for, lab::TARGET_V4, ping::Ping};

use crate::subject::json_of;

/// Which way the bytes flow, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What came of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transferred {
    pub(crate) gbit_per_second: f64,
    /// CPU time per gigabyte that arrived, in seconds, of the processes that were asked about.
    pub(crate) cpu_per_gb: f64,
}

impl Transferred {
    /// Their share of a core.
    pub(crate) fn cpu_share(self) -> f64 {
        self.cpu_per_gb * self.gbit_per_second / 8.0
    }
}

/// Round-trip times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrips {
    pub(crate) median: f64,
    pub p99: f64,
}

/// A client's and the target's iperf3. The target's ends when this is dropped.
pub(crate) struct Iperf<'lab> {
    client: &'lab Namespace,
    server: Child,
    /// The command that confines the client's.
    confined: String,
}

impl<'lab> Iperf<'lab> {
    /// Starts the target's. Each will run on one processor alone, if one is given; else where there is room.
    pub(crate) fn start(
        lab: &'lab Lab,
        client: &'lab Namespace,
        client_cpu: Option<usize>,
        target_cpu: Option<usize>,
    ) -> Result<Self> {
        let confined =
            |cpu: Option<usize>| cpu.map_or_else(String::new, |cpu| format!("taskset -c {cpu}"));
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec {} iperf3 -s", confined(target_cpu))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = lab.target_namespace.start(&mut command).context("starting a shell")?;
        let iperf = Self { client, server, confined: confined(client_cpu) };
        let listens = || {
            let listening = lab.target_namespace.sh("ss -Hltn 'sport = :5201'");
            (!listening.is_empty()).then_some(())
        };
        wait_for(Duration::from_secs(5), listens)
            .context("iperf3 does not listen (Debian package iperf3)")?;
        Ok(iperf)
    }

    /// Moves bytes through the client's tunnel; `more` has flags for its iperf3.
    pub(crate) fn transfer(
        &self,
        way: Way,
        streams: usize,
        seconds: u32,
        more: &str,
        cpu: impl Fn() -> Duration,
    ) -> Result<Transferred> {
        let before = cpu();
        let report = json_of(self.client, &self.line(way, streams, seconds, more))?;
        let spent = (cpu() - before).as_secs_f64();
        let received = &report["end"]["sum_received"];
        let number = |name: &str| received[name].as_f64().context("iperf3 reports no bytes");
        Ok(Transferred {
            gbit_per_second: number("bits_per_second")? / 1e9,
            cpu_per_gb: spent / (number("bytes")? / 1e9),
        })
    }

    /// Pings beside four streams of 200 Mbit/s.
    pub(crate) fn loaded_round_trips(&self, way: Way) -> RoundTrips {
        std::thread::scope(|scope| {
            scope.spawn(|| self.client.sh(&self.line(way, 4, 5, "-b 200M")));
            std::thread::sleep(Duration::from_secs(1));
            round_trips(self.client, 300)
        })
    }

    fn line(&self, way: Way, streams: usize, seconds: u32, more: &str) -> String {
        let (confined, reverse) = (&self.confined, if way == Way::Down { "-R" } else { "" });
        format!(
            "{confined} iperf3 -c {TARGET_V4} -C cubic -P {streams} -t {seconds} {reverse} {more} -J"
        )
    }
}

impl Drop for Iperf<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Pings while nothing else happens.
pub(crate) fn idle_round_trips(client: &Namespace) -> RoundTrips {
    round_trips(client, 300)
}

fn round_trips(client: &Namespace, count: usize) -> RoundTrips {
    let ping = Ping::run(client, TARGET_V4.into(), count, "0.01", &[]);
    let times = ping.text.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next());
    let mut millis: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| {
        millis.get((millis.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    };
    RoundTrips { median: at(0.5), p99: at(0.99) }
}
