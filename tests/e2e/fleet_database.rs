//! The database of a fleet is away from all gateways, or from one: what goes on, what is refused, and what the rows say
//! afterwards.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    thread,
    time::Duration,
};

use serde_json::Value;
use tacit_messages::clock::Instant;
use tacit_tests::{
    Client, Gateway, Implementation, Namespace, RawClient,
    clock::{elapsed, wait_until},
    config::Config,
    lab::{GATEWAY_V4, PORT, TARGET_V4, client_v4, wire},
    ping::Ping,
    postgres::Postgres,
    target::ECHO_PORT,
    transfer::connects,
};

use crate::fleet::{EMAIL, Fleet, readiness};

/// How long the database is away from all.
const AWAY: Duration = Duration::from_secs(60);
/// Devices at each gateway that move while it is.
const MOVING: usize = 4;
/// Where they move to, and after how long.
const MOVES: [(u8, Duration); 3] =
    [(5, Duration::from_secs(5)), (6, Duration::from_secs(22)), (7, Duration::from_secs(39))];

/// A new device's config for one gateway of the fleet.
fn device_at(gateway: &Gateway<'_>, name: &str, host: usize) -> Config {
    let config = gateway.add_device(EMAIL, name);
    let own = SocketAddr::from((GATEWAY_V4, PORT)).to_string();
    let host = u8::try_from(host).unwrap();
    let there = SocketAddr::from((Ipv4Addr::new(198, 18, host, 2), PORT)).to_string();
    Config::parse(&config.text.replace(&own, &there))
}

fn echoes(client: &mut RawClient) -> bool {
    client.echo((TARGET_V4, ECHO_PORT).into(), b"hello")
}

/// Whether the gateway says that it cannot reach the store.
fn is_away(gateway: &Gateway<'_>) -> bool {
    !gateway.json(&["status"])["store"]["away_since"].is_null()
}

/// The rows of a device's sessions, oldest first.
fn sessions_of(gateway: &Gateway<'_>, device: &str) -> Vec<Value> {
    let mut sessions = gateway.sessions(EMAIL);
    sessions.retain(|session| session["device"] == device);
    sessions
}

fn has_ended(session: &Value) -> bool {
    !session["ended_at"].is_null()
}

/// Looks that the sessions came from these addresses one after another, and only the last is open.
fn follow_each_other(sessions: &[Value], addresses: &[IpAddr]) {
    assert_eq!(sessions.len(), addresses.len(), "{sessions:#?}");
    for (session, address) in sessions.iter().zip(addresses) {
        assert_eq!(session["connecting_ip"], address.to_string(), "{sessions:#?}");
    }
    let time = |session: &Value, what: &str| session[what].as_str().unwrap_or("9").to_owned();
    for pair in sessions.windows(2) {
        assert!(time(&pair[0], "began_at") <= time(&pair[0], "ended_at"), "{sessions:#?}");
        assert!(time(&pair[0], "ended_at") <= time(&pair[1], "began_at"), "{sessions:#?}");
    }
    let open = sessions.iter().filter(|session| !has_ended(session)).count();
    assert!(open == 1 && !has_ended(sessions.last().unwrap()), "{sessions:#?}");
}

#[test]
fn minute_without_the_database_is_noticed_in_no_tunnel_and_loses_no_session() {
    let fleet = Fleet::without_server(3);
    let mut server = Postgres::start(&fleet.lab.dir().join("postgres"), None);
    server.create("tacit");
    let gateways = fleet.gateways_on(|_| server.url("tacit"));
    gateways[0].add_account(EMAIL);
    let (steady, street) = fleet.lab.clients.split_at(gateways.len());
    let steady: Vec<Client<'_>> = (0..)
        .zip(steady.iter().zip(Implementation::ALL))
        .map(|(host, (namespace, implementation))| {
            let config = device_at(&gateways[0], &format!("steady-{host}"), host);
            Client::up(namespace, implementation, &config)
        })
        .collect();
    assert!(steady.iter().all(|client| connects(client.namespace, TARGET_V4.into())));
    let mut moving: Vec<(String, RawClient)> = Vec::new();
    for number in 0..gateways.len() * MOVING {
        let name = format!("moving-{number}");
        let config = device_at(&gateways[0], &name, number % gateways.len());
        moving.push((name, RawClient::connected(&street[0], &config)));
    }
    for gateway in &gateways {
        gateway.wait_for_live(MOVING as u64 + 1);
    }
    gateways[0].wait_for_sessions(EMAIL, gateways.len() * (MOVING + 1));

    let mut addresses: Vec<IpAddr> = vec![client_v4(gateways.len(), 2).into()];
    server.stop();
    let away_since = Instant::now();
    thread::scope(|scope| {
        let pings: Vec<_> = steady
            .iter()
            .map(|client| {
                let count = AWAY.as_secs() as usize * 4;
                scope.spawn(move || {
                    Ping::run(client.namespace, TARGET_V4.into(), count, "0.25", &[])
                })
            })
            .collect();
        for (host, after) in MOVES {
            thread::sleep(after.saturating_sub(elapsed(away_since)));
            addresses.push(fleet.lab.move_client(gateways.len(), host));
            for (name, client) in &mut moving {
                assert!(echoes(client), "{name} is cut off");
            }
        }
        for (name, client) in &mut moving {
            client.handshake();
            assert!(echoes(client), "{name} is cut off");
        }
        for (gateway, host) in gateways.iter().zip(&fleet.hosts) {
            assert!(is_away(gateway) && readiness(host) == "503");
        }
        thread::sleep(AWAY.saturating_sub(elapsed(away_since)));
        server.run();
        for ping in pings {
            let ping = ping.join().unwrap();
            assert_eq!(ping.longest_gap(), 0, "{}", ping.text);
        }
    });

    let patience = Duration::from_secs(30);
    for (gateway, host) in gateways.iter().zip(&fleet.hosts) {
        wait_until("the store to be back", patience, || {
            readiness(host) == "200" && gateway.json(&["status"])["store"]["waiting_changes"] == 0
        });
    }
    for (name, client) in &mut moving {
        follow_each_other(&sessions_of(&gateways[2], name), &addresses);
        assert!(echoes(client), "{name} is cut off");
    }
    for host in 0..gateways.len() {
        let sessions = sessions_of(&gateways[0], &format!("steady-{host}"));
        assert!(sessions.len() == 1 && !has_ended(&sessions[0]), "{sessions:#?}");
    }
}

