//! Gateways that share a PostgreSQL server's database.

use std::{fs, thread, time::Duration};

use tacit_messages::{UnixSeconds, clock::Instant};
use tacit_tests::{
    Client, Gateway, Implementation, Lab, RawClient,
    clock::{elapsed, wait_until},
    config::Config,
    lab::TARGET_V4,
    postgres::Postgres,
    transfer::{Direction, Transfer, connects, transfer},
};

use crate::times::assert_between;

/// The customer who connects to the gateway at hand.
const NEAR: &str = "near@example.org";
/// The customer who connects to the other one.
const FAR: &str = "far@example.org";

/// Bytes a second of a transfer that goes on.
const RATE: u64 = 2_000_000;

/// Two networks with a client each, and a server that a gateway in either can reach.
pub(crate) struct Scene {
    pub(crate) near: Lab,
    pub(crate) far: Lab,
    pub(crate) server: Postgres<'static>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (near, far) = (Lab::new(1), Lab::new(1));
        let server = Postgres::start(&near.dir().join("postgres"), None);
        server.create("tacit");
        Self { near, far, server }
    }

    /// A gateway in each network.
    fn gateways(&self, flags: &[&str]) -> (Gateway<'_>, Gateway<'_>) {
        self.gateways_with(flags, flags)
    }

    /// A gateway in each network, each with flags of its own.
    pub(crate) fn gateways_with(
        &self,
        of_near: &[&str],
        of_far: &[&str],
    ) -> (Gateway<'_>, Gateway<'_>) {
        let url = self.server.url("tacit");
        let near = Gateway::start_with(&self.near, &of_shared(&url, "near", of_near));
        let mut far = Gateway::stopped(&self.far, "gateway", &of_shared(&url, "far", of_far));
        fs::copy(near.data_dir().join("data.key"), far.data_dir().join("data.key")).unwrap();
        far.run();
        (near, far)
    }
}

/// The flags of a gateway that shares a database.
fn of_shared<'a>(url: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--database", url, "--gateway-name", name], more].concat()
}

/// A real client of a gateway's own customer.
fn client<'lab>(lab: &'lab Lab, gateway: &Gateway<'lab>, email: &str) -> Client<'lab> {
    let config = gateway.customer(email);
    Client::up(&lab.clients[0], Implementation::WireguardGo, &config)
}

fn down(client: &Client<'_>) -> Transfer {
    let v4 = TARGET_V4.into();
    let transfer = Transfer::paced(client.namespace, Direction::Down, v4, 1, 1 << 40, RATE);
    transfer.wait_for_more(RATE, Duration::from_secs(20));
    transfer
}

fn has_ended(gateway: &Gateway<'_>, email: &str) -> bool {
    !gateway.sessions(email)[0]["ended_at"].is_null()
}

/// How many connections of the tunnel's clients the kernel knows at a gateway.
fn tracked(lab: &Lab) -> usize {
    let tracked = lab.gateway.sh("cat /proc/net/nf_conntrack 2>/dev/null || true");
    tracked.lines().filter(|line| line.contains("src=10.66.")).count()
}

fn removed_elsewhere(flags: &[&str]) {
    let scene = Scene::new();
    let (near, mut far) = scene.gateways(flags);
    let here = client(&scene.near, &near, NEAR);
    let there = client(&scene.far, &far, FAR);
    let (cut, goes_on) = (down(&here), down(&there));
    near.wait_for_sessions(NEAR, 1);
    assert_eq!(far.sessions(NEAR).len(), 1, "each gateway tells of all sessions");

    let removed = Instant::now();
    far.text(&["device", "remove", NEAR, "laptop"]);
    wait_until("the session to end", Duration::from_secs(2), || has_ended(&far, NEAR));
    thread::sleep(Duration::from_secs(2).saturating_sub(elapsed(removed)));
    let stopped_at = cut.progress();
    goes_on.wait_for_more(3 * RATE, Duration::from_secs(10));
    assert_eq!(cut.progress(), stopped_at, "the transfer of a removed device goes on");
    assert!(!connects(here.namespace, TARGET_V4.into()));
    wait_until("its connections to be forgotten", Duration::from_secs(5), || {
        tracked(&scene.near) == 0
    });
    far.stop();
}

#[test]
fn device_removed_at_another_gateway_is_cut_as_the_database_tells() {
    removed_elsewhere(&[]);
}

#[test]
fn device_removed_at_another_gateway_is_cut_by_polling_too() {
    removed_elsewhere(&["--database-poll-only"]);
}

