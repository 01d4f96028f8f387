//! A fleet: gateways with one key behind one address, which routes move from one to another.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::Value;
use tacit_messages::clock::Instant;
use tacit_tests::{
    Client, Gateway, Implementation, Lab, Namespace, RawClient,
    clock::{elapsed, wait_until},
    config::Config,
    lab::{GATEWAY_V4, PORT, TARGET_V4, wire},
    postgres::Postgres,
    target::ECHO_PORT,
    transfer::connects,
};

use crate::metrics::fetch_from;

pub(crate) const EMAIL: &str = "someone@example.org";

/// Where clients find the fleet.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

/// How many clients there are.
const CLIENTS: usize = 50;

/// How long a client may be without service when its gateway dies. It tries again after 15 seconds (WireGuard paper,
/// section 6.5: KEEPALIVE_TIMEOUT and REKEY_TIMEOUT).
const WITHOUT_SERVICE: Duration = Duration::from_secs(20);

/// A lab whose gateway namespace is a router, with hosts for gateways behind it.
pub(crate) struct Fleet {
    pub(crate) lab: Lab,
    pub(crate) hosts: Vec<Namespace>,
    key: PathBuf,
    server: Option<Postgres<'static>>,
}

impl Fleet {
    /// With a server that its gateways share.
    pub(crate) fn new(hosts: usize) -> Self {
        let fleet = Self::without_server(hosts);
        let server = Postgres::start(&fleet.lab.dir().join("postgres"), None);
        server.create("tacit");
        Self { server: Some(server), ..fleet }
    }

    /// For a server of the test's own.
    pub(crate) fn without_server(hosts: usize) -> Self {
        let lab = Lab::new(Implementation::ALL.len() + 1);
        lab.gateway.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        lab.target_namespace.sh(&format!("ip route add 198.18.0.0/16 via {GATEWAY_V4}"));
        let hosts = (0..hosts).map(|number| host(&lab, number)).collect();
        let key = lab.dir().join("fleet.key");
        fs::write(&key, lab.gateway.sh("wg genkey")).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Self { lab, hosts, key, server: None }
    }

    /// The file with its key.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    fn server(&self) -> &Postgres<'static> {
        self.server.as_ref().unwrap()
    }

    /// A gateway on each host, all with one data key.
    pub(crate) fn gateways(&self) -> Vec<Gateway<'_>> {
        self.gateways_on(|_| self.server().url("tacit"))
    }

    /// The same, each of which finds the database at an address of its own.
    pub(crate) fn gateways_on(&self, url: impl Fn(usize) -> String) -> Vec<Gateway<'_>> {
        let key = self.key.to_str().unwrap();
        let mut gateways: Vec<Gateway<'_>> = Vec::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let (url, name) = (url(number), format!("gateway-{number}"));
            let flags = [
                "--database",
                &url,
                "--gateway-name",
                &name,
                "--fleet-key",
                key,
                "--device-limit",
                "100",
            ];
            let mut gateway = Gateway::stopped(&self.lab, &name, &flags).within(host);
            if let Some(first) = gateways.first() {
                let file = "data.key";
                fs::copy(first.data_dir().join(file), gateway.data_dir().join(file)).unwrap();
            }
            gateway.run();
            gateways.push(gateway);
        }
        gateways
    }

    /// Has the fleet's address lead to one host.
    pub(crate) fn lead_to(&self, number: usize) {
        self.lab.gateway.sh(&format!("ip route replace {ADDRESS} via 198.18.{number}.2"));
    }
}

/// A host behind the router that takes packets for the fleet's address.
fn host(lab: &Lab, number: usize) -> Namespace {
    let host = Namespace::new();
    let name = format!("host{number}");
    wire(&lab.gateway, &name, &host);
    lab.gateway.sh(&format!("ip addr add 198.18.{number}.1/24 dev {name}; ip link set {name} up"));
    host.sh(&format!(
        "ip addr add 198.18.{number}.2/24 dev wan; ip addr add {ADDRESS}/32 dev lo
         ip link set wan up; ip route add default via 198.18.{number}.1"
    ));
    host
}

/// The device's config, with the fleet's address.
pub(crate) fn add_device(gateway: &Gateway<'_>, number: usize) -> Config {
    let config = gateway.add_device(EMAIL, &format!("device-{number}"));
    let (own, shared) = (SocketAddr::from((GATEWAY_V4, PORT)), SocketAddr::from((ADDRESS, PORT)));
    Config::parse(&config.text.replace(&own.to_string(), &shared.to_string()))
}

/// Sessions by device: how many have ended, and how many are open.
fn sessions(gateway: &Gateway<'_>) -> BTreeMap<String, (usize, usize)> {
    let mut devices = BTreeMap::new();
    for session in gateway.sessions(EMAIL) {
        let (ended, open) =
            devices.entry(session["device"].as_str().unwrap().to_owned()).or_insert((0, 0));
        *if session["ended_at"] == Value::Null { open } else { ended } += 1;
    }
    devices
}

