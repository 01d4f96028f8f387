//! The metrics endpoint: totals of the whole gateway, and nothing about anybody.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use tacit_tests::{
    Gateway, Lab, Namespace, RawClient, Visitor, clock::wait_until, lab::TARGET_V4,
    target::ECHO_PORT,
};

const EMAIL: &str = "someone@example.org";
const DEFAULT: &str = "127.0.0.1:9586";

/// What a path answers, head and body; none if nobody listens.
pub(crate) fn fetch(lab: &Lab, address: &str, path: &str) -> Option<String> {
    fetch_from(&lab.gateway, address, path)
}

/// The same in another namespace.
pub(crate) fn fetch_from(namespace: &Namespace, address: &str, path: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    namespace.within(|| {
        let mut stream = TcpStream::connect(address).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Some(answer)
    })
}

fn labels(exposition: &str) -> BTreeSet<&str> {
    let sets = exposition.lines().filter_map(|line| line.split_once('{')?.1.split_once('}'));
    let pairs = sets.flat_map(|(set, _)| set.split(','));
    pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).collect()
}

/// The value of a counter.
pub(crate) fn counter(exposition: &str, name: &str) -> u64 {
    let name = format!("tacit_{name}_total ");
    let value = exposition.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{exposition}"))
}

/// Waits until metrics tell of one session; totals come once a second.
fn wait_for_session(lab: &Lab) {
    wait_until("the session to be counted", Duration::from_secs(5), || {
        fetch(lab, DEFAULT, "/metrics").unwrap().contains("\ntacit_sessions 1\n")
    });
}

#[test]
fn requests_that_fail_at_the_site_are_counted_and_nothing_else_is_said_of_them() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let refused = || counter(&fetch(&lab, DEFAULT, "/metrics").unwrap(), "site_requests_refused");
    assert_eq!(refused(), 0);
    let mut visitor = Visitor::new(&lab.gateway, &gateway.data_dir().join("site.pem"));
    for path in ["/", "/a-page-that-there-is-not", "/another"] {
        visitor.get(path);
    }
    assert_eq!(refused(), 2);
    assert!(!fetch(&lab, DEFAULT, "/metrics").unwrap().contains("a-page"));
}

#[test]
fn metrics_have_totals_and_no_label_that_tells_people_apart() {
    let lab = Lab::new(1);
    let gateway = Gateway::start_with(&lab, &["--metrics-least-sessions", "1"]);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    let metrics = || fetch(&lab, DEFAULT, "/metrics").unwrap();
    assert!(metrics().contains("\ntacit_sessions 0\n"), "{}", metrics());

    client.handshake();
    wait_for_session(&lab);
    client.handshake();
    wait_until("a handshake of many to be counted", Duration::from_secs(5), || {
        counter(&metrics(), "handshakes") > 0
    });
    wait_until("its traffic to be counted", Duration::from_secs(10), || {
        assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
        counter(&metrics(), "inbound_packets") > 0 && counter(&metrics(), "outbound_bytes") > 0
    });
    let metrics = metrics();
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("\ntacit_handshakes_waiting 0\n"), "{metrics}");
    assert!(metrics.contains("tacit_drops_total{reason=\"malformed\"} 0"), "{metrics}");
    assert_eq!(labels(&metrics), BTreeSet::from(["commit", "reason", "version"]));
}

#[test]
fn traffic_of_few_sessions_is_not_counted() {
    let lab = Lab::new(1);
    let gateway = Gateway::start_with(&lab, &["--metrics-least-sessions", "2"]);
    gateway.add_account(EMAIL);
    let mut clients = ["laptop", "phone"]
        .map(|device| RawClient::new(&lab.clients[0], &gateway.add_device(EMAIL, device)));
    clients[0].handshake();
    wait_for_session(&lab);
    for _ in 0..4 {
        assert!(clients[0].echo((TARGET_V4, ECHO_PORT).into(), &[7; 1_000]));
        std::thread::sleep(Duration::from_millis(500));
    }
    let metrics = || fetch(&lab, DEFAULT, "/metrics").unwrap();
    // What nobody can read is dropped, and that is somebody's too.
    clients[0].send_raw(b"no message of WireGuard's");
    let status = || gateway.json(&["status"]);
    wait_until("a drop", Duration::from_secs(5), || status()["totals"]["drops"]["malformed"] == 1);
    let counters =
        ["handshakes", "inbound_packets", "inbound_bytes", "outbound_packets", "outbound_bytes"];
    assert_eq!(counters.map(|name| counter(&metrics(), name)), [0; 5]);
    assert!(metrics().contains("tacit_drops_total{reason=\"malformed\"} 0"), "{}", metrics());
    assert!(status()["totals"]["inbound_bytes"].as_u64().unwrap() > 4_000);

    clients[1].handshake();
    wait_until("traffic of both to be counted", Duration::from_secs(10), || {
        assert!(clients[1].echo((TARGET_V4, ECHO_PORT).into(), b"short"));
        counter(&metrics(), "outbound_packets") > 0
    });
    // What the first one sent alone is in no total.
    assert!(counter(&metrics(), "inbound_bytes") < 4_000, "{}", metrics());
}

