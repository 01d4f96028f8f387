use tacit_tests::Lab;

use super::{Audited, plants};

/// A table with a chain that forwarded packets pass.
const TABLE: &str = "nft add table ip spy
    nft add chain ip spy c '{ type filter hook forward priority 5; }'";
const NO_TABLE: &str = "nft delete table ip spy";

#[test]
fn rule_that_records_or_copies_packets_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let planted = [
        ("firewall-log", "nft add rule ip spy c log"),
        ("firewall-log", "nft add rule ip spy c ip daddr 203.0.113.0/24 log group 5"),
        ("firewall-counters", "nft add rule ip spy c tcp dport 25 counter"),
        ("firewall-counters", "nft add counter ip spy n; nft add rule ip spy c counter name n"),
        ("firewall-counters", "nft add rule ip spy c quota over 5 mbytes drop"),
        ("firewall-trace", "nft add rule ip spy c meta nftrace set 1"),
        ("firewall-copies", "nft add rule ip spy c dup to 198.51.100.2"),
        (
            "firewall-sets",
            "nft add set ip spy s '{ type ipv4_addr; flags dynamic; size 9; }'; nft add rule ip spy c add @s '{ ip daddr }'",
        ),
        ("firewall-sets", "nft add set ip spy s '{ type ipv4_addr; counter; }'"),
        // A count for each destination, of which no rule and no set says a word.
        (
            "firewall-sets",
            "nft add rule ip spy c ip daddr '{ 203.0.113.1 counter, 203.0.113.2 counter }' accept",
        ),
        // A chain that is only jumped to.
        (
            "firewall-log",
            "nft add chain ip spy d; nft add rule ip spy d log; nft add rule ip spy c jump d",
        ),
    ];
    for (id, rule) in planted {
        audited.sees_lines(id, &format!("{TABLE}\n{rule}"), NO_TABLE);
    }
    audited.sees_lines(
        "firewall-copies",
        "nft add table netdev spy
         nft add chain netdev spy c '{ type filter hook ingress device tacit0 priority 0; }'
         nft add rule netdev spy c dup to uplink",
        "nft delete table netdev spy",
    );
    let queue = || {
        lab.gateway.sh(TABLE);
        plants::queue_rule(&lab.gateway);
    };
    let remove = |()| drop(lab.gateway.sh(NO_TABLE));
    audited.sees("firewall-queue", queue, remove);
    let element = || {
        lab.gateway.sh(&format!("{TABLE}; nft add set ip spy s '{{ type ipv4_addr; }}'"));
        plants::counting_element(&lab.gateway);
    };
    audited.sees("firewall-sets", element, remove);
    let unheard_of = || {
        lab.gateway.sh(TABLE);
        plants::unheard_of_rule(&lab.gateway);
    };
    audited.sees_as("firewall-unknown", "WARN", unheard_of, remove);
}

#[test]
fn rule_that_no_packet_can_meet_or_that_counts_the_hosts_own_packets_is_no_violation() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    lab.gateway.sh(&format!("{TABLE}; nft add chain ip spy d; nft add rule ip spy d log"));
    assert_eq!(audited.now(), audited.clean);
    lab.gateway.sh(NO_TABLE);

    let counter = "nft add table ip spy
        nft add chain ip spy i '{ type filter hook input priority 5; }'
        nft add rule ip spy i tcp dport 22 counter";
    audited.sees_as(
        "firewall-counters",
        "WARN",
        || lab.gateway.sh(counter),
        |_| drop(lab.gateway.sh(NO_TABLE)),
    );
}

#[test]
fn rules_of_iptables_are_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    audited.sees_lines(
        "firewall-legacy",
        "iptables-legacy -A FORWARD -d 203.0.113.1 -j ACCEPT",
        "iptables-legacy -F FORWARD",
    );
    audited.sees_lines(
        "firewall-legacy",
        "ip6tables-legacy -A FORWARD -j ACCEPT",
        "ip6tables-legacy -F FORWARD",
    );
    // What iptables writes to nftables is read there; it counts in each rule.
    lab.gateway.sh("iptables-nft -A FORWARD -j NFLOG --nflog-group 5");
    let planted = audited.now();
    assert_eq!((&*planted["firewall-log"], &*planted["firewall-counters"]), ("FAIL", "FAIL"));
    lab.gateway.sh("iptables-nft -F FORWARD");
    // Its match, not its target, logs.
    lab.gateway.sh("iptables-nft -A FORWARD -p tcp -m osf --genre Linux --log 0 -j ACCEPT");
    assert_eq!(audited.now(), planted);
    lab.gateway.sh("iptables-nft -F FORWARD");
    assert_eq!(audited.now(), audited.clean);
}
