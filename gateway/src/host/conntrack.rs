//! What the kernel's connection tracking remembers of tunnel addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use nlink::netlink::netfilter::ConntrackFilter;
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
        // An entry that stays runs out by itself; a session's end waits for nothing.
        let _ = netfilter.flush_conntrack_matching(&filter).await;
    }
}
