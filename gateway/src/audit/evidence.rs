//! Everything that is read before it is judged.
//!
//! What the kernel knows is read from the kernel, and first. The gateway is asked only for what nobody else knows: how it
//! was started, and which tunnel addresses have a live session.

use std::{net::IpAddr, os::fd::AsFd, path::Path};

use anyhow::{Context, ensure};
use nlink::netlink::{Connection, Netfilter, netfilter::ConntrackEntry};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::{Duration, sleep};

use super::{
    bpf::{self, Program},
    data_dir::DataDir,
    host::Host,
    links::{EveryLink, Links},
    log::LogFiles,
    metrics,
    network::Network,
    perf::PerfEvents,
    process::{self, Kinship, Process},
    program::ProgramFiles,
    reading::{Reading, Unread},
    rules::Rules,
    store::StoreFiles,
    watchers::Watchers,
};
use crate::{
    admin::{AuditFacts, ListStaleAddresses, ShowAuditFacts, client},
    host,
};

/// What was read.
pub(crate) struct Evidence {
    pub(super) facts: AuditFacts,
    pub(super) control: Process,
    pub(super) forwarder: Process,
    pub(super) starter: Process,
    pub(super) kin: Reading<Vec<Kinship>>,
    pub(super) links: Reading<Links>,
    pub(super) network: Network,
    pub(super) rules: Reading<Rules>,
    pub(super) programs: Reading<Vec<Program>>,
    pub(super) perf_events: Reading<PerfEvents>,
    pub(super) stale_entries: Reading<usize>,
    pub(super) host: Host,
    pub(super) watchers: Watchers,
    pub(super) store: StoreFiles,
    pub(super) data_dir: DataDir,
    pub(super) metrics: Reading<Option<String>>,
    pub(super) log: LogFiles,
    pub(super) program: ProgramFiles,
}

impl Evidence {
    /// Reads everything about the gateway at `socket_path` and the host around it.
    ///
    /// Moves the calling thread, which must be the process's first, to the gateway's network namespace.
    ///
    /// # Errors
    /// If no gateway answers, or this process may not look.
    pub(crate) async fn gather(socket_path: &Path) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "`tacit audit` looks into processes and the kernel: run it as root"
        );
        let control = client::peer(socket_path).await?;
        let kin = process::everybody().map(|everybody| process::descendants(&everybody, control));
        enter_network_of(control)?;
        let before = BeforeAsking::read(control).await;

        let facts = client::call(socket_path, ShowAuditFacts {}).await?;
        let forwarder =
            facts.forwarder.context("the forwarder is being started again; try once more")?;
        let forwarder = Process::read(number_here(&kin, forwarder));
        let starter = Process::read(number_here(&kin, facts.starter));
        let BeforeAsking { control, links, rules, network, programs, perf_events, watchers, host } =
            before;
        let processes = [("control", &control), ("starter", &starter), ("forwarder", &forwarder)];
        Ok(Self {
            store: StoreFiles::read(&facts, &control).await,
            data_dir: DataDir::read(&facts, &control),
            metrics: metrics::read(facts.metrics),
            log: LogFiles::read(&control),
            program: ProgramFiles::read(&facts, &control, processes).await,
            control,
            forwarder,
            starter,
            kin,
            network,
            links: links.map(|links| links.around(&facts.interface)),
            rules,
            programs,
            perf_events,
            stale_entries: stale_entries(socket_path, &facts).await,
            host,
            watchers,
            facts,
        })
    }

    /// The gateway's processes.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.named_processes().map(|(_, process)| process)
    }

    /// The gateway's processes and what they are called.
    pub(super) fn named_processes(&self) -> impl Iterator<Item = (&'static str, &Process)> {
        [("control", &self.control), ("starter", &self.starter), ("forwarder", &self.forwarder)]
            .into_iter()
    }

    /// Puts this gateway's own names where `template` has braces.
    pub(crate) fn fill(&self, template: &str) -> String {
        let tunnel = self.facts.interface.as_str();
        let uplinks = self.links.as_ref().map(|links| links.uplinks(tunnel)).unwrap_or_default();
        template
            .replace("{control}", &self.control.pid.to_string())
            .replace("{forwarder}", &self.forwarder.pid.to_string())
            .replace("{starter}", &self.starter.pid.to_string())
            .replace("{tunnel}", tunnel)
            .replace("{uplink}", &uplinks.join(", "))
            .replace("{data}", &self.facts.data_dir.display().to_string())
            .replace("{sql}", &self.facts.sql())
            .replace("{config}", &self.facts.config.display().to_string())
            .replace("{socket}", &self.facts.socket.display().to_string())
            .replace(
                "{metrics}",
                &self.facts.metrics.map_or_else(|| "ADDRESS".into(), |at| at.to_string()),
            )
            .replace("{table}", &host::firewall_table(tunnel))
    }
}

