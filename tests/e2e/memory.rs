//! What the forwarder's memory holds of a device, read from outside: everything it needs while the device is there,
//! and nothing afterwards.

use std::{net::IpAddr, thread, time::Duration};

use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::wait_for,
    lab::{GATEWAY_V6, PORT, TARGET_V4, client_v4, client_v6},
    memory::Memory,
    raw_client::bind,
    target::ECHO_PORT,
};

const EMAIL: &str = "someone@example.org";
/// What one of a device's packets says.
const CANARY: &[u8] = b"a page about something that is nobody's business";
/// Where it stands in the packet, behind what shorter packets overwrite.
const CANARY_AT: usize = 1100;
/// How long traces may stay: a little longer than what a busy worker leaves until it is overwritten.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes by which a device could be recognised.
pub(crate) struct Traces(Vec<(&'static str, Vec<u8>)>);

impl Traces {
    /// The traces of a client that has a session, connecting from `connecting_ip`.
    pub(crate) fn of(client: &mut RawClient, connecting_ip: IpAddr) -> Self {
        let ip = match connecting_ip {
            // As a socket address of the kernel's, and as one of the program's.
            IpAddr::V4(v4) => {
                let port = client.socket.local_addr().unwrap().port();
                let kernels = [&[2, 0], &port.to_be_bytes()[..], &v4.octets()].concat();
                let own = [&v4.octets()[..], &port.to_ne_bytes()].concat();
                let written = [&[4], &v4.octets()[..], &[0; 12]].concat();
                vec![
                    ("the connecting IP address as a name", kernels),
                    ("the connecting IP address as an endpoint", own),
                    ("the connecting IP address in a message", written),
                ]
            }
            IpAddr::V6(v6) => vec![("the connecting IP address", v6.octets().into())],
        };
        let [sending, receiving] = client.session().keys();
        let keys = [
            ("the public key", client.identity.public_key().to_bytes()),
            ("the preshared key", client.config.preshared_key),
            ("the key of its session from the device", sending),
            ("the key of its session to the device", receiving),
        ];
        let keys = keys.map(|(name, key)| (name, key.to_vec()));
        let tunnel = ("the tunnel address", client.config.tunnel_v6.octets().to_vec());
        let packets = ("what a packet said", CANARY.to_vec());
        Self(ip.into_iter().chain(keys).chain([tunnel, packets]).collect())
    }

    /// Those that are in the forwarder's memory.
    pub(crate) fn found(&self, lab: &Lab, gateway: &Gateway<'_>) -> Vec<&'static str> {
        let memory = Memory::read(&lab.gateway.path(&format!("/proc/{}", gateway.forwarder())));
        let found = self.0.iter().filter(|(_, bytes)| memory.count(bytes) > 0);
        found.map(|(name, _)| *name).collect()
    }

    /// Asserts that a search finds what must be there while the client talks.
    pub(crate) fn assert_found(&self, lab: &Lab, gateway: &Gateway<'_>, client: &mut RawClient) {
        // Some of it is overwritten soon, and a message with the address is sent but once.
        let must = |name: &&str| !name.contains("message") && !name.contains("name");
        let expected: Vec<_> = self.0.iter().map(|(name, _)| *name).filter(must).collect();
        let all = wait_for(PATIENCE, || {
            assert!(client.echo((TARGET_V4, ECHO_PORT).into(), &packet()));
            let found = self.found(lab, gateway);
            expected.iter().all(|name| found.contains(name)).then_some(())
        });
        assert!(all.is_some(), "the search does not find {expected:?}");
    }
}

fn packet() -> Vec<u8> {
    [&[b'.'; CANARY_AT], CANARY].concat()
}

#[test]
fn nothing_of_a_removed_device_stays_while_others_go_on() {
    let lab = Lab::new(3);
    let gateway = Gateway::start_with(&lab, &["--workers", "1"]);
    gateway.add_account(EMAIL);
    let [laptop, phone, other] =
        ["laptop", "phone", "other"].map(|name| gateway.add_device(EMAIL, name));
    let mut laptop = RawClient::new(&lab.clients[0], &laptop);
    let mut phone = RawClient::on(bind(&lab.clients[1], "[::]:0".parse().unwrap()), &phone);
    phone.gateway = (GATEWAY_V6, PORT).into();
    let mut other = RawClient::new(&lab.clients[2], &other);
    laptop.handshake();
    phone.handshake();
    other.handshake();
    let laptop_traces = Traces::of(&mut laptop, client_v4(0, 2).into());
    let phone_traces = Traces::of(&mut phone, client_v6(1, 2).into());
    laptop_traces.assert_found(&lab, &gateway, &mut laptop);
    phone_traces.assert_found(&lab, &gateway, &mut phone);
    let source = format!("src={} ", laptop.config.tunnel_v4);
    assert!(tracked(&lab).contains(&source), "the kernel does not track its connections");

    gateway.text(&["device", "remove", EMAIL, "laptop"]);
    gateway.text(&["device", "remove", EMAIL, "phone"]);

    let gone = wait_for(PATIENCE, || {
        // No worker comes to rest.
        assert!(other.echo((TARGET_V4, ECHO_PORT).into(), b"still here"));
        let found = [laptop_traces.found(&lab, &gateway), phone_traces.found(&lab, &gateway)];
        found.concat().is_empty().then_some(())
    });
    let (laptop, phone) = (laptop_traces.found(&lab, &gateway), phone_traces.found(&lab, &gateway));
    assert!(gone.is_some(), "left of the laptop: {laptop:?}, of the phone: {phone:?}");
    let forgotten = wait_for(PATIENCE, || (!tracked(&lab).contains(&source)).then_some(()));
    assert!(forgotten.is_some(), "the kernel still tracks its connections");
}

/// The kernel's connection-tracking entries at the gateway.
pub(crate) fn tracked(lab: &Lab) -> String {
    lab.gateway.sh("cat /proc/net/nf_conntrack")
}

#[test]
fn forwarder_at_rest_holds_no_packet() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    client.handshake();
    let traces = Traces(vec![("what a packet said", CANARY.to_vec())]);
    traces.assert_found(&lab, &gateway, &mut client);

    // Less than it takes a worker that is never at rest.
    thread::sleep(Duration::from_secs(3));
    assert!(traces.found(&lab, &gateway).is_empty());
}
