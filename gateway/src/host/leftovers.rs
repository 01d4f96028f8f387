//! Undoing: after an orderly end, and what a killed predecessor left.

use super::firewall::Firewall;
use super::record::Record;
use super::sysctls::{self, Change};
use super::{HostSettings, conntrack, links};

/// Takes over what is left of a killed predecessor, and returns what the host was like before it.
///
/// The table of the same name stays until the new one replaces it. A predecessor that was killed under another
/// interface name has its table removed; what it switched on is this gateway's to put back.
pub(super) async fn take_over(settings: &HostSettings, firewall: &Firewall) -> Vec<Change> {
    let mut known = Vec::new();
    if let Some(record) = Record::load(settings) {
        let is_renamed = record.interface != settings.interface;
        if is_renamed && links::exists(&record.interface).await.is_ok_and(|exists| !exists) {
            firewall.remove(&record.table).await;
        }
        known = record.changes;
    }
    for change in firewall.former().await {
        if known.iter().all(|other| other.key != change.key) {
            known.push(change);
        }
    }
    known
}

/// Leaves the namespace as it was before `record`: the device, the table, and the switches unless another gateway
/// still needs them, which then puts them back itself.
pub(super) async fn undo(settings: &HostSettings, firewall: &Firewall, record: &Record) {
    conntrack::forget_networks(&settings.tunnel_networks()).await;
    firewall.remove(firewall.table()).await;
    if !firewall.has_living_gateway().await {
        sysctls::restore(&record.changes);
    }
    Record::remove(settings);
}