/// What the kernel says by itself. It is read before the gateway is asked for anything, so that a gateway which was taken over
/// does not learn by the question that it is time to put away what it planted.
struct BeforeAsking {
    control: Process,
    links: Reading<EveryLink>,
    rules: Reading<Rules>,
    network: Network,
    programs: Reading<Vec<Program>>,
    perf_events: Reading<PerfEvents>,
    watchers: Watchers,
    host: Host,
}

impl BeforeAsking {
    async fn read(control: u32) -> Self {
        Self {
            rules: Rules::read().await,
            network: Network::read(),
            control: Process::read(control),
            links: EveryLink::read().await,
            programs: bpf::programs(),
            perf_events: PerfEvents::read(),
            watchers: Watchers::read().await,
            host: Host::read(),
        }
    }
}

/// The number here of the gateway's process that is called `number` where the gateway runs.
fn number_here(kin: &Reading<Vec<Kinship>>, number: u32) -> u32 {
    let kin = kin.as_deref().unwrap_or_default();
    kin.iter().find(|process| process.is_called(number)).map_or(number, |process| process.pid)
}

/// Moves this thread to the network namespace of a process, unless it is there already.
fn enter_network_of(pid: u32) -> anyhow::Result<()> {
    let theirs = format!("/proc/{pid}/ns/net");
    let read = |path: &str| std::fs::read_link(path).with_context(|| format!("reading {path}"));
    if read(&theirs)? == read("/proc/self/ns/net")? {
        return Ok(());
    }
    let namespace = std::fs::File::open(&theirs).with_context(|| format!("opening {theirs}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering the gateway's network namespace")
}

/// How long an entry may outlive its session: control looks each second who is gone.
const GRACE: Duration = Duration::from_secs(3);

/// Counts the connection-tracking entries of tunnel addresses without a live session, that stay so.
async fn stale_entries(socket_path: &Path, facts: &AuditFacts) -> Reading<usize> {
    let unread = |error| Unread::new("the connection-tracking entries", error);
    let first = find_stale(socket_path, facts).await.map_err(unread)?;
    if first.is_empty() {
        return Ok(0);
    }
    sleep(GRACE).await;
    let second = find_stale(socket_path, facts).await.map_err(unread)?;
    Ok(second.iter().filter(|id| first.contains(id)).count())
}

/// The numbers of such entries now.
async fn find_stale(socket_path: &Path, facts: &AuditFacts) -> anyhow::Result<Vec<Option<u32>>> {
    let netfilter = Connection::<Netfilter>::new()?;
    let mut entries = netfilter.get_conntrack().await?;
    entries.extend(netfilter.get_conntrack_v6().await?);
    let of_devices = |entry: &ConntrackEntry| -> Option<IpAddr> {
        let ends = [entry.orig.src_ip, entry.orig.dst_ip].into_iter().flatten();
        ends.into_iter().find(|address| facts.is_of_a_device(*address))
    };
    let mut addresses: Vec<IpAddr> = entries.iter().filter_map(of_devices).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let stale = client::call(socket_path, ListStaleAddresses { addresses }).await?;
    let is_stale =
        |entry: &&ConntrackEntry| of_devices(entry).is_some_and(|address| stale.contains(&address));
    Ok(entries.iter().filter(is_stale).map(|entry| entry.id).collect())
}
