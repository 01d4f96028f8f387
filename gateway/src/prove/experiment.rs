//! The experiment, step by step.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use tacit_keys::PrivateKey;
use tacit_messages::{UnixSeconds, clock::Instant};

use super::{
    Progress, Report,
    capture::Capture,
    client::{Client, ClientConfig},
    files::{self, Files},
    gateway::{PrivateGateway, Remains},
    host,
    judge::{self, Evidence},
    kernel_state,
    ledger::{Ledger, Moment, PlaceKind},
    mark::{Family, Mark, Value},
    memory,
    namespace::Namespace,
    search::Search,
    target::Target,
    traffic::{self, Exchange, Transport},
    watch::{Expected, Witness},
    wires,
};
use crate::admin::{AddAccount, AddDevice, Confirmation, ListSessions, RemoveDevice, ShowStatus};

/// WireGuard's port.
const PORT: u16 = 51820;
/// The gateway's program, as it sees it itself.
const PROGRAM: &str = "/run/tacit-prove/tacit";
/// The wire to the target.
const UPLINK: &str = "uplink";
/// The variable that carries a planted mark into the gateway's memory.
const PLANTED_VARIABLE: &str = "PROVE_CONTROL";
/// How long the gateway takes to note the end of a session everywhere: connection tracking is swept once more
/// when nothing can be on its way.
const SESSION_END: Duration = Duration::from_millis(3500);

/// Makes the experiment.
///
/// # Errors
/// What kept it from being made.
pub(super) fn run(strace: &Path, progress: &Progress) -> anyhow::Result<Report> {
    let (began, began_at) = (Instant::now(), UnixSeconds::now());
    progress.step("starting a private gateway, watched by strace");
    let mut marks = Vec::new();
    let planted = Planted::draw(&mut marks);
    let variable = marks[planted.memory].shown();
    let gateway = PrivateGateway::start(strace, (PLANTED_VARIABLE, &variable))?;

    progress.step("drawing marks that occur nowhere yet");
    let mut parties = [
        Party::draw("A", "client-a", [Family::V4, Family::V4], &mut marks)?,
        Party::draw("B", "client-b", [Family::V6; 1], &mut marks)?,
    ];
    let search = search_for_fresh(&mut marks, planted.count, &gateway)?;
    let mut ledger = Ledger::new(search);

    progress.step("connecting clients and a target");
    let (target, uplink) = connect_target(&gateway, &parties, &marks)?;
    planted.plant(&gateway, &marks)?;
    for party in &mut parties {
        party.connect(&gateway, &marks, &marks[planted.store].shown())?;
    }

    progress.step("sending marked traffic");
    let traced_before = gateway.traced()?;
    for party in &parties {
        party.say(&marks, Half::First)?;
    }
    progress.step("moving a client to another address, and sending more");
    for party in &mut parties {
        party.move_on(&gateway, &marks)?;
        party.say(&marks, Half::Second)?;
    }

    progress.step("searching while clients are connected");
    let mut files = Files::default();
    let laid: BTreeSet<IpAddr> = marks.iter().filter_map(Mark::address).collect();
    search_running(&gateway, &laid, &mut files, &mut ledger, Moment::Live)?;

    progress.step("searching after their sessions have ended");
    for party in &parties {
        gateway
            .ask(RemoveDevice { account: party.email(), name: party.device(&marks, &planted) })?;
    }
    thread::sleep(SESSION_END);
    search_running(&gateway, &laid, &mut files, &mut ledger, Moment::Ended)?;
    let totals = gateway.ask(ShowStatus { without_counts: true })?.totals;
    let sessions = recorded_sessions(&gateway, &parties)?;
    let system_v = host::count_system_v(&gateway.namespace)?;

    progress.step("stopping the gateway and searching what is left");
    drop(parties.each_mut().map(|party| party.client.take()));
    let remains = gateway.stop()?;
    let trace = read_trace(&remains)?;
    let clients: Vec<_> = parties.iter().flat_map(|party| party.sockets(&marks)).collect();
    let expected = Expected { program: PROGRAM, clients: &clients };
    let witness = Witness::read(&trace, expected);
    let late = Witness::read(trace.get(traced_before..).unwrap_or(&trace), expected);
    search_remains(&remains, &witness, &mut files, &mut ledger)?;
    kernel_state::search(&remains.namespace, &laid, &mut ledger, Moment::Stopped)?;
    host::search_changed(began_at, &mut ledger, Moment::Stopped);
    host::search_kernel_log(&mut ledger, Moment::Stopped);

    progress.step("judging");
    let evidence = Evidence {
        began_at,
        took: Instant::now().since(began),
        arrivals: target.arrivals(),
        searched_files: files.paths(),
        marks: &marks,
        planted: &planted,
        exchanges: parties.iter().flat_map(|party| &party.exchanges).collect(),
        connected_from: parties.iter().flat_map(|party| party.connected_from(&marks)).collect(),
        ledger: &ledger,
        witness,
        late,
        totals,
        sessions,
        strays: strays(&uplink, &target, &parties, &marks),
        system_v,
    };
    judge::report(evidence)
}

