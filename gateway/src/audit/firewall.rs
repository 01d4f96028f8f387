//! Rules that would record, copy or hand out packets.

use nlink::netlink::nftables::{DynsetOp, MetaKey, ObjectType, ObjrefExpr, RuleExpr};

use super::{
    check::{Check, Finding, Verdict},
    conntrack::judge_trace_listeners,
    evidence::Evidence,
    legacy::LegacyTable,
    reading,
    rules::{Rule, Rules, Way, extension},
    sets::KeepingSet,
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "firewall-log",
        meaning: "No firewall rule logs packets.",
        by_hand: "nft list ruleset | grep -wE 'log|LOG|NFLOG|AUDIT'",
        judge: |evidence| of_rules(evidence, |rules, finding| judge(rules, Record::Log, finding)),
    },
    Check {
        id: "firewall-counters",
        meaning: "No firewall rule that tunnel traffic passes counts packets or notes when they came.",
        by_hand: "nft list ruleset | grep -wE 'counter|quota|last|connbytes'",
        judge: |evidence| of_rules(evidence, |rules, finding| judge(rules, Record::Count, finding)),
    },
    Check {
        id: "firewall-trace",
        meaning: "No firewall rule has packets traced, and nobody listens to traces.",
        by_hand: "nft list ruleset | grep -wE 'nftrace|TRACE'",
        judge: |evidence| {
            of_rules(evidence, |rules, finding| {
                judge(rules, Record::Trace, finding);
                match &evidence.network.netlink {
                    Ok(table) => judge_trace_listeners(table, finding),
                    Err(unread) => {
                        finding.warn(unread.to_string());
                    }
                }
            })
        },
    },
    Check {
        id: "firewall-copies",
        meaning: "No firewall rule copies packets or sends them elsewhere.",
        by_hand: "nft list ruleset | grep -wE 'dup|fwd|tproxy|TEE|TPROXY'",
        judge: |evidence| of_rules(evidence, |rules, finding| judge(rules, Record::Copy, finding)),
    },
    Check {
        id: "firewall-queue",
        meaning: "No firewall rule hands packets to a program.",
        by_hand: "nft list ruleset | grep -wE 'queue|NFQUEUE'",
        judge: |evidence| of_rules(evidence, |rules, finding| judge(rules, Record::Queue, finding)),
    },
    Check {
        id: "firewall-sets",
        meaning: "No firewall rule writes down addresses in a set or a table of its own, and no set keeps anything with an element.",
        by_hand: "nft list ruleset | grep -E 'add @|update @|hashlimit|recent|counter|quota|limit|last'; nft list sets; nft list maps",
        judge: |evidence| {
            of_rules(evidence, |rules, finding| {
                judge(rules, Record::Remember, finding);
                judge_sets(rules, finding);
            })
        },
    },
    Check {
        id: "firewall-unknown",
        meaning: "Every part of a firewall rule is of a kind that this program knows to keep nothing, or to keep what another check tells.",
        by_hand: "nft list ruleset",
        judge: |evidence| {
            of_rules(evidence, |rules, finding| judge(rules, Record::Unknown, finding))
        },
    },
    Check {
        id: "firewall-legacy",
        meaning: "The older iptables has no rule, as each of its rules counts what it matches.",
        by_hand: "iptables-legacy-save -c; ip6tables-legacy-save -c",
        judge: |evidence| {
            reading::judge(&evidence.network.legacy_tables, |tables, finding| {
                judge_legacy(tables, finding)
            })
        },
    },
    Check {
        id: "packet-listeners",
        meaning: "No program takes packets or notes about them from the firewall (NFLOG, NFQUEUE).",
        by_hand: "cat /proc/net/netfilter/nfnetlink_log /proc/net/netfilter/nfnetlink_queue",
        judge: |evidence| {
            reading::judge(&evidence.network.packet_listeners, |listeners, finding| {
                judge_listeners(listeners, finding);
            })
        },
    },
];

fn of_rules(evidence: &Evidence, judge: impl FnOnce(&Rules, &mut Finding)) -> Finding {
    reading::judge(&evidence.rules, judge)
}