/// A host of the database, with a wire to each gateway's.
fn database_host(fleet: &Fleet) -> Namespace {
    let database = Namespace::new();
    for (number, host) in fleet.hosts.iter().enumerate() {
        wire(host, "database", &database);
        host.sh(&format!("ip addr add 198.19.{number}.1/24 dev database; ip link set database up"));
        database.sh(&format!(
            "ip link set wan name host{number}; ip addr add 198.19.{number}.2/24 dev host{number}
             ip link set host{number} up"
        ));
    }
    database
}

/// A server there, which lets gateways in.
fn server_on<'lab>(fleet: &Fleet, database: &'lab Namespace) -> Postgres<'lab> {
    let path = fleet.lab.dir().join("pg_hba.conf");
    fs::write(&path, "local all all trust\nhost all all 198.19.0.0/16 trust\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let hba = format!("hba_file={}", path.display());
    let dir = fleet.lab.dir().join("postgres");
    let extra = ["-c", &hba, "-c", "listen_addresses=*"];
    let server = Postgres::start_with(&dir, Some(database), &extra);
    server.create("tacit");
    server
}

#[test]
fn gateway_cut_from_the_database_serves_whom_it_knows_and_is_believed_when_it_is_back() {
    let fleet = Fleet::without_server(2);
    let database = database_host(&fleet);
    let server = server_on(&fleet, &database);
    let mut gateways =
        fleet.gateways_on(|host| format!("postgres://tacit@198.19.{host}.2/tacit?sslmode=disable"));
    gateways[0].add_account(EMAIL);
    let [home, street] = &fleet.lab.clients[..2] else { panic!("the lab has clients") };
    let connected =
        |namespace, name: &str| RawClient::connected(namespace, &device_at(&gateways[0], name, 0));
    let (mut stays, mut removed) = (connected(home, "stays"), connected(home, "removed"));
    let mut moves = connected(street, "moves");
    let late = device_at(&gateways[0], "late", 0);
    gateways[0].wait_for_sessions(EMAIL, 3);

    fleet.hosts[0].sh("ip link set database down");
    wait_until("the gateway to notice", Duration::from_secs(20), || is_away(&gateways[0]));
    assert_eq!(readiness(&fleet.hosts[0]), "503");
    let from = sessions_of(&gateways[1], "moves")[0]["connecting_ip"].clone();
    let moved = fleet.lab.move_client(1, 9);
    gateways[1].text(&["device", "remove", EMAIL, "removed"]);
    for client in [&mut stays, &mut removed, &mut moves] {
        assert!(echoes(client), "whom the gateway knows goes on");
    }
    let mut refused = RawClient::new(home, &late);
    assert!(refused.try_handshake(1, Duration::from_secs(3)).is_none(), "nobody new connects");
    let there = late.text.replace("198.18.0.2", "198.18.1.2");
    let _elsewhere = RawClient::connected(home, &Config::parse(&there));

    // As if that had gone on for ten minutes.
    let _ = server.sql(
        "tacit",
        "UPDATE gateways SET last_alive_at = last_alive_at - 600 WHERE name = 'gateway-0';
         UPDATE sessions SET began_at = began_at - 700",
    );
    gateways[1].stop();
    gateways[1].run();
    let open = |gateway: &Gateway<'_>| -> BTreeSet<String> {
        let sessions = gateway.sessions(EMAIL);
        let open = sessions.iter().filter(|session| !has_ended(session));
        open.map(|session| session["device"].to_string()).collect()
    };
    wait_until("its sessions to be completed", Duration::from_secs(10), || {
        open(&gateways[1]).is_empty()
    });

    fleet.hosts[0].sh("ip link set database up");
    wait_until("the gateway to be back", Duration::from_secs(30), || {
        readiness(&fleet.hosts[0]) == "200"
            && gateways[0].json(&["status"])["store"]["waiting_changes"] == 0
    });
    wait_until("the removed device to be cut", Duration::from_secs(10), || {
        removed.send_packet(&[]);
        gateways[0].json(&["status"])["sessions"] == 2
    });
    assert!(echoes(&mut stays) && echoes(&mut moves));
    wait_until("its sessions to be corrected", Duration::from_secs(40), || {
        open(&gateways[1]) == BTreeSet::from(["\"moves\"".into(), "\"stays\"".into()])
    });
    assert_eq!(sessions_of(&gateways[1], "stays").len(), 1);
    let from = from.as_str().unwrap().parse().unwrap();
    follow_each_other(&sessions_of(&gateways[1], "moves"), &[from, moved]);
    let _admitted = RawClient::connected(home, &late);
}