/// Marks that are planted where they must be found.
pub(super) struct Planted {
    /// In a file below `/tmp`.
    pub(super) file: usize,
    /// In shared memory.
    pub(super) shared_memory: usize,
    /// On stderr.
    pub(super) output: usize,
    /// In the store: the name of a device.
    pub(super) store: usize,
    /// In control's memory: a variable of its environment.
    pub(super) memory: usize,
    /// In the kernel: another name of an interface.
    pub(super) alias: usize,
    /// In the kernel: the comment of a firewall's table.
    pub(super) comment: usize,
    /// How many there are; they are the first marks.
    pub(super) count: usize,
}

impl Planted {
    /// Draws them; they must be the first marks.
    pub(super) fn draw(marks: &mut Vec<Mark>) -> Self {
        let mut draw = |what: &str| {
            marks.push(Mark::text(what));
            marks.len() - 1
        };
        Self {
            file: draw("planted in a temporary file, which is then deleted"),
            shared_memory: draw("planted in shared memory"),
            output: draw("planted on stderr"),
            store: draw("planted in the database, as the name of a device"),
            memory: draw("planted in control's memory, as a variable"),
            alias: draw("planted in the kernel, as another name of an interface"),
            comment: draw("planted in the kernel, as the comment of a firewall's table"),
            count: 7,
        }
    }

    fn plant(&self, gateway: &PrivateGateway, marks: &[Mark]) -> anyhow::Result<()> {
        let [file, shared_memory, output] =
            [self.file, self.shared_memory, self.output].map(|mark| marks[mark].shown());
        gateway.plant_in_output(&output).context("planting a mark")?;
        let [alias, comment] = [self.alias, self.comment].map(|mark| marks[mark].shown());
        gateway
            .namespace
            .within_async(async || kernel_state::plant(&alias, &comment).await)
            .context("planting a mark")?;
        gateway.namespace.within(|| {
            for (path, mark) in [("/tmp/planted", file), ("/dev/shm/planted", shared_memory)] {
                fs::write(path, mark).context("planting a mark")?;
            }
            Ok(())
        })
    }
}

/// Prepares the search, with every mark of the traffic drawn anew that the gateway has in memory already.
///
/// Four random bytes can occur by chance in the megabytes that a process maps before anything was sent.
fn search_for_fresh(
    marks: &mut [Mark],
    planted: usize,
    gateway: &PrivateGateway,
) -> anyhow::Result<Search> {
    const ATTEMPTS: usize = 5;
    for _ in 0..ATTEMPTS {
        let search = Search::new(marks)?;
        let mut taken = BTreeSet::new();
        for process in gateway.processes().iter().filter(|process| !process.is_forwarder()) {
            let found = memory::search(&search, process).context("reading a process's memory")?;
            taken.extend(found.hits.iter().map(|hit| hit.mark).filter(|mark| *mark >= planted));
        }
        if taken.is_empty() {
            return Ok(search);
        }
        taken.into_iter().for_each(|mark| marks[mark].redraw());
    }
    anyhow::bail!("marks occur in the gateway's memory before they are sent")
}

