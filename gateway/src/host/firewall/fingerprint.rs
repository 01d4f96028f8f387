//! What the firewall table is, in one number, so that a change shows.

use std::fmt::Write;

use nlink::netlink::nftables::Family;
use nlink::netlink::{Connection, Nftables};

use super::table_name;
use crate::program::sha256_of;

/// SHA-256 over the chains and rules of the table of `interface`, as the kernel lists them; none without a table.
///
/// # Errors
/// If the kernel does not list them.
pub(crate) async fn firewall_fingerprint(interface: &str) -> nlink::Result<Option<String>> {
    let nftables = Connection::<Nftables>::new()?;
    let table = table_name(interface);
    let tables = nftables.list_tables_in(Family::Inet).await?;
    if tables.iter().all(|other| other.name != table) {
        return Ok(None);
    }
    let mut text = String::new();
    let mut chains = nftables.list_chains_in(table.as_str(), Family::Inet).await?;
    chains.sort_by(|one, other| one.name.cmp(&other.name));
    for chain in &chains {
        let (hook, priority, policy) = (chain.hook, chain.priority, chain.policy);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {hook:?} {priority:?} {policy:?}", chain.name);
    }
    for rule in nftables.list_rules(&table, Family::Inet).await? {
        let _ = writeln!(text, "{} {:?}", rule.chain, rule.expression_bytes);
    }
    Ok(Some(sha256_of(text.as_bytes())))
}