/// What a device's config would be for another gateway.
fn for_gateway(config: &Config, gateway: &Gateway<'_>) -> Config {
    let key = gateway.json(&["status"])["public_key"].as_str().unwrap().to_owned();
    let own = |line: &str| match line.split_once(" = ") {
        Some(("PublicKey", _)) => format!("PublicKey = {key}"),
        _ => line.to_owned(),
    };
    Config::parse(&config.text.lines().map(own).collect::<Vec<_>>().join("\n"))
}

#[test]
fn device_made_at_one_gateway_forwards_at_the_other_and_its_session_outlives_the_first() {
    let scene = Scene::new();
    let (mut near, far) = scene.gateways(&[]);
    let made = Instant::now();
    let config = for_gateway(&near.customer(NEAR), &far);
    drop(RawClient::connected(&scene.far.clients[0], &config));
    assert!(elapsed(made) < Duration::from_secs(2), "{:?}", elapsed(made));
    let client = Client::up(&scene.far.clients[0], Implementation::Gotatun, &config);
    transfer(client.namespace, Direction::Up, TARGET_V4.into(), 1, 1_000_000).unwrap();
    far.wait_for_sessions(NEAR, 1);
    near.stop();
    near.run();
    assert!(!has_ended(&near, NEAR), "another gateway's session is closed");
    transfer(client.namespace, Direction::Down, TARGET_V4.into(), 2, 1_000_000).unwrap();
}

#[test]
fn gateway_whose_name_another_took_while_it_was_cut_off_ends_and_says_why() {
    let scene = Scene::new();
    let (mut near, far) = scene.gateways(&[]);
    let config = near.customer(NEAR);
    let twin = "UPDATE gateways SET identity = repeat('0', 32) WHERE name = 'near'";
    let _ = scene.server.sql("tacit", twin);
    let _client = RawClient::connected(&scene.near.clients[0], &config);
    assert!(!near.wait(Duration::from_secs(20)).success());
    let why = "another took its name, or an operator removed it";
    assert!(near.log().contains(why), "{}", near.log());
    assert!(far.sessions(NEAR).is_empty(), "it wrote as another gateway");
    near.spawn();
    assert!(!near.wait(Duration::from_secs(15)).success());
    assert!(near.log().contains("another gateway of this name"), "{}", near.log());

    let dead = "UPDATE gateways SET last_alive_at = last_alive_at - 600 WHERE name = 'near'";
    let _ = scene.server.sql("tacit", dead);
    near.run();
    let kept = far.wait_for_sessions(NEAR, 1);
    assert!(!kept[0]["ended_at"].is_null(), "{kept:?}");
}

#[test]
fn sessions_of_a_gateway_that_died_are_closed_by_another_and_its_name_is_its_own() {
    let scene = Scene::new();
    let (mut near, mut far) = scene.gateways(&[]);
    let client = client(&scene.far, &far, FAR);
    transfer(client.namespace, Direction::Down, TARGET_V4.into(), 1, 1_000_000).unwrap();
    far.wait_for_sessions(FAR, 1);

    let died = UnixSeconds::now();
    far.kill();
    let url = scene.server.url("tacit");
    let flags = ["--database", &url, "--gateway-name", "near"];
    let mut twin = Gateway::stopped(&scene.far, "twin", &flags);
    fs::copy(near.data_dir().join("data.key"), twin.data_dir().join("data.key")).unwrap();
    twin.spawn();
    assert!(!twin.wait(Duration::from_secs(15)).success());
    assert!(twin.log().contains("another gateway of this name"), "{}", twin.log());
    // As if it had died long ago, but for the moment at which it was last alive.
    let _ = scene.server.sql(
        "tacit",
        "UPDATE gateways SET last_alive_at = last_alive_at - 600 WHERE name = 'far';
         UPDATE sessions SET began_at = began_at - 700",
    );
    near.stop();
    near.run();
    wait_until("the session to be closed", Duration::from_secs(5), || has_ended(&near, FAR));
    let ended_at = &near.sessions(FAR)[0]["ended_at"];
    assert_between(ended_at, UnixSeconds(died.0 - 660), UnixSeconds(died.0 - 600));

    far.run();
    wait_until("the client to come back", Duration::from_secs(20), || {
        connects(client.namespace, TARGET_V4.into())
    });
    let sessions = far.wait_for_sessions(FAR, 2);
    assert!(sessions[1]["ended_at"].is_null());
}