/// What a rule can keep or give away of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Log,
    Count,
    Trace,
    Copy,
    Queue,
    Remember,
    /// It may do any of that: nobody here knows.
    Unknown,
}

/// What an expression does besides deciding about the packet, or changing it.
fn record(expression: &RuleExpr) -> Option<Record> {
    if let Some(extension) = extension(expression) {
        return record_of_extension(extension);
    }
    match expression {
        RuleExpr::Log(_) => Some(Record::Log),
        RuleExpr::Counter { .. } | RuleExpr::Quota { .. } => Some(Record::Count),
        RuleExpr::Objref(object) => record_of_object(object),
        RuleExpr::MetaSet { key: MetaKey::NfTrace, .. } => Some(Record::Trace),
        RuleExpr::Dup { .. } | RuleExpr::Fwd { .. } | RuleExpr::Tproxy { .. } => Some(Record::Copy),
        RuleExpr::Queue(_) => Some(Record::Queue),
        RuleExpr::Dynset { op: DynsetOp::Add | DynsetOp::Update, .. }
        | RuleExpr::Connlimit { .. } => Some(Record::Remember),
        // Not read in full, which changes nothing about what it is.
        RuleExpr::Unknown { name, .. } => match name.as_str() {
            "log" => Some(Record::Log),
            "counter" | "quota" | "last" | "objref" => Some(Record::Count),
            "dup" | "fwd" | "tproxy" => Some(Record::Copy),
            "queue" => Some(Record::Queue),
            "dynset" | "connlimit" => Some(Record::Remember),
            name if HARMLESS.contains(&name) => None,
            _ => Some(Record::Unknown),
        },
        harmless if keeps_nothing(harmless) => None,
        _ => Some(Record::Unknown),
    }
}

/// Expressions, by their names, that decide about a packet or change it, and keep nothing of it.
const HARMLESS: [&str; 27] = [
    "bitwise",
    "byteorder",
    "cmp",
    "ct",
    "exthdr",
    "fib",
    "hash",
    "immediate",
    "inner",
    "limit",
    "lookup",
    "masq",
    "meta",
    "nat",
    "notrack",
    "numgen",
    "osf",
    "payload",
    "range",
    "redir",
    "reject",
    "rt",
    "socket",
    "synproxy",
    "tunnel",
    "verdict",
    "xfrm",
];

/// The same of those that were read in full.
fn keeps_nothing(expression: &RuleExpr) -> bool {
    matches!(
        expression,
        RuleExpr::Bitwise { .. }
            | RuleExpr::Byteorder { .. }
            | RuleExpr::Cmp { .. }
            | RuleExpr::Ct { .. }
            | RuleExpr::CtDirectional { .. }
            | RuleExpr::CtSet { .. }
            | RuleExpr::Dynset { op: DynsetOp::Delete, .. }
            | RuleExpr::Exthdr { .. }
            | RuleExpr::ExthdrSet { .. }
            | RuleExpr::Fib { .. }
            | RuleExpr::Hash { .. }
            | RuleExpr::Immediate { .. }
            | RuleExpr::Limit(_)
            | RuleExpr::Lookup { .. }
            | RuleExpr::Masq { .. }
            | RuleExpr::Meta { .. }
            | RuleExpr::MetaSet { .. }
            | RuleExpr::Nat { .. }
            | RuleExpr::Notrack
            | RuleExpr::Numgen { .. }
            | RuleExpr::Osf { .. }
            | RuleExpr::Payload { .. }
            | RuleExpr::PayloadSet { .. }
            | RuleExpr::Range { .. }
            | RuleExpr::Redir { .. }
            | RuleExpr::Reject { .. }
            | RuleExpr::Rt { .. }
            | RuleExpr::Socket { .. }
            | RuleExpr::Synproxy(_)
            | RuleExpr::Verdict(_)
    )
}

