//! What the kernel's connection tracking keeps and tells.

use super::{
    check::{Check, Finding},
    evidence::Evidence,
    process, reading,
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "conntrack-accounting",
        meaning: "The kernel does not count the packets and bytes of each connection.",
        by_hand: "sysctl net.netfilter.nf_conntrack_acct",
        judge: |evidence| is_off(evidence, "net/netfilter/nf_conntrack_acct"),
    },
    Check {
        id: "conntrack-timestamps",
        meaning: "The kernel does not note when each connection began.",
        by_hand: "sysctl net.netfilter.nf_conntrack_timestamp",
        judge: |evidence| is_off(evidence, "net/netfilter/nf_conntrack_timestamp"),
    },
    Check {
        id: "conntrack-listeners",
        meaning: "Nobody is told of connections as they begin and end.",
        by_hand: "awk '$2 == 12' /proc/net/netlink",
        judge: |evidence| {
            reading::judge(&evidence.network.netlink, |table, finding| {
                judge_listeners(table, finding)
            })
        },
    },
    Check {
        id: "conntrack-ended-sessions",
        meaning: "Connections of devices whose session is over are forgotten.",
        by_hand: "conntrack -L; tacit status",
        judge: |evidence| {
            reading::judge(&evidence.stale_entries, |stale, finding| {
                let stale = *stale;
                finding.expect(
                    stale == 0,
                    format!("{stale} entries of tunnel addresses without a live session"),
                );
            })
        },
    },
    Check {
        id: "kernel-packet-log",
        meaning: "The kernel writes no addresses of odd packets to its log.",
        by_hand: "sysctl net.netfilter.nf_conntrack_log_invalid net.ipv4.conf.all.log_martians net.ipv4.conf.{tunnel}.log_martians",
        judge: judge_packet_log,
    },
];

fn is_off(evidence: &Evidence, key: &str) -> Finding {
    let mut finding = Finding::default();
    judge_switch(evidence, key, &mut finding);
    finding
}

fn judge_switch(evidence: &Evidence, key: &str, finding: &mut Finding) {
    match evidence.network.switches.get(key) {
        Some(Ok(Some(value))) => {
            finding.expect(value == "0", format!("{} = {value}", key.replace('/', ".")))
        }
        Some(Ok(None)) => finding.pass(format!("this kernel has no {}", key.replace('/', "."))),
        Some(Err(unread)) => finding.warn(unread.to_string()),
        None => finding.warn(format!("{key} was not read")),
    };
}

fn judge_packet_log(evidence: &Evidence) -> Finding {
    let mut finding = Finding::default();
    judge_switch(evidence, "net/netfilter/nf_conntrack_log_invalid", &mut finding);
    let watched = evidence.links.as_ref().map(|links| links.watched.as_slice()).unwrap_or_default();
    let interfaces = watched.iter().map(|watched| watched.link.name.as_str()).chain(["all"]);
    for interface in interfaces {
        let key = format!("net/ipv4/conf/{interface}/log_martians");
        judge_switch(evidence, &key, &mut finding);
    }
    finding
}

/// `NETLINK_NETFILTER`.
const NETFILTER: &str = "12";

/// Groups of connections and of expected ones (`NFNLGRP_CONNTRACK_NEW` to `NFNLGRP_CONNTRACK_EXP_DESTROY`).
const CONNECTION_GROUPS: u32 = 0b11_1111;
/// `NFNLGRP_NFTRACE`.
const TRACE_GROUP: u32 = 1 << 8;

fn judge_listeners(table: &str, finding: &mut Finding) {
    let holders = listeners(table, CONNECTION_GROUPS);
    finding.expect(
        holders.is_empty(),
        format!("{} listeners to connections in /proc/net/netlink", holders.len()),
    );
    for inode in holders {
        finding.fail(format!("{} listens", process::holder_of_socket(inode)));
    }
}

/// Judges whether somebody listens to traces of rules.
pub(super) fn judge_trace_listeners(table: &str, finding: &mut Finding) {
    let holders = listeners(table, TRACE_GROUP);
    finding.expect(
        holders.is_empty(),
        format!("{} listeners to traces in /proc/net/netlink", holders.len()),
    );
}

/// The inodes of sockets in `/proc/net/netlink` that are members of one of `groups`.
fn listeners(table: &str, groups: u32) -> Vec<&str> {
    let listening = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let member = u32::from_str_radix(words.get(3)?, 16).ok()?;
        let listens = words.get(1) == Some(&NETFILTER) && member & groups != 0;
        listens.then(|| words.get(9).copied())?
    });
    listening.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    fn table(protocol: u32, groups: &str) -> String {
        format!(
            "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
             00000000aaaa1111 {protocol}  4711       {groups} 0        0        0     2        0        31215\n"
        )
    }

    fn verdict(judge: fn(&str, &mut Finding), table: &str) -> Verdict {
        let mut finding = Finding::default();
        judge(table, &mut finding);
        finding.verdict()
    }

    #[test]
    fn listener_to_connections_is_a_violation() {
        assert_eq!(verdict(judge_listeners, &table(12, "00000000")), Verdict::Pass);
        assert_eq!(verdict(judge_listeners, &table(12, "00000004")), Verdict::Fail);
        assert_eq!(
            verdict(judge_listeners, &table(12, "00000040")),
            Verdict::Pass,
            "rules, not connections"
        );
        assert_eq!(
            verdict(judge_listeners, &table(0, "00000007")),
            Verdict::Pass,
            "links, not connections"
        );
    }

    #[test]
    fn listener_to_traces_is_a_violation() {
        assert_eq!(verdict(judge_trace_listeners, &table(12, "00000040")), Verdict::Pass);
        assert_eq!(verdict(judge_trace_listeners, &table(12, "00000100")), Verdict::Fail);
    }
}
