use std::net::UdpSocket;
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::namespace::*;
use crate::host::{HostSettings, Network, check_networks_are_free, preflight};

/// What the start says within a second.
async fn refusal(settings: &HostSettings) -> String {
    let checked = tokio::time::timeout(Duration::from_secs(1), preflight(settings)).await;
    let line = checked.expect("an answer within a second").unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn without_net_admin_it_says_how_to_get_it() {
    in_namespace(async |directory| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();

        let line = refusal(&settings(directory, "data")).await;

        assert_eq!(
            line,
            "no permission to change the network: run as root or with --cap-add NET_ADMIN"
        );
    });
}

#[test]
fn without_a_tun_driver_it_says_how_to_get_it() {
    in_namespace(async |directory| {
        run("mount", "-t tmpfs tmpfs /dev/net");

        let line = refusal(&settings(directory, "data")).await;

        assert!(line.contains("/dev/net/tun is missing"), "{line}");
        assert!(line.contains("modprobe tun") && line.contains("--device"), "{line}");
    });
}

#[test]
fn a_taken_port_is_named() {
    for taken in ["0.0.0.0:51820", "127.0.0.1:51820", "[::]:51820", "[::1]:51820"] {
        in_namespace(async move |directory| {
            let _other = UdpSocket::bind(taken).unwrap();

            let line = refusal(&settings(directory, "data")).await;

            assert!(line.contains("51820") && line.contains("is taken"), "{line}");
            assert!(line.contains("--listen"), "{line}");
        });
    }
}

#[test]
fn a_port_shared_by_a_gateway_is_taken_all_the_same() {
    in_namespace(async |directory| {
        let first = Network::raise(&settings(directory, "data")).await.unwrap();
        let _tunnel = first.open_tunnel(blank_devices()).await.unwrap();
        let second =
            HostSettings { listen: vec![address("0.0.0.0:51820")], ..second_settings(directory) };

        let line = refusal(&second).await;

        assert!(line.contains("is taken"), "{line}");
        first.lower().await;
    });
}

#[test]
fn an_interface_of_somebody_else_is_left_alone() {
    in_namespace(async |directory| {
        run("ip", "link add tacit0 type veth peer name far0");

        let line = refusal(&settings(directory, "data")).await;

        assert!(line.starts_with("interface tacit0 exists already"), "{line}");
        assert!(line.contains("--interface"), "{line}");
        assert!(Network::raise(&settings(directory, "data")).await.is_err());
        run("ip", "link show tacit0");
    });
}

#[test]
fn a_living_gateway_keeps_its_table_and_switches() {
    in_namespace(async |directory| {
        let first = Network::raise(&settings(directory, "data")).await.unwrap();
        let table = run("nft", "list table inet tacit");

        // Its device is away, as while its forwarder restarts.
        let second = Network::raise(&settings(directory, "other")).await;

        assert!(second.is_err());
        assert_eq!(run("nft", "list table inet tacit"), table);
        assert_eq!(sysctl("ipv4/ip_forward"), "1");
        first.lower().await;
        assert_eq!(sysctl("ipv4/ip_forward"), "0");
    });
}

#[test]
fn what_a_killed_gateway_still_has_is_not_in_use_for_the_next() {
    in_namespace(async |directory| {
        run("ip", "link add tacit0 type veth peer name far0");
        run("ip", "address add 10.66.0.1/16 dev tacit0");
        let networks = settings(directory, "data").tunnel_networks();

        assert!(check_networks_are_free("tacit0", networks).await.is_ok());
        assert!(check_networks_are_free("tacit1", networks).await.is_err());
    });
}

#[test]
fn a_tunnel_network_in_use_is_named() {
    in_namespace(async |directory| {
        run("ip", "address add 10.66.9.9/24 dev lo");

        let line = refusal(&settings(directory, "data")).await;

        assert!(
            line.contains("10.66.0.0/16 is in use") && line.contains("lo has 10.66.9.9"),
            "{line}"
        );
        assert!(line.contains("--tunnel-v4"), "{line}");
    });
}

#[test]
fn forwarding_that_cannot_be_switched_on_is_named() {
    in_namespace(async |directory| {
        run("mount", "--bind /proc/sys /proc/sys");
        run("mount", "-o remount,bind,ro /proc/sys");

        let line = refusal(&settings(directory, "data")).await;

        assert!(line.contains("set net.ipv4.ip_forward=1 from outside"), "{line}");
    });
}

#[test]
fn read_only_switches_that_are_on_already_are_enough() {
    in_namespace(async |directory| {
        set_sysctl("ipv4/ip_forward", "1");
        set_sysctl("ipv6/conf/all/forwarding", "1");
        run("mount", "--bind /proc/sys /proc/sys");
        run("mount", "-o remount,bind,ro /proc/sys");
        let settings = settings(directory, "data");

        preflight(&settings).await.unwrap();
        let network = Network::raise(&settings).await.unwrap();
        drop(network.open_tunnel(blank_devices()).await.unwrap());
        network.lower().await;
    });
}

#[test]
fn settings_that_cannot_work_are_named() {
    in_namespace(async |directory| {
        let good = settings(directory, "data");
        for name in ["", ".", "a-name-too-long0", "with space", "a/b", "tacit%d"] {
            let line = refusal(&HostSettings { interface: name.into(), ..good.clone() }).await;
            assert!(line.contains("`interface`"), "{line}");
        }
        let line = refusal(&HostSettings { mtu: 1279, ..good.clone() }).await;
        assert!(line.contains("`mtu` is 1279") && line.contains("1280"), "{line}");
        let twice = vec![address("198.51.100.1:1"), address("198.51.100.2:1")];
        let line = refusal(&HostSettings { listen: twice, ..good.clone() }).await;
        assert!(line.contains("`listen`"), "{line}");
        let absent = vec![address("198.51.100.1:51820")];
        let line = refusal(&HostSettings { listen: absent, ..good.clone() }).await;
        assert!(line.contains("cannot listen on UDP 198.51.100.1:51820"), "{line}");
    });
}

#[test]
fn a_failed_raise_leaves_the_host_as_it_was() {
    in_namespace(async |directory| {
        let before = snapshot();
        run("mount", "--bind /proc/sys /proc/sys");
        run("mount", "-o remount,bind,ro /proc/sys");

        assert!(Network::raise(&settings(directory, "data")).await.is_err());

        assert_same(&before, &snapshot());
    });
}
