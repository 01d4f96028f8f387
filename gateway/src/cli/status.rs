//! `tacit status`.

use anyhow::ensure;
use clap::Args;

use super::{
    RunningGateway,
    print::{Output, pairs},
};
use crate::admin::{ShowStatus, Status, StoreStatus};

#[derive(Args)]
#[command(after_help = "Examples:
  tacit status
  tacit status --json
  tacit status --without-counts --check    # for a health check: the store counts nothing
  tacit status --socket /run/tacit-2/admin.sock")]
pub(super) struct StatusArguments {
    #[command(flatten)]
    output: Output,
    /// Do not count devices and accounts, which takes a store with millions of them a while.
    #[arg(long)]
    without_counts: bool,
    /// End with 1 unless there is a forwarder, which carries the packets.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(
    gateway: &RunningGateway<'_>,
    arguments: StatusArguments,
) -> anyhow::Result<()> {
    let status = gateway.ask(ShowStatus { without_counts: arguments.without_counts }).await?;
    arguments.output.print(&status, text)?;
    let is_carrying = status.forwarder.pid.is_some();
    ensure!(is_carrying || !arguments.check, "there is no forwarder; it is starting again");
    Ok(())
}

fn text(status: &Status) -> String {
    let listen: Vec<_> = status.listen.iter().map(ToString::to_string).collect();
    let totals = &status.totals;
    let mut lines = vec![
        ("version", format!("{}, commit {}", status.version, status.commit)),
        ("interface", status.interface.clone()),
        ("public key", status.public_key.to_string()),
        ("listen", listen.join(", ")),
        ("endpoint", status.endpoint.clone().unwrap_or_else(|| "none found".into())),
        ("tunnel", format!("{}, {}", status.tunnel_v4, status.tunnel_v6)),
        ("sessions", status.sessions.to_string()),
        ("devices", count(status.devices_registered, &status.store)),
        ("accounts", count(status.accounts, &status.store)),
        ("store", store(&status.store)),
        ("forwarder", forwarder(status)),
        ("control", format!("pid {}", status.control.pid)),
        ("starter", format!("pid {}", status.starter.pid)),
        ("inbound", packets(totals.inbound_packets, totals.inbound_bytes)),
        ("outbound", packets(totals.outbound_packets, totals.outbound_bytes)),
        ("handshakes", totals.handshakes.to_string()),
    ];
    let dropped = totals.drops.iter().filter(|(_, count)| **count > 0);
    let dropped: Vec<_> = dropped.map(|(reason, count)| format!("{reason} {count}")).collect();
    let dropped = if dropped.is_empty() { "none".into() } else { dropped.join(", ") };
    lines.push(("dropped", dropped));
    pairs(lines)
}

fn count(count: Option<u64>, store: &StoreStatus) -> String {
    match count {
        Some(count) => count.to_string(),
        None if store.away_since.is_some() => "not known while the store is away".into(),
        None => "not counted".into(),
    }
}

fn store(store: &StoreStatus) -> String {
    let StoreStatus { kind, away_since, waiting_changes, .. } = store;
    match away_since {
        Some(since) => {
            format!("{kind}, away since {since}; {waiting_changes} changes of sessions wait")
        }
        None => kind.clone(),
    }
}

fn forwarder(status: &Status) -> String {
    let forwarder = &status.forwarder;
    let restarts = match forwarder.restarts {
        0 => String::new(),
        1 => ", restarted once".into(),
        restarts => format!(", restarted {restarts} times"),
    };
    let flagged = match forwarder.flagged {
        0 => String::new(),
        flagged => format!(", of these {flagged} because it said more than it may"),
    };
    match forwarder.pid {
        Some(pid) => format!("pid {pid} since {}{restarts}{flagged}", forwarder.since),
        None => format!("starting again{restarts}{flagged}"),
    }
}

fn packets(packets: u64, bytes: u64) -> String {
    format!("{packets} packets, {}", byte_count(bytes))
}

fn byte_count(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_in_readable_units() {
        assert_eq!(byte_count(1023), "1023 B");
        assert_eq!(byte_count(1536), "1.5 KiB");
        assert_eq!(byte_count(3 << 30), "3.0 GiB");
    }
}