#[test]
fn readiness_follows_the_forwarder() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let answer = |path| fetch(&lab, DEFAULT, path).unwrap();
    let is_well = |path| answer(path).starts_with("HTTP/1.1 200 OK\r\n");
    assert!(is_well("/healthz") && is_well("/readyz"));
    assert!(answer("/accounts").starts_with("HTTP/1.1 404 "));
    assert!(gateway.cli(&["status", "--check"]).status.success());

    // The more of them die early, the longer it takes until there is another: in the end nearly a second.
    for deaths in 1..=4 {
        gateway.kill_forwarder();
        wait_until("another forwarder", Duration::from_secs(5), || {
            gateway.json(&["status"])["forwarder"]["restarts"] == deaths
        });
    }
    gateway.kill_forwarder();
    wait_until("its death to be noticed", Duration::from_secs(5), || !is_well("/readyz"));
    assert!(answer("/readyz").starts_with("HTTP/1.1 503 "), "{}", answer("/readyz"));
    let checked = gateway.cli(&["status", "--check", "--without-counts"]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("starting again"), "{checked:?}");
    assert!(gateway.cli(&["status"]).status.success());
    assert!(is_well("/healthz"), "control is well all the time");
    wait_until("another forwarder", Duration::from_secs(5), || is_well("/readyz"));
}

#[test]
fn metrics_can_be_moved_and_turned_off() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start_with(&lab, &["--metrics", "127.0.0.1:9999"]);
    assert!(fetch(&lab, "127.0.0.1:9999", "/healthz").is_some());
    assert!(fetch(&lab, DEFAULT, "/healthz").is_none());
    gateway.stop();
    let _gateway = Gateway::start_with(&lab, &["--metrics", "off"]);
    assert!(fetch(&lab, DEFAULT, "/healthz").is_none());
}

#[test]
fn taken_address_stops_a_gateway_only_if_it_was_named() {
    let lab = Lab::new(0);
    let _taken = lab.gateway.within(|| std::net::TcpListener::bind(DEFAULT).unwrap());
    let mut gateway = Gateway::start(&lab);
    assert!(gateway.log().contains("metrics are off"), "{}", gateway.log());
    gateway.stop();

    let named = Gateway::stopped(&lab, "named", &["--metrics", DEFAULT]);
    let output = lab.gateway.output(&mut named.command());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`metrics`"), "{said}");
}

#[test]
fn many_idle_connections_do_not_use_up_descriptors() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let control = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    let address: SocketAddr = DEFAULT.parse().unwrap();
    let open =
        || std::fs::read_dir(lab.gateway.path(&format!("/proc/{control}/fd"))).unwrap().count();
    let before = open();

    let idle: Vec<TcpStream> =
        lab.gateway.within(|| (0..100).map(|_| TcpStream::connect(address).unwrap()).collect());

    std::thread::sleep(Duration::from_millis(300));
    assert!(open() < before + 50, "{} descriptors, {before} before", open());
    drop(idle);
    assert!(fetch(&lab, DEFAULT, "/healthz").is_some_and(|answer| answer.ends_with("ok\n")));
}

/// The lines of an exposition that have values: others name families, which are called otherwise.
fn samples(exposition: &str) -> String {
    exposition.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Names of metrics in a text: words that begin as they all do.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tacit_")).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_and_reasons_that_there_are() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let dashboard = fs::read_to_string(deploy.join("grafana-dashboard.json")).unwrap();
    let panels = serde_json::from_str::<serde_json::Value>(&dashboard).unwrap()["panels"].clone();
    let alerts = fs::read_to_string(deploy.join("alerts.yaml")).unwrap();
    let lab = Lab::new(0);
    let _gateway = Gateway::start(&lab);
    let exposition = fetch(&lab, DEFAULT, "/metrics").unwrap();
    let samples = samples(&exposition);
    let there = metrics_in(&samples);
    for text in [dashboard.as_str(), &alerts] {
        let asked = metrics_in(text);
        assert!(asked.len() > 5, "{asked:?}");
        assert!(asked.is_subset(&there), "{:?}", asked.difference(&there));
    }
    assert!(panels.as_array().unwrap().len() > 10);
    let reasons = alerts.split("reason=~\"").nth(1).unwrap().split('"').next().unwrap();
    for reason in reasons.split('|') {
        assert!(exposition.contains(&format!("reason=\"{reason}\"")), "{reason}");
    }
}