/// Gives the target every address that traffic goes to, and starts its servers.
fn connect_target(
    gateway: &PrivateGateway,
    parties: &[Party],
    marks: &[Mark],
) -> anyhow::Result<(Target, Capture)> {
    let namespace = Namespace::network()?;
    wires::lay(&gateway.namespace, UPLINK, &namespace)?;
    let uplink = Capture::start(&namespace)?;
    wires::lead_out(&gateway.namespace, UPLINK, &namespace)?;
    wires::answer_by_wire(&namespace)?;
    let exchanges = parties.iter().flat_map(|party| &party.exchanges);
    let servers: Vec<_> =
        exchanges.filter_map(|exchange| Some((exchange.transport, exchange.to(marks)?))).collect();
    for (_, address) in &servers {
        wires::place(&gateway.namespace, UPLINK, &namespace, address.ip())?;
    }
    Ok((Target::start(&namespace, servers)?, uplink))
}

/// Everything that came to the target or a client and that nobody said to them.
fn strays(
    uplink: &Capture,
    target: &Target,
    parties: &[Party],
    marks: &[Mark],
) -> BTreeSet<String> {
    let exchanges: Vec<_> = parties.iter().flat_map(|party| &party.exchanges).collect();
    let said = exchanges.iter().filter_map(|said| Some((said.transport, said.to(marks)?)));
    let mut strays = uplink.strays(&said.collect());
    strays.extend(traffic::never_said(&exchanges, marks, &target.arrivals()));
    for party in parties {
        let sockets = party.sockets(marks).into_iter().map(|socket| (Transport::Udp, socket));
        let capture = party.capture.iter();
        let expected = sockets.collect();
        strays.extend(capture.flat_map(|capture| capture.strays(&expected)));
    }
    strays
}

/// Which half of what a client says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    First,
    Second,
}

/// A client: where it connects from, what it says.
struct Party {
    name: &'static str,
    wire: &'static str,
    namespace: Namespace,
    /// Numbers of the marks that are its addresses, in the order in which it has them.
    addresses: Vec<usize>,
    exchanges: Vec<Exchange>,
    client: Option<Client>,
    /// Of what comes to it over its wire.
    capture: Option<Capture>,
    /// Of its socket, wherever it is.
    port: u16,
}

impl Party {
    fn draw<const ADDRESSES: usize>(
        name: &'static str,
        wire: &'static str,
        families: [Family; ADDRESSES],
        marks: &mut Vec<Mark>,
    ) -> anyhow::Result<Self> {
        let addresses = families.iter().enumerate().map(|(number, family)| {
            let which = if number == 0 { "address" } else { "later address" };
            marks.push(Mark::connecting_ip(format!("{which} of client {name}"), *family));
            marks.len() - 1
        });
        let addresses = addresses.collect();
        let exchanges = traffic::plan(name, marks);
        let namespace = Namespace::network()?;
        Ok(Self {
            name,
            wire,
            namespace,
            addresses,
            exchanges,
            client: None,
            capture: None,
            port: 0,
        })
    }

    fn email(&self) -> String {
        format!("{}@example.org", self.name.to_lowercase())
    }

    /// The name of its device: client A's is the one that is planted.
    fn device(&self, marks: &[Mark], planted: &Planted) -> String {
        self.device_named(&marks[planted.store].shown())
    }

    fn device_named(&self, planted: &str) -> String {
        if self.name == "A" { planted.to_owned() } else { "laptop".to_owned() }
    }

    /// The addresses that it connects from.
    fn connected_from(&self, marks: &[Mark]) -> Vec<IpAddr> {
        let ip = |mark: &usize| match marks[*mark].value {
            Value::ConnectingIp(ip) => Some(ip),
            _ => None,
        };
        self.addresses.iter().filter_map(ip).collect()
    }

    /// Where it is reached, at each of its addresses.
    fn sockets(&self, marks: &[Mark]) -> Vec<SocketAddr> {
        self.connected_from(marks).into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect()
    }

