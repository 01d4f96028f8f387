//! The site inside the tunnel, and what else devices reach of the gateway: nothing.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use tacit_tests::{Client, Gateway, Implementation, Lab, Namespace, Visitor, lab::GATEWAY_V4};

/// The gateway's addresses in the tunnel.
const INSIDE: [&str; 2] = ["10.66.0.1", "fd66:7ac1:7::1"];
/// A port of the host that has nothing to do with the gateway.
const OTHER_PORT: u16 = 2222;

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Whether anybody answers there.
fn answers(from: &Namespace, address: SocketAddr) -> bool {
    from.within(|| TcpStream::connect_timeout(&address, Duration::from_millis(700)).is_ok())
}

/// Loads the first page and returns its status.
fn load(from: &Namespace, address: SocketAddr, certificate: &Path) -> u16 {
    Visitor::at(address, from, certificate).get("/").status
}

/// A listener of the host's own, at all its addresses.
fn other_service(lab: &Lab) -> TcpListener {
    lab.gateway.within(|| TcpListener::bind(("::", OTHER_PORT))).unwrap()
}

fn device<'lab>(lab: &'lab Lab, gateway: &Gateway<'_>) -> Client<'lab> {
    let config = gateway.customer("someone@example.org");
    Client::up(&lab.clients[0], Implementation::WireguardGo, &config)
}

#[test]
fn site_in_the_tunnel_is_for_devices_and_nothing_else_is() {
    let lab = Lab::new(2);
    let site = "10.66.0.1:8443,[fd66:7ac1:7::1]:8443";
    let gateway = Gateway::start_with(&lab, &["--site", site]);
    let certificate = gateway.data_dir().join("site.pem");
    let _other = other_service(&lab);
    let client = device(&lab, &gateway);
    for ip in INSIDE {
        assert_eq!(load(client.namespace, at(ip, 8443), &certificate), 200, "{ip}");
        assert!(!answers(client.namespace, at(ip, OTHER_PORT)), "{ip}");
        assert!(!answers(client.namespace, at(ip, 9586)), "metrics at {ip}");
    }
    let public = IpAddr::from(GATEWAY_V4).to_string();
    assert!(!answers(client.namespace, at(&public, OTHER_PORT)));
    // Who is no device does not get in there, but to what the host serves.
    for ip in INSIDE {
        assert!(!answers(&lab.clients[1], at(ip, 8443)), "the tunnel's site is open to all: {ip}");
    }
    assert!(answers(&lab.clients[1], at(&public, OTHER_PORT)), "the test's service does not run");
}

#[test]
fn site_outside_of_the_tunnel_is_not_for_devices() {
    let lab = Lab::new(2);
    let gateway = Gateway::start_with(&lab, &["--site", "0.0.0.0:8443"]);
    assert!(gateway.log().contains("`contact` is not set"), "{}", gateway.log());
    let certificate = gateway.data_dir().join("site.pem");
    let client = device(&lab, &gateway);
    let public = at(&IpAddr::from(GATEWAY_V4).to_string(), 8443);
    assert_eq!(load(&lab.clients[1], public, &certificate), 200);
    for address in [at(INSIDE[0], 8443), at(INSIDE[1], 8443), public] {
        assert!(!answers(client.namespace, address), "{address}");
    }
}
