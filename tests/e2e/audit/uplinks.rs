use tacit_tests::{
    Lab,
    lab::{GATEWAY_V4, TARGET_V4},
};

use super::Audited;

/// Puts the uplink below another interface, which takes its address and its way out over.
fn put_below(lab: &Lab, above: &str, make: &str) {
    lab.gateway.sh(&format!(
        "{make}
         ip addr flush dev uplink
         ip link set {above} up
         ip addr add {GATEWAY_V4}/24 dev {above}
         ip route replace default via {TARGET_V4}"
    ));
}

#[test]
fn whoever_watches_a_port_of_the_bridge_that_leads_out_is_seen() {
    let lab = Lab::new(0);
    put_below(&lab, "br0", "ip link add br0 type bridge; ip link set uplink master br0");
    let audited = Audited::start(&lab);
    for interface in ["uplink", "br0"] {
        watcher_is_seen(&audited, interface);
    }
    audited.sees_lines(
        "interface-mirrors",
        "ip tuntap add tap0 mode tap; ip link set tap0 master br0",
        "ip tuntap del tap0 mode tap",
    );
}

#[test]
fn whoever_watches_the_card_below_the_uplink_is_seen() {
    let lab = Lab::new(0);
    put_below(&lab, "mv0", "ip link add link uplink name mv0 type macvlan mode private");
    let audited = Audited::start(&lab);
    for interface in ["uplink", "mv0"] {
        watcher_is_seen(&audited, interface);
    }
    audited.sees_lines(
        "interface-mirrors",
        "ip link add link uplink name spy0 type macvlan mode private",
        "ip link del spy0",
    );
}

fn watcher_is_seen(audited: &Audited<'_>, interface: &str) {
    audited.sees_who_watches(interface);
    audited.sees_lines(
        "kernel-packet-log",
        &format!("echo 1 > /proc/sys/net/ipv4/conf/{interface}/log_martians"),
        &format!("echo 0 > /proc/sys/net/ipv4/conf/{interface}/log_martians"),
    );
}