fn record_of_object(object: &ObjrefExpr) -> Option<Record> {
    match object {
        ObjrefExpr::Named {
            object_type: ObjectType::CtHelper | ObjectType::Limit | ObjectType::Secmark,
            ..
        } => None,
        _ => Some(Record::Count),
    }
}

fn record_of_extension(name: &str) -> Option<Record> {
    match name {
        // osf has a switch that writes each packet's addresses and system to the kernel's log.
        "LOG" | "NFLOG" | "ULOG" | "AUDIT" | "NETFLOW" | "osf" => Some(Record::Log),
        "TRACE" => Some(Record::Trace),
        "TEE" | "TPROXY" => Some(Record::Copy),
        "NFQUEUE" => Some(Record::Queue),
        "quota" | "connbytes" | "nfacct" | "rateest" | "RATEEST" | "IDLETIMER" | "ACCOUNT"
        | "bpf" => Some(Record::Count),
        "recent" | "hashlimit" | "connlimit" | "SET" | "set" => Some(Record::Remember),
        harmless if HARMLESS_EXTENSIONS.contains(&harmless) => None,
        _ => Some(Record::Unknown),
    }
}

/// Extensions of iptables that decide about a packet or change it, and keep nothing of it.
const HARMLESS_EXTENSIONS: [&str; 73] = [
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DNAT",
    "DNPT",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "MARK",
    "MASQUERADE",
    "NETMAP",
    "NOTRACK",
    "REDIRECT",
    "REJECT",
    "SECMARK",
    "SNAT",
    "SNPT",
    "SYNPROXY",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TOS",
    "TTL",
    "addrtype",
    "ah",
    "cgroup",
    "comment",
    "connlabel",
    "connmark",
    "conntrack",
    "cpu",
    "dccp",
    "devgroup",
    "dscp",
    "dst",
    "ecn",
    "esp",
    "eui64",
    "frag",
    "hbh",
    "helper",
    "hl",
    "icmp",
    "icmp6",
    "ipcomp",
    "iprange",
    "ipv6header",
    "ipvs",
    "length",
    "limit",
    "mac",
    "mark",
    "mh",
    "multiport",
    "owner",
    "physdev",
    "pkttype",
    "policy",
    "realm",
    "rpfilter",
    "rt",
    "sctp",
    "socket",
    "state",
    "statistic",
    "string",
    "tcp",
    "tcpmss",
    "time",
    "ttl",
    "u32",
];

fn judge(rules: &Rules, wanted: Record, finding: &mut Finding) {
    let mut found = 0;
    for rule in &rules.all {
        for expression in
            rule.expressions.iter().filter(|expression| record(expression) == Some(wanted))
        {
            found += 1;
            let text = rule.text.clone().unwrap_or_else(|| format!("{expression:?}"));
            finding.line(grade(wanted, rule), format!("{}: {text}", rule.place));
        }
    }
    let (rules, tables) = (rules.all.len(), rules.tables);
    finding.pass(format!("{found} of {rules} rules in {tables} tables"));
}

/// Packets to and from this host are not the tunnel's, and a number of them names nobody. What is unknown was not seen to
/// keep anything.
fn grade(wanted: Record, rule: &Rule) -> Verdict {
    let is_own_count = wanted == Record::Count && rule.way == Way::Own;
    if is_own_count || wanted == Record::Unknown { Verdict::Warn } else { Verdict::Fail }
}

fn judge_sets(rules: &Rules, finding: &mut Finding) {
    for KeepingSet { place, kept } in &rules.keeping_sets {
        if kept.is_empty() {
            finding.fail(format!("{place}: keeps something with each of its elements"));
        }
        for (what, elements) in kept {
            finding.fail(format!("{place}: keeps {what} with {elements} of its elements"));
        }
    }
}

fn judge_legacy(tables: &[LegacyTable], finding: &mut Finding) {
    for LegacyTable { name, rules } in tables {
        finding.expect(*rules == 0, format!("{name}: {rules} rules"));
    }
    finding.pass(format!("{} tables are in use", tables.len()));
}

