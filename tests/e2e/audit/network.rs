use tacit_tests::Lab;

use super::{Audited, plants, verdicts};

#[test]
fn whoever_watches_an_interface_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    for interface in ["tacit0", "uplink"] {
        audited.sees_who_watches(interface);
        audited.sees("interface-programs", || plants::xdp_link(&lab.gateway, interface), drop);
    }
    audited.sees("raw-sockets", || plants::raw_socket(&lab.gateway), drop);
    audited.sees("tunnel-queues", || plants::queue(&lab.gateway, "tacit0"), drop);
    for kind in ["macvlan", "macvtap"] {
        audited.sees_lines(
            "interface-mirrors",
            &format!("ip link add link uplink name spy0 type {kind}"),
            "ip link del spy0",
        );
    }
    audited.sees_lines(
        "interface-mirrors",
        "ip link set uplink promisc on",
        "ip link set uplink promisc off",
    );
}

#[test]
fn whoever_has_connections_recorded_or_told_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let switches = [
        ("conntrack-accounting", "net/netfilter/nf_conntrack_acct"),
        ("conntrack-timestamps", "net/netfilter/nf_conntrack_timestamp"),
        ("kernel-packet-log", "net/netfilter/nf_conntrack_log_invalid"),
        ("kernel-packet-log", "net/ipv4/conf/tacit0/log_martians"),
        ("kernel-packet-log", "net/ipv4/conf/all/log_martians"),
    ];
    for (id, key) in switches {
        let write = |value| format!("echo {value} > /proc/sys/{key}");
        audited.sees_lines(id, &write(1), &write(0));
    }
    audited.sees("conntrack-listeners", || plants::connection_listener(&lab.gateway), drop);
    audited.sees("packet-listeners", || plants::log_group(&lab.gateway), drop);
    let nobodys = "10.66.0.99".parse().unwrap();
    audited.sees(
        "conntrack-ended-sessions",
        || plants::stale_connection(&lab.gateway, nobodys),
        |_| plants::forget_connections(&lab.gateway, nobodys),
    );
}

#[test]
fn program_that_could_watch_the_kernel_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let check = "bpf-programs";
    assert_eq!(verdicts(&audited.gateway)[check], "PASS");
    let program = plants::bpf_program(plants::Kind::Tracepoint, 0);
    assert_eq!(verdicts(&audited.gateway)[check], "FAIL");
    assert_eq!(audited.now(), audited.clean);
    drop(program);
    assert_eq!(verdicts(&audited.gateway)[check], "PASS");
}
