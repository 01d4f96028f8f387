//! Visitors who hold connections, and what others notice of them.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tacit_messages::clock::Instant;
use tacit_tests::{
    Client, Gateway, Implementation, Lab, Visitor,
    clock::elapsed,
    lab::TARGET_V4,
    transfer::{Direction, Transfer},
    visitor::dial,
};

/// Connections that are tried, each of which is held for as long as the site lets it.
const HELD: usize = 10_000;
/// Networks that they come from.
const NETWORKS: usize = 400;
/// Descriptors that the test needs besides.
const OTHERS: u64 = 500;
/// Bytes a second of a transfer that goes on.
const RATE: u64 = 4_000_000;
/// What the site may have at most: 256 connections, and little besides.
const MOST_DESCRIPTORS: usize = 400;
/// What it may take of memory for them, in KiB.
const MOST_MEMORY: u64 = 48 * 1024;

/// Lets this process have as many descriptors as it needs.
fn allow_descriptors() {
    let needed = HELD as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let maximum = maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .expect("a limit of open files that lets a test hold 10,000 connections");
}

/// An address of the attackers' networks.
fn source(number: usize) -> IpAddr {
    let network = u32::try_from(number % NETWORKS).unwrap();
    let host = u32::try_from(number / NETWORKS).unwrap() + 1;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 20, 0, 0)) + (network << 8) + host).into()
}

#[test]
fn visitors_are_served_when_nobody_else_needs_the_processor() {
    const NICENESS: usize = 16;
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let control = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    let tasks = fs::read_dir(lab.gateway.path(&format!("/proc/{control}/task"))).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    // What follows the name begins with the third field of proc_pid_stat(5), and niceness is the nineteenth.
    let of_site =
        |stat: String| Some(stat.split_once("(site) ")?.1.split(' ').nth(NICENESS)?.to_owned());
    assert_eq!(stats.filter_map(of_site).collect::<Vec<_>>(), ["19"]);
}

#[test]
fn whoever_sends_slowly_keeps_nobody_out() {
    let lab = Lab::new(1);
    let site: SocketAddr = "198.51.100.1:8443".parse().unwrap();
    let gateway = Gateway::start_with(&lab, &["--site", "0.0.0.0:8443"]);
    let certificate = gateway.data_dir().join("site.pem");
    lab.clients[0].sh("ip route add local 172.20.0.0/15 dev lo");
    lab.gateway.sh("ip route add 172.20.0.0/15 via 192.0.2.2");
    // From as few networks as can hold all places, each request without the body that it promises.
    let request = "POST /log-in HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n\
                   Content-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let hold = |number: usize| {
        let network = Ipv4Addr::new(172, 20, u8::try_from(number % 8).unwrap(), 1);
        let attacker = Visitor::at(site, &lab.clients[0], &certificate).coming_from(network.into());
        let mut connection = attacker.connect_tls().ok()?;
        connection.write_all(request.as_bytes()).ok()?;
        Some(connection)
    };
    let hold_all = || {
        let began = Instant::now();
        let mut held: Vec<_> = (0..256).filter_map(hold).collect();
        assert_eq!(held.len(), 256);
        for connection in &mut held {
            let mut continued = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
            connection.read_exact(&mut continued).expect("that the body is waited for");
        }
        // On a busy machine it may take so long that the first are given up.
        (elapsed(began) < Duration::from_secs(8)).then_some(held)
    };
    let _held =
        (0..5).find_map(|_| hold_all()).expect("a machine that opens 256 connections in 8 s");
    let ann = || Visitor::at("127.0.0.1:8443".parse().unwrap(), &lab.gateway, &certificate);
    for _ in 0..20 {
        assert_eq!(ann().get("/").status, 200);
    }
}

#[test]
fn ten_thousand_held_connections_keep_nobody_out() {
    allow_descriptors();
    let lab = Lab::new(2);
    let site: SocketAddr = "198.51.100.1:8443".parse().unwrap();
    let gateway = Gateway::start_with(&lab, &["--site", "0.0.0.0:8443"]);
    let certificate = gateway.data_dir().join("site.pem");
    lab.clients[0].sh("ip route add local 172.20.0.0/15 dev lo");
    lab.gateway.sh("ip route add 172.20.0.0/15 via 192.0.2.2");
    let config = gateway.customer("someone@example.org");
    let client = Client::up(&lab.clients[1], Implementation::WireguardGo, &config);
    let v4 = TARGET_V4.into();
    let transfer = Transfer::paced(client.namespace, Direction::Down, v4, 1, 1 << 40, RATE);
    transfer.wait_for_more(RATE, Duration::from_secs(10));

    let control = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    let before_kib = gateway.resident_kib(control);
    let (began, moved_before) = (Instant::now(), transfer.progress());
    let mut held: Vec<TcpStream> = lab.clients[0].within(|| {
        let open = |number| {
            let mut stream = dial(source(number), site).expect("a connection");
            // The begin of a handshake, of which no more comes.
            let _ = stream.write_all(b"\x16\x03\x01");
            stream
        };
        (0..HELD).map(open).collect()
    });
    // Some that get through the handshake, and send a head byte by byte.
    let attacker = Visitor::at(site, &lab.clients[0], &certificate);
    let mut slow: Vec<_> = (0..20).filter_map(|_| attacker.connect_tls().ok()).collect();
    for connection in &mut slow {
        let _ = connection.write_all(b"GET / HTTP/1.1\r\nHost:");
    }
    assert!(!slow.is_empty(), "nobody else gets in");

    let descriptors = fs::read_dir(lab.gateway.path(&format!("/proc/{control}/fd"))).unwrap();
    let descriptors = descriptors.count();
    assert!(descriptors < MOST_DESCRIPTORS, "{descriptors} descriptors");
    let grown_kib = gateway.resident_kib(control).saturating_sub(before_kib);
    assert!(grown_kib < MOST_MEMORY, "{grown_kib} KiB more");
    let mut ann = Visitor::at("127.0.0.1:8443".parse().unwrap(), &lab.gateway, &certificate);
    let asked = Instant::now();
    for _ in 0..20 {
        assert_eq!(ann.get("/").status, 200);
    }
    assert!(elapsed(asked) < Duration::from_secs(5), "{:?}", elapsed(asked));
    assert!(gateway.json(&["account", "list"]).is_array(), "operators are kept out");

    // Packets went on all the time, and go on.
    let (moved, lasted) = (transfer.progress() - moved_before, elapsed(began));
    assert!(moved as f64 > 0.5 * RATE as f64 * lasted.as_secs_f64(), "{moved} in {lasted:?}");
    transfer.wait_for_more(RATE, Duration::from_secs(5));
    // The handshakes that do not come are given up.
    let mut last = held.pop().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let end = last.read(&mut [0; 64]);
    assert!(
        !matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "{end:?}"
    );
}
