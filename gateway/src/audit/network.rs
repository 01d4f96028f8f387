//! What `/proc` says of the gateway's network namespace.

use std::collections::BTreeMap;

use super::{
    legacy::{self, LegacyTable},
    reading::{self, Reading},
};

/// The texts of `/proc/net` and the switches of `/proc/sys/net`.
pub(super) struct Network {
    /// `udp` and `udp6`, if there is IPv6.
    pub(super) udp: Reading<String>,
    /// `raw` and `raw6`, if there is IPv6.
    pub(super) raw: Reading<String>,
    /// `unix`.
    pub(super) unix: Reading<String>,
    /// `packet`.
    pub(super) packet: Reading<String>,
    /// `netlink`.
    pub(super) netlink: Reading<String>,
    /// Tables of the older iptables.
    pub(super) legacy_tables: Reading<Vec<LegacyTable>>,
    /// What is bound to NFLOG groups and NFQUEUE queues.
    pub(super) packet_listeners: Reading<Vec<(&'static str, String)>>,
    /// Values of switches by key; none where the kernel does not have one.
    pub(super) switches: BTreeMap<String, Reading<Option<String>>>,
}

impl Network {
    /// Reads the network namespace of this process.
    pub(super) fn read() -> Self {
        Self {
            udp: both_families("udp"),
            raw: both_families("raw"),
            unix: reading::text("/proc/net/unix"),
            packet: reading::text("/proc/net/packet"),
            netlink: reading::text("/proc/net/netlink"),
            legacy_tables: legacy::tables(),
            packet_listeners: packet_listeners(),
            switches: switches(),
        }
    }
}

/// The table of both families' sockets of a kind; a kernel without IPv6 has the first only.
fn both_families(kind: &str) -> Reading<String> {
    let table = reading::text(format!("/proc/net/{kind}"))?;
    let other = reading::text_if_there(format!("/proc/net/{kind}6"))?.unwrap_or_default();
    Ok(table + &other)
}

fn packet_listeners() -> Reading<Vec<(&'static str, String)>> {
    let lists = [
        ("NFLOG group", "/proc/net/netfilter/nfnetlink_log"),
        ("NFQUEUE queue", "/proc/net/netfilter/nfnetlink_queue"),
    ];
    let read = |(kind, path)| Ok((kind, reading::text_if_there(path)?.unwrap_or_default()));
    lists.into_iter().map(read).collect()
}

/// Switches that are the same for all interfaces.
const SWITCHES: [&str; 6] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
    "net/netfilter/nf_conntrack_acct",
    "net/netfilter/nf_conntrack_log_invalid",
    "net/netfilter/nf_conntrack_timestamp",
];

fn switches() -> BTreeMap<String, Reading<Option<String>>> {
    let interfaces = reading::directory("/proc/sys/net/ipv4/conf").unwrap_or_default();
    let names = interfaces.iter().filter_map(|interface| interface.file_name()?.to_str());
    let martians = names.map(|name| format!("net/ipv4/conf/{name}/log_martians"));
    let keys = SWITCHES.into_iter().map(str::to_owned).chain(martians);
    let read = |key: String| {
        let value = reading::text_if_there(format!("/proc/sys/{key}"));
        (key, value.map(|value| value.map(|value| value.trim().to_owned())))
    };
    keys.map(read).collect()
}
