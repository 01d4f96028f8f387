//! TCP and pings through a WireGuard client, the same for every server.

use std::{process::Child, process::Command, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tacit_tests::{Namespace, lab::TARGET_V4, ping::Ping};

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
    /// The server's CPU time per gigabyte that arrived, in seconds.
    pub(crate) cpu_per_gb: f64,
}

/// Round-trip times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrips {
    pub(crate) median: f64,
    pub p99: f64,
}

/// The target's iperf3; it ends when dropped.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(target: &Namespace) -> Result<Self> {
        let mut command = Command::new("iperf3");
        command.arg("-s").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            target.start(&mut command).context("starting iperf3 (Debian package iperf3)")?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn iperf3(way: Way, streams: usize, seconds: u32, load: &str, more: &str) -> String {
    let reverse = if way == Way::Down { "-R" } else { "" };
    format!("{load} iperf3 -c {TARGET_V4} -C cubic -P {streams} -t {seconds} {reverse} {more} -J")
}

/// Moves bytes; `load` is a command that confines the client, `more` has flags for it.
pub(crate) fn transfer(
    client: &Namespace,
    way: Way,
    streams: usize,
    seconds: u32,
    load: &str,
    more: &str,
    cpu: impl Fn() -> Duration,
) -> Result<Transferred> {
    let before = cpu();
    let report = json_of(client, &iperf3(way, streams, seconds, load, more))?;
    let spent = (cpu() - before).as_secs_f64();
    let received = &report["end"]["sum_received"];
    let number = |name: &str| received[name].as_f64().context("iperf3 reports no bytes");
    Ok(Transferred {
        gbit_per_second: number("bits_per_second")? / 1e9,
        cpu_per_gb: spent / (number("bytes")? / 1e9),
    })
}

/// Pings while nothing else happens.
pub(crate) fn idle_round_trips(client: &Namespace) -> RoundTrips {
    round_trips(client, 300)
}

/// Pings beside four streams of 200 Mbit/s.
pub(crate) fn loaded_round_trips(client: &Namespace, way: Way, load: &str) -> RoundTrips {
    std::thread::scope(|scope| {
        scope.spawn(|| client.sh(&iperf3(way, 4, 5, load, "-b 200M")));
        std::thread::sleep(Duration::from_secs(1));
        round_trips(client, 300)
    })
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
