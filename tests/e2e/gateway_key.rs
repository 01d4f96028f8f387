//! The gateway's own key is changed while clients with the former one stay connected, and can connect.

use std::{
    fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, process::Output, thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tacit_messages::DropReason;
use tacit_tests::{
    Client, Gateway, Implementation, Lab, Namespace, RawClient, clock::wait_until, config::Config,
    lab::TARGET_V4, ping::Ping, target::ECHO_PORT, transfer::connects,
};

use crate::{
    fleet::{self, Fleet, readiness},
    metrics::fetch,
};

const EMAIL: &str = "someone@example.org";

/// How long what a verb has the forwarder do may take.
const SOON: Duration = Duration::from_secs(2);

/// As many pings as there are in the time that a change takes, one each 50 ms.
const PINGS: usize = 100;
const INTERVAL: &str = "0.05";

/// The device's config with the gateway's key of now.
fn renewed(config: &Config, gateway: &Gateway<'_>) -> Config {
    let key = gateway.json(&["key", "show"])["gateway_key"].as_str().unwrap().to_owned();
    Config::parse(&config.text.replace(&STANDARD.encode(config.gateway_key), &key))
}

fn echoes(client: &mut RawClient) -> bool {
    client.echo((TARGET_V4, ECHO_PORT).into(), b"both ways")
}

/// How many sessions use the former key, as `tacit key show` says.
fn with_former(gateway: &Gateway<'_>) -> u64 {
    gateway.json(&["key", "show"])["former_gateway_key_sessions"].as_u64().unwrap()
}

/// Asserts that a client that starts now is served.
fn is_served(namespace: &Namespace, implementation: Implementation, config: &Config) {
    let client = Client::up(namespace, implementation, config);
    // A client tries again after 5 seconds, should its first message get lost while a forwarder starts.
    wait_until(&format!("{implementation:?} to be served"), 5 * SOON, || {
        connects(namespace, TARGET_V4.into())
    });
    client.down();
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn streams_notice_nothing_when_the_gateways_key_is_changed_and_their_clients_connect_again() {
    let lab = Lab::new(Implementation::ALL.len());
    let mut gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    let namespaces = Implementation::ALL.into_iter().zip(&lab.clients);
    let clients: Vec<(Config, Client<'_>)> = namespaces
        .map(|(implementation, namespace)| {
            let config = gateway.add_device(EMAIL, &format!("{implementation:?}").to_lowercase());
            let client = Client::up(namespace, implementation, &config);
            (config, client)
        })
        .collect();
    gateway.wait_for_live(clients.len() as u64);
    thread::scope(|scope| {
        let ping = |client: &Client<'_>| {
            Ping::run(client.namespace, TARGET_V4.into(), PINGS, INTERVAL, &[])
        };
        let pings: Vec<_> =
            clients.iter().map(|(_, client)| scope.spawn(move || ping(client))).collect();
        thread::sleep(Duration::from_secs(1));
        let text = gateway.text(&["key", "rotate", "--gateway"]);
        assert!(text.contains(&STANDARD.encode(clients[0].0.gateway_key)), "{text}");
        for (ping, (_, client)) in pings.into_iter().zip(&clients) {
            let ping = ping.join().unwrap();
            assert_eq!(ping.longest_gap(), 0, "{:?}\n{}", client.implementation(), ping.text);
        }
    });
    wait_until("the sessions to be counted", SOON, || with_former(&gateway) == 3);
    let metrics = fetch(&lab, "127.0.0.1:9586", "/metrics").unwrap();
    assert!(metrics.contains("\ntacit_former_key_sessions 3\n"), "{metrics}");
    assert_eq!(gateway.sessions(EMAIL).len(), clients.len());

    // As at the next start of a client, of the forwarder, of the gateway.
    for (config, client) in &clients {
        client.down();
        is_served(client.namespace, client.implementation(), config);
    }
    let (config, client) = &clients[0];
    gateway.kill_forwarder();
    is_served(client.namespace, client.implementation(), config);
    gateway.stop();
    gateway.run();
    is_served(client.namespace, client.implementation(), config);
    let new = gateway.add_device(EMAIL, "new");
    assert_ne!(new.gateway_key, config.gateway_key);
    let mut new = RawClient::connected(&lab.clients[1], &new);
    assert!(echoes(&mut new));
}

#[test]
fn device_changes_over_at_once_and_no_old_message_brings_it_back() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let former = gateway.customer(EMAIL);
    let mut client = RawClient::connected(&lab.clients[0], &former);
    gateway.wait_for_live(1);
    // One that somebody recorded on its way and holds back.
    let recorded = client.initiation().message;
    gateway.text(&["key", "rotate", "--gateway"]);
    assert!(refusal(&gateway.cli(&["key", "retire"])).contains("1 session"));
    assert!(echoes(&mut client), "a session ended by the change");
    client.handshake();
    assert!(echoes(&mut client), "the former key is not answered");

    let mut renewed_client = RawClient::new(&lab.clients[0], &renewed(&former, &gateway));
    renewed_client.handshake_unconfirmed();
    assert!(echoes(&mut client), "whoever only began a handshake cut the device off");
    assert!(echoes(&mut renewed_client), "the new key is not answered");
    assert!(!echoes(&mut client), "the former tunnel lives on");
    wait_until("no session with the former key", SOON, || with_former(&gateway) == 0);

    for _ in 0..3 {
        client.send_raw(&recorded);
        assert!(echoes(&mut renewed_client), "a message from before cut the device off");
    }
    let mut again = RawClient::new(&lab.clients[0], &former);
    again.handshake();
    assert!(echoes(&mut again), "there is no way back to the former key");
    let sessions = gateway.sessions(EMAIL);
    assert_eq!(sessions.len(), 1, "a change of keys is no new session: {sessions:?}");
    assert!(sessions[0]["ended_at"].is_null());
}

#[test]
fn former_key_is_retired_when_nobody_uses_it_or_by_force() {
    let lab = Lab::new(2);
    let mut gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let key_path = gateway.data_dir().join("gateway.key");
    let former = fs::read_to_string(&key_path).unwrap();
    assert!(refusal(&gateway.cli(&["key", "retire"])).contains("no former key"));
    gateway.text(&["key", "rotate", "--gateway"]);
    assert!(refusal(&gateway.cli(&["key", "rotate", "--gateway"])).contains("tacit key retire"));
    assert_eq!(fs::read_to_string(&key_path).unwrap().lines().count(), 2);
    let mut client = RawClient::connected(&lab.clients[0], &config);
    let mut renewed_client = {
        let other = gateway.add_device(EMAIL, "other");
        RawClient::connected(&lab.clients[1], &other)
    };
    wait_until("the session to be counted", 2 * SOON, || with_former(&gateway) == 1);
    let refused = refusal(&gateway.cli(&["key", "retire"]));
    assert!(refused.contains("1 session") && refused.contains("--force"), "{refused}");
    assert!(echoes(&mut client), "a refusal cut somebody off");

    gateway.text(&["key", "retire", "--force"]);
    assert!(!echoes(&mut client), "the former key is answered still");
    assert!(client.try_handshake(2, Duration::from_secs(1)).is_none());
    assert!(gateway.dropped(DropReason::InvalidMac) > 0);
    assert!(echoes(&mut renewed_client), "a client with the new key was cut off");
    let kept = fs::read_to_string(&key_path).unwrap();
    assert!(kept.lines().count() == 1 && kept != former, "the former key is kept");
    let log = gateway.text(&["staff", "log"]);
    for verb in ["key rotate --gateway", "key retire"] {
        assert!(log.contains(verb), "{log}");
    }
    gateway.stop();
    gateway.run();
    assert!(client.try_handshake(1, Duration::from_secs(1)).is_none());
    renewed_client.handshake();
    assert!(echoes(&mut renewed_client));
}

/// Puts keys into a file that is private.
fn write_keys(path: &Path, keys: &[&str]) {
    let mut file = fs::File::options().write(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(format!("{}\n", keys.join("\n")).as_bytes()).unwrap();
}

#[test]
fn fleets_key_is_changed_gateway_by_gateway_and_its_clients_move_without_a_pause() {
    let fleet = Fleet::new(2);
    let mut gateways = fleet.gateways();
    gateways[0].add_account(EMAIL);
    fleet.lead_to(0);
    let config = fleet::add_device(&gateways[0], 0);
    let mut client = RawClient::connected(&fleet.lab.clients[0], &config);
    for verb in [["key", "rotate", "--gateway"].as_slice(), &["key", "retire"]] {
        assert!(refusal(&gateways[0].cli(verb)).contains("fleet key"));
    }
    let former = fs::read_to_string(fleet.key()).unwrap();
    let new = fleet.lab.gateway.sh("wg genkey");
    let (former, new) = (former.trim(), new.trim());

    // First all answer the new key, then all give it out; and once between two that are alike.
    for (from, to, keys) in [(0, 1, [former, new]), (1, 0, [new, former]), (0, 1, [new, former])] {
        write_keys(fleet.key(), &keys);
        gateways[to].stop();
        gateways[to].run();
        let name = format!("gateway-{from}");
        gateways[to].text(&["gateway", "drain", &name]);
        wait_until("its readiness to go", 2 * SOON, || readiness(&fleet.hosts[from]) == "503");
        thread::sleep(SOON);
        fleet.lead_to(to);
        client.send_packet(&[]);
        assert!(client.answer_initiation(SOON), "{from} did not hand over by the former key");
        assert!(echoes(&mut client));
        gateways[to].text(&["gateway", "resume", &name]);
        thread::sleep(SOON);
    }
    let new = fleet::add_device(&gateways[1], 1);
    assert_ne!(new.gateway_key, config.gateway_key);
    let mut new = RawClient::connected(&fleet.lab.clients[1], &new);
    assert!(echoes(&mut new));
}