#[test]
fn clients_of_a_gateway_that_dies_are_served_by_another_with_the_same_key() {
    let fleet = Fleet::new(3);
    fleet.lead_to(0);
    let mut gateways = fleet.gateways();
    gateways[0].add_account(EMAIL);
    let configs: Vec<Config> =
        (0..CLIENTS).map(|number| add_device(&gateways[0], number)).collect();
    let (real, raw) = configs.split_at(Implementation::ALL.len());
    let namespaces = &fleet.lab.clients;
    let real: Vec<Client<'_>> = Implementation::ALL
        .into_iter()
        .zip(real)
        .zip(namespaces)
        .map(|((implementation, config), namespace)| Client::up(namespace, implementation, config))
        .collect();
    let mut raw: Vec<RawClient> = raw
        .iter()
        .map(|config| RawClient::connected(&namespaces[Implementation::ALL.len()], config))
        .collect();
    for client in &real {
        assert!(connects(client.namespace, TARGET_V4.into()));
    }
    gateways[0].wait_for_live(CLIENTS as u64);
    assert_eq!(sessions(&gateways[1]).len(), CLIENTS);

    gateways[0].kill();
    let died = Instant::now();
    fleet.lead_to(1);
    thread::scope(|scope| {
        for client in &real {
            scope.spawn(|| {
                while !connects(client.namespace, TARGET_V4.into()) {
                    assert!(elapsed(died) < WITHOUT_SERVICE, "{:?}", client.implementation());
                }
            });
        }
        for client in &mut raw {
            client.handshake();
            assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
        }
    });
    println!("all {CLIENTS} clients were served again after {:?}", elapsed(died));
    assert!(elapsed(died) < WITHOUT_SERVICE);

    gateways[1].wait_for_live(CLIENTS as u64);
    let once_at_each = |gateway: &Gateway<'_>| {
        let sessions = sessions(gateway);
        sessions.len() == CLIENTS && sessions.values().all(|counts| *counts == (1, 1))
    };
    // As if three minutes had passed.
    let silent = "UPDATE gateways SET last_alive_at = last_alive_at - 180 WHERE name = 'gateway-0'";
    let _ = fleet.server().sql("tacit", silent);
    let limit = Duration::from_secs(60);
    wait_until("the dead one's sessions to end", limit, || once_at_each(&gateways[2]));
    gateways[0].run();
    assert!(once_at_each(&gateways[0]), "{:?}", sessions(&gateways[0]));
}

/// What /readyz of a host's gateway says.
pub(crate) fn readiness(host: &Namespace) -> String {
    let answer = fetch_from(host, "127.0.0.1:9586", "/readyz").unwrap();
    answer.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn gateways_are_listed_drained_and_removed_from_any_of_them() {
    let fleet = Fleet::new(3);
    let mut gateways = fleet.gateways();
    let listed = |gateway: &Gateway<'_>| -> BTreeMap<String, (bool, bool)> {
        let gateways = gateway.json(&["gateway", "list"]);
        let told = |gateway: &Value| {
            let is = |what: &str| gateway[what].as_bool().unwrap();
            (gateway["name"].as_str().unwrap().to_owned(), (is("runs"), is("is_draining")))
        };
        gateways.as_array().unwrap().iter().map(told).collect()
    };
    let all = |states: [(bool, bool); 3]| -> BTreeMap<String, (bool, bool)> {
        let names = (0..).map(|number| format!("gateway-{number}"));
        names.zip(states).collect()
    };
    assert_eq!(listed(&gateways[0]), all([(true, false); 3]));
    assert_eq!(readiness(&fleet.hosts[1]), "200");

    gateways[0].text(&["gateway", "drain", "gateway-1"]);
    assert_eq!(listed(&gateways[2]), all([(true, false), (true, true), (true, false)]));
    let limit = Duration::from_secs(3);
    wait_until("its readiness to go", limit, || readiness(&fleet.hosts[1]) == "503");
    assert_eq!([0, 2].map(|number| readiness(&fleet.hosts[number])), ["200", "200"]);
    gateways[0].text(&["gateway", "resume", "gateway-1"]);
    wait_until("its readiness to come back", limit, || readiness(&fleet.hosts[1]) == "200");

    let refused = gateways[0].cli(&["gateway", "remove", "gateway-1"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    gateways[1].stop();
    let silent = "UPDATE gateways SET last_alive_at = last_alive_at - 180 WHERE name = 'gateway-1'";
    let _ = fleet.server().sql("tacit", silent);
    gateways[0].text(&["gateway", "remove", "gateway-1"]);
    assert_eq!(listed(&gateways[2]).len(), 2);
    let log = gateways[0].json(&["staff", "log"]);
    let verbs = log.as_array().unwrap().iter().map(|entry| entry["verb"].as_str().unwrap());
    let verbs: Vec<_> = verbs.filter(|verb| verb.starts_with("gateway ")).collect();
    assert_eq!(verbs, ["gateway drain", "gateway resume", "gateway remove"]);
}