fn judge_listeners(listeners: &[(&'static str, String)], finding: &mut Finding) {
    for (kind, table) in listeners {
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let (group, port) = (words.next().unwrap_or("?"), words.next().unwrap_or("?"));
            finding.fail(format!(
                "{kind} {group} is taken by port {port}, mostly the pid of its program"
            ));
        }
    }
    finding.pass("looked at the lists of NFLOG groups and NFQUEUE queues");
}

#[cfg(test)]
mod tests {
    use nlink::netlink::nftables::parse_expressions;

    use super::*;
    use crate::netlink;

    fn judged(wanted: Record, way: Way, expressions: Vec<RuleExpr>) -> Verdict {
        let rule = Rule { place: "inet t c".into(), way, expressions, text: None };
        let rules = Rules { tables: 1, all: vec![rule], ..Rules::default() };
        let mut finding = Finding::default();
        judge(&rules, wanted, &mut finding);
        finding.verdict()
    }

    #[test]
    fn extension_of_iptables_is_what_it_does() {
        assert_eq!(record_of_extension("NFLOG"), Some(Record::Log));
        assert_eq!(record_of_extension("TEE"), Some(Record::Copy));
        assert_eq!(record_of_extension("recent"), Some(Record::Remember));
        assert_eq!(record_of_extension("osf"), Some(Record::Log), "with --log");
        assert_eq!(record_of_extension("MASQUERADE"), None);
        assert_eq!(record_of_extension("conntrack"), None);
        assert_eq!(record_of_extension("spy"), Some(Record::Unknown));
    }

    #[test]
    fn what_nobody_knows_could_keep_something() {
        let named = |name: &str| {
            // NFTA_LIST_ELEM with NFTA_EXPR_NAME and nothing that could be read in full.
            let name = netlink::text_attribute(1, name);
            let mut element = ((4 + name.len()) as u16).to_ne_bytes().to_vec();
            element.extend(1_u16.to_ne_bytes());
            element.extend(name);
            parse_expressions(&element).remove(0)
        };
        for (name, kept) in [
            ("cmp", None),
            ("xfrm", None),
            ("last", Some(Record::Count)),
            ("flow_offload", Some(Record::Unknown)),
            ("spy", Some(Record::Unknown)),
        ] {
            assert_eq!(record(&named(name)), kept, "{name}");
        }
        assert_eq!(judged(Record::Unknown, Way::Through, vec![named("spy")]), Verdict::Warn);
    }

    #[test]
    fn notrack_and_masquerade_record_nothing() {
        for wanted in [
            Record::Log,
            Record::Count,
            Record::Trace,
            Record::Copy,
            Record::Queue,
            Record::Remember,
            Record::Unknown,
        ] {
            assert_eq!(judged(wanted, Way::Through, vec![RuleExpr::Notrack]), Verdict::Pass);
        }
    }

    #[test]
    fn number_of_the_hosts_own_packets_is_no_violation() {
        let object = ObjrefExpr::Named { object_type: ObjectType::Counter, name: "n".into() };
        let counting = vec![RuleExpr::Objref(object)];
        assert_eq!(judged(Record::Count, Way::Own, counting.clone()), Verdict::Warn);
        assert_eq!(judged(Record::Count, Way::Through, counting), Verdict::Fail);
    }

    #[test]
    fn rule_of_the_older_iptables_is_a_violation() {
        let verdict = |rules| {
            let mut finding = Finding::default();
            judge_legacy(&[LegacyTable { name: "iptables filter".into(), rules }], &mut finding);
            finding.verdict()
        };
        assert_eq!(verdict(0), Verdict::Pass);
        assert_eq!(verdict(1), Verdict::Fail);
    }

    #[test]
    fn bound_group_is_a_violation() {
        let verdict = |table: &str| {
            let mut finding = Finding::default();
            judge_listeners(&[("NFLOG group", table.into())], &mut finding);
            finding.verdict()
        };
        assert_eq!(verdict(""), Verdict::Pass);
        assert_eq!(verdict("    5   4711     0 2 65535 100  1\n"), Verdict::Fail);
    }
}
