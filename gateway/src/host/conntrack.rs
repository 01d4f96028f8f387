//! What the kernel's connection tracking remembers of tunnel addresses.
//!
//! An entry names a device's address and where it connected to. It outlives neither the session nor the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nlink::netlink::netfilter::{ConntrackEntry, ConntrackFilter};
use nlink::netlink::{Connection, Netfilter};

/// Deletes the kernel's entries of a device's tunnel addresses, as far as the kernel lets it.
pub(crate) async fn forget(v4: Ipv4Addr, v6: Ipv6Addr) {
    let Ok(netfilter) = Connection::<Netfilter>::new() else { return };
    let filters = [
        ConntrackFilter::new().orig_src(v4),
        ConntrackFilter::new().orig_dst(v4),
        ConntrackFilter::new().orig_src(v6),
        ConntrackFilter::new().orig_dst(v6),
    ];
    for filter in filters {
        // An entry that stays runs out by itself; nothing waits for it.
        let _ = netfilter.flush_conntrack_matching(&filter).await;
    }
}

/// Deletes the kernel's entries of all tunnel addresses, as far as the kernel lets it.
pub(super) async fn forget_networks(networks: &[IpNet]) {
    let Ok(netfilter) = Connection::<Netfilter>::new() else { return };
    let mut entries = netfilter.get_conntrack().await.unwrap_or_default();
    entries.extend(netfilter.get_conntrack_v6().await.unwrap_or_default());
    for entry in entries.iter().filter(|entry| touches(entry, networks)) {
        let _ = netfilter.del_conntrack_entry(entry).await;
    }
}

fn touches(entry: &ConntrackEntry, networks: &[IpNet]) -> bool {
    let is_within = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
    [entry.orig.src_ip, entry.orig.dst_ip].iter().flatten().any(is_within)
}