    /// Adds its account and device, and starts its client at its first address.
    fn connect(
        &mut self,
        gateway: &PrivateGateway,
        marks: &[Mark],
        planted: &str,
    ) -> anyhow::Result<()> {
        let ips = self.connected_from(marks);
        let first = *ips.first().context("a client has no address")?;
        wires::lay(&gateway.namespace, self.wire, &self.namespace)?;
        self.capture = Some(Capture::start(&self.namespace)?);
        wires::place(&gateway.namespace, self.wire, &self.namespace, first)?;
        gateway.ask(AddAccount {
            email: self.email(),
            confirmation: Confirmation::OfAge,
            days: None,
        })?;
        let private_key = PrivateKey::generate();
        let added = gateway.ask(AddDevice {
            account: self.email(),
            name: self.device_named(planted),
            public_key: private_key.public_key(),
        })?;
        let gateway_ip: IpAddr =
            if first.is_ipv4() { wires::GATEWAY_V4.into() } else { wires::GATEWAY_V6.into() };
        let config = ClientConfig {
            private_key,
            gateway_key: added.gateway_public_key,
            preshared_key: added.preshared_key.expose().parse()?,
            tunnel: (added.device.tunnel_v4, added.device.tunnel_v6),
            gateway: SocketAddr::new(gateway_ip, PORT),
            mtu: added.mtu,
        };
        let client = Client::start(&self.namespace, &config)?;
        self.port = client.port();
        self.client = Some(client);
        Ok(())
    }

    /// Moves to its next address, if it has one.
    fn move_on(&mut self, gateway: &PrivateGateway, marks: &[Mark]) -> anyhow::Result<()> {
        let ips = self.connected_from(marks);
        for pair in ips.windows(2) {
            wires::place(&gateway.namespace, self.wire, &self.namespace, pair[1])?;
            wires::remove(&self.namespace, pair[0])?;
        }
        Ok(())
    }

    fn say(&self, marks: &[Mark], half: Half) -> anyhow::Result<()> {
        let (first, second) = self.exchanges.split_at(self.exchanges.len() / 2);
        let exchanges = if half == Half::First { first } else { second };
        exchanges.iter().try_for_each(|exchange| {
            exchange
                .say(&self.namespace, marks)
                .with_context(|| format!("sending the {}", marks[exchange.mark].what))
        })
    }
}

/// Searches all that a running gateway wrote and holds.
fn search_running(
    gateway: &PrivateGateway,
    laid: &BTreeSet<IpAddr>,
    files: &mut Files,
    ledger: &mut Ledger,
    moment: Moment,
) -> anyhow::Result<()> {
    for process in gateway.processes() {
        let kind = if process.is_forwarder() {
            PlaceKind::ForwarderMemory
        } else {
            files::search_open(&process, ledger, moment);
            PlaceKind::Memory
        };
        let searched = memory::search(&ledger.search, &process);
        let searched =
            searched.with_context(|| format!("reading the memory of {}", process.role()))?;
        ledger.outcome(kind, process.role(), moment, Ok(searched));
        let names = process.thread_names().context("reading the names of threads")?;
        ledger.bytes(PlaceKind::ThreadNames, process.role(), moment, &names);
    }
    ledger.bytes(PlaceKind::Output, "as written so far", moment, &gateway.output());
    files.search(&gateway.namespace, &Witness::default(), ledger, moment)?;
    host::search_conntrack(&gateway.namespace, ledger, moment)?;
    kernel_state::search(&gateway.namespace, laid, ledger, moment)?;
    if moment == Moment::Live {
        // It must be found although it is gone.
        gateway.namespace.within(|| Ok(fs::remove_file("/tmp/planted")?))?;
    }
    Ok(())
}

/// What strace wrote down.
fn read_trace(remains: &Remains) -> anyhow::Result<String> {
    let trace = remains.namespace.within(|| {
        fs::read(PrivateGateway::trace_path()).context("reading what strace wrote down")
    })?;
    ensure!(!trace.is_empty(), "strace saw nothing; does this machine allow ptrace?");
    Ok(String::from_utf8_lossy(&trace).into_owned())
}

/// Searches all that a stopped gateway left, and what strace says that it wrote.
fn search_remains(
    remains: &Remains,
    witness: &Witness,
    files: &mut Files,
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    files.search(&remains.namespace, witness, ledger, Moment::Stopped)?;
    ledger.bytes(PlaceKind::Output, "as written so far", Moment::Stopped, &remains.output);
    Ok(())
}

/// The connecting IPs that the store has a row for, which customers and staff may see.
fn recorded_sessions(gateway: &PrivateGateway, parties: &[Party]) -> anyhow::Result<Vec<IpAddr>> {
    let mut recorded = Vec::new();
    for party in parties {
        let sessions = gateway.ask(ListSessions { account: party.email() })?;
        recorded.extend(sessions.into_iter().map(|session| session.connecting_ip));
    }
    Ok(recorded)
}
