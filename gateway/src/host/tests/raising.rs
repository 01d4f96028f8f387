use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl};

use super::namespace::*;
use crate::host::{Network, Protocol, ServedPort, conntrack, preflight};

/// Makes an interface that takes router advertisements, as an uplink does.
async fn add_uplink() {
    run("ip", "link add uplink0 type veth peer name far0");
    set_sysctl("ipv6/conf/uplink0/accept_ra", "1");
    // A link-local address would come up by itself in the middle of a test.
    set_sysctl("ipv6/conf/uplink0/addr_gen_mode", "1");
    set_sysctl("ipv6/conf/far0/addr_gen_mode", "1");
    run("ip", "link set far0 up");
    run("ip", "link set uplink0 up");
    run("ip", "address add 198.51.100.1/24 dev uplink0");
    run("ip", "address add 2001:db8::1/64 dev uplink0 nodad");
    // The kernel finds out on its own time that the link is up.
    while !run("ip", "-6 route show table local").contains("2001:db8::1") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ends a gateway as `kill -9` does.
async fn kill(network: Network) {
    drop(network);
    // A test in another thread may just have forked, and its child holds all descriptors until it executes.
    while Path::new("/proc/sys/net/ipv4/conf/tacit0").exists()
        || run("nft", "list table inet tacit").contains("owner")
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn raising_makes_device_addresses_sockets_and_table() {
    in_namespace(async |directory| {
        let settings = settings(directory, "data");
        preflight(&settings).await.unwrap();
        let network = Network::raise(&settings).await.unwrap();
        let tunnel = network.open_tunnel(blank_devices()).await.unwrap();

        assert_eq!([tunnel.tun.len(), tunnel.udp_v4.len(), tunnel.udp_v6.len()], [2, 2, 2]);
        for descriptor in tunnel.tun.iter().chain(&tunnel.udp_v4).chain(&tunnel.udp_v6) {
            assert!(fcntl_getfl(descriptor).unwrap().contains(OFlags::NONBLOCK));
        }
        let device = run("ip", "-details address show dev tacit0");
        for part in [
            "mtu 1420",
            "multi_queue",
            "vnet_hdr",
            "qlen 1000",
            "UP",
            "inet 10.66.0.1/16",
            "inet6 fd66:7ac1:7::1/64",
        ] {
            assert!(device.contains(part), "{part} in {device}");
        }
        assert_eq!(sysctl("ipv6/conf/tacit0/addr_gen_mode"), "1");
        assert!(!device.contains("fe80"), "{device}");
        assert!(!device.contains("tentative"), "{device}");
        assert_eq!(sysctl("ipv4/ip_forward"), "1");
        assert_eq!(sysctl("ipv6/conf/all/forwarding"), "1");
        run("nft", "list table inet tacit");
        let record = fs::metadata(settings.state_dir.join("host-state.json")).unwrap();
        assert_eq!(record.permissions().mode() & 0o777, 0o600);
        drop(tunnel);
        network.lower().await;
    });
}

#[test]
fn lowering_leaves_the_host_as_it_was() {
    in_namespace(async |directory| {
        add_uplink().await;
        set_sysctl("ipv4/conf/all/accept_redirects", "0");
        set_sysctl("ipv4/conf/uplink0/forwarding", "1");
        set_sysctl("ipv6/conf/far0/forwarding", "1");
        run("nft", "add table inet somebody");
        run("nft", "add chain inet somebody input { type filter hook input priority 0 ; }");
        let before = snapshot();

        let settings = settings(directory, "data");
        let network = Network::raise(&settings).await.unwrap();
        let tunnel = network.open_tunnel(blank_devices()).await.unwrap();
        assert_eq!(sysctl("ipv6/conf/uplink0/accept_ra"), "2");
        drop(tunnel);
        network.lower().await;

        assert_same(&before, &snapshot());
        assert_eq!(fs::read_dir(&settings.state_dir).unwrap().count(), 0);
    });
}

#[test]
fn a_host_that_forwards_already_goes_on_forwarding() {
    in_namespace(async |directory| {
        set_sysctl("ipv4/ip_forward", "1");
        set_sysctl("ipv6/conf/all/forwarding", "1");
        let before = snapshot();

        let network = Network::raise(&settings(directory, "data")).await.unwrap();
        network.lower().await;

        assert_same(&before, &snapshot());
    });
}

#[test]
fn a_switch_that_somebody_else_turned_since_is_left_alone() {
    in_namespace(async |directory| {
        add_uplink().await;
        let network = Network::raise(&settings(directory, "data")).await.unwrap();
        set_sysctl("ipv6/conf/uplink0/accept_ra", "0");

        network.lower().await;

        assert_eq!(sysctl("ipv6/conf/uplink0/accept_ra"), "0");
        assert_eq!(sysctl("ipv4/ip_forward"), "0");
    });
}

#[test]
fn the_next_gateway_cleans_up_after_a_killed_one() {
    in_namespace(async |directory| {
        add_uplink().await;
        let before = snapshot();
        let settings = settings(directory, "data");
        let killed = Network::raise(&settings).await.unwrap();
        drop(killed.open_tunnel(blank_devices()).await.unwrap());
        kill(killed).await;

        let next = Network::raise(&settings).await.unwrap();
        drop(next.open_tunnel(blank_devices()).await.unwrap());
        next.lower().await;

        assert_same(&before, &snapshot());
    });
}

#[test]
fn a_killed_gateway_is_cleaned_up_also_from_another_data_directory() {
    in_namespace(async |directory| {
        add_uplink().await;
        let before = snapshot();
        kill(Network::raise(&settings(directory, "lost")).await.unwrap()).await;

        let next = Network::raise(&settings(directory, "data")).await.unwrap();
        next.lower().await;

        assert_same(&before, &snapshot());
    });
}

#[test]
fn a_killed_gateway_is_cleaned_up_also_under_another_interface_name() {
    in_namespace(async |directory| {
        let before = snapshot();
        let mut settings = settings(directory, "data");
        kill(Network::raise(&settings).await.unwrap()).await;

        settings.interface = "other0".into();
        let next = Network::raise(&settings).await.unwrap();
        assert!(!run("nft", "list tables").lines().any(|line| line == "table inet tacit"));
        next.lower().await;

        assert_same(&before, &snapshot());
    });
}

#[test]
fn a_record_of_another_namespace_changes_nothing_here() {
    in_namespace(async |directory| {
        drop(Network::raise(&settings(directory, "data")).await.unwrap());
        let directory = directory.to_owned();
        in_namespace(async move |_| {
            set_sysctl("ipv4/ip_forward", "1");
            let before = snapshot();

            let network = Network::raise(&settings(&directory, "data")).await.unwrap();
            network.lower().await;

            assert_same(&before, &snapshot());
        });
    });
}

#[test]
fn two_gateways_run_side_by_side_and_the_last_one_turns_forwarding_off() {
    for first_leaves_first in [true, false] {
        in_namespace(async move |directory| {
            add_uplink().await;
            let before = snapshot();
            let first = Network::raise(&settings(directory, "data")).await.unwrap();
            let first_tunnel = first.open_tunnel(blank_devices()).await.unwrap();
            let second = Network::raise(&second_settings(directory)).await.unwrap();
            let second_tunnel = second.open_tunnel(blank_devices()).await.unwrap();
            run("nft", "list table inet tacit");
            run("nft", "list table inet tacit_tacit1");

            drop((first_tunnel, second_tunnel));
            let (leaves, stays) =
                if first_leaves_first { (first, second) } else { (second, first) };
            leaves.lower().await;
            assert_eq!(sysctl("ipv4/ip_forward"), "1");
            assert_eq!(sysctl("ipv6/conf/all/forwarding"), "1");
            assert_eq!(sysctl("ipv6/conf/uplink0/accept_ra"), "2");
            stays.lower().await;

            assert_same(&before, &snapshot());
        });
    }
}

#[test]
fn the_tunnel_opens_again_after_the_forwarder_died() {
    in_namespace(async |directory| {
        let network = Network::raise(&settings(directory, "data")).await.unwrap();
        for _ in 0..3 {
            drop(network.open_tunnel(blank_devices()).await.unwrap());
        }
        network.lower().await;
    });
}

#[test]
fn lowering_removes_a_device_that_is_still_held() {
    in_namespace(async |directory| {
        let before = snapshot();
        let network = Network::raise(&settings(directory, "data")).await.unwrap();
        let _tunnel = network.open_tunnel(blank_devices()).await.unwrap();

        network.lower().await;

        assert_same(&before, &snapshot());
    });
}

#[test]
fn a_flush_by_somebody_else_does_not_take_the_table_away() {
    in_namespace(async |directory| {
        let network = Network::raise(&settings(directory, "data")).await.unwrap();

        run("nft", "flush ruleset");

        run("nft", "list table inet tacit");
        network.lower().await;
    });
}

#[test]
fn no_rule_counts_logs_traces_or_copies() {
    in_namespace(async |directory| {
        let mut settings = settings(directory, "data");
        settings.allow_private = vec!["192.168.7.0/24".parse().unwrap()];
        settings.served_ports = vec![ServedPort { protocol: Protocol::Udp, port: 53 }];
        let network = Network::raise(&settings).await.unwrap();

        let table = run("nft", "list table inet tacit");
        for word in ["counter", "log", "nftrace", "dup", "queue", "quota", "fwd", "limit", "@"] {
            let has_word = table.split_whitespace().any(|found| found == word);
            assert!(!has_word, "{word} in {table}");
        }
        network.lower().await;
    });
}

#[test]
fn the_table_is_as_designed() {
    in_namespace(async |directory| {
        let mut settings = settings(directory, "data");
        settings.allow_private = vec!["192.168.7.0/24".parse().unwrap()];
        settings.served_ports = vec![ServedPort { protocol: Protocol::Udp, port: 53 }];
        let network = Network::raise(&settings).await.unwrap();

        let table = run("nft", "list table inet tacit");
        for rule in [
            "ip saddr != 10.66.0.0/16 iifname \"tacit0\" drop",
            "ip6 daddr fd66:7ac1:7::/64 iifname != \"tacit0\" iifname != \"lo\" drop",
            "iifname \"tacit0\" ip daddr 10.66.0.1 udp dport 53 accept",
            "iifname \"tacit0\" oifname \"tacit0\" drop",
            "iifname \"tacit0\" ip daddr 192.168.7.0/24 accept",
            "iifname \"tacit0\" ip daddr 169.254.0.0/16 drop",
            "iifname \"tacit0\" ip6 daddr fe00::/8 drop",
            "\tct state established,related accept",
            "oifname \"tacit0\" drop",
            "udp dport 51820 meta nfproto ipv4 fib daddr type local iifname != \"tacit0\" notrack",
            "udp dport 51820 meta nfproto ipv6 fib daddr type local iifname != \"tacit0\" notrack",
            "meta nfproto ipv4 udp sport 51820 notrack",
            "meta nfproto ipv6 udp sport 51820 notrack",
            "ip saddr 10.66.0.0/16 udp sport 51820 masquerade to :1024-51819",
            "ip6 saddr fd66:7ac1:7::/64 udp sport 51820 masquerade to :1024-51819",
        ] {
            assert!(table.contains(rule), "{rule} in {table}");
        }
        assert_eq!(table.matches("maxseg size set 1380").count(), 2, "{table}");
        assert_eq!(table.matches("maxseg size set 1360").count(), 2, "{table}");
        assert_eq!(table.matches("masquerade").count(), 4, "{table}");
        network.lower().await;
    });
}

#[test]
fn network_that_is_routed_here_is_not_translated() {
    in_namespace(async |directory| {
        let mut settings = settings(directory, "data");
        settings.tunnel_v6 = "2001:db8:7::/64".parse().unwrap();
        settings.routed_v6 = true;
        let network = Network::raise(&settings).await.unwrap();
        let table = run("nft", "list table inet tacit");
        let chain = table.split("chain postrouting").nth(1).unwrap();
        assert!(!chain.contains("ip6") && chain.contains("ip saddr 10.66.0.0/16"), "{table}");
        assert!(!table.contains("ip6 daddr 2001:db8:7::/64"), "answers must come through: {table}");
        assert!(
            table.contains("ip6 saddr 2001:db8:7::/64"),
            "nobody outside may bear them: {table}"
        );
        network.lower().await;
    });
}

#[test]
fn ipv6_off_leaves_an_ipv4_tunnel() {
    in_namespace(async |directory| {
        set_sysctl("ipv6/conf/all/disable_ipv6", "1");
        set_sysctl("ipv6/conf/default/disable_ipv6", "1");
        let settings = settings(directory, "data");
        preflight(&settings).await.unwrap();
        let network = Network::raise(&settings).await.unwrap();
        let tunnel = network.open_tunnel(blank_devices()).await.unwrap();

        assert_eq!(sysctl("ipv6/conf/all/forwarding"), "0");
        let device = run("ip", "address show dev tacit0");
        assert!(device.contains("10.66.0.1/16") && !device.contains("inet6"), "{device}");
        assert_eq!(tunnel.udp_v4.len(), 2);
        drop(tunnel);
        network.lower().await;
    });
}

#[test]
fn forgetting_a_device_without_entries_is_no_trouble() {
    in_namespace(async |_| {
        conntrack::forget(vec![("10.66.0.2".parse().unwrap(), "fd66:7ac1:7::2".parse().unwrap())])
            .await
            .unwrap();
    });
}
