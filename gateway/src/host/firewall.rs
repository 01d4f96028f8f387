//! The gateway's own nftables table: what devices may reach, who may reach them, and address translation.
//!
//! The table is made and replaced in one batch, so there is no moment with half of it. Other tables are neither
//! read nor touched, except that the comments of other gateways' tables are read: a table's comment holds the
//! [`Change`]s of its gateway, so that a second gateway of the namespace, or the next one after a crash, knows
//! what the host was like before the first. No rule counts, logs, traces or copies a packet.
//!
//! Where the kernel can (Linux 6.9), the table belongs to this process: nobody else's `nft flush ruleset` takes it
//! away from under the tunnel. It still stays when the process dies, so that no packet leaves unfiltered.

mod fingerprint;
mod former;
mod rules;

use nlink::netlink::nftables::{Chain, Family, NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST, Table};
use nlink::netlink::{Connection, Nftables};

pub(crate) use fingerprint::firewall_fingerprint;

use super::sysctls::Change;
use super::{HostError, HostSettings};

/// The interface whose table is plainly called `tacit`.
const DEFAULT_INTERFACE: &str = "tacit0";

/// A hold on this namespace's tables, and on one of them by name.
pub(super) struct Firewall {
    nftables: Connection<Nftables>,
    table: String,
}

/// Name of the table that belongs to `interface`: two gateways never share one.
pub(crate) fn table_name(interface: &str) -> String {
    if interface == DEFAULT_INTERFACE {
        return "tacit".into();
    }
    format!("tacit_{interface}")
}

impl Firewall {
    /// Opens nftables for the table of `interface`, and changes nothing.
    ///
    /// # Errors
    /// [`HostError::NoNftables`].
    pub(super) async fn open(interface: &str) -> Result<Self, HostError> {
        let nftables = Connection::<Nftables>::new().map_err(HostError::NoNftables)?;
        nftables.list_tables_in(Family::Inet).await.map_err(HostError::NoNftables)?;
        Ok(Self { nftables, table: table_name(interface) })
    }

    /// Name of the table.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Puts the table in place, instead of one of that name that a killed predecessor left.
    ///
    /// # Errors
    /// [`HostError::InterfaceExists`] if a living gateway has the table, [`HostError::Firewall`].
    pub(super) async fn install(
        &self,
        settings: &HostSettings,
        changes: &[Change],
    ) -> Result<(), HostError> {
        let owned = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;
        let mut committed = self.commit(settings, changes, owned).await;
        if committed.as_ref().is_err_and(|error| error.is_not_supported() || is_invalid(error)) {
            committed = self.commit(settings, changes, 0).await;
        }
        let Err(source) = committed else { return Ok(()) };
        if source.is_permission_denied() && self.is_installed().await {
            return Err(HostError::InterfaceExists(settings.interface.clone()));
        }
        if source.is_permission_denied() {
            return Err(HostError::NoNetAdmin);
        }
        Err(HostError::Firewall { table: self.table.clone(), source })
    }

    async fn commit(
        &self,
        settings: &HostSettings,
        changes: &[Change],
        flags: u32,
    ) -> nlink::Result<()> {
        let mut batch = self.nftables.transaction();
        if self.is_installed().await {
            batch = batch.del_table(&self.table, Family::Inet);
        }
        let comment = former::encode(changes);
        let comment = Some(comment.as_str()).filter(|comment| !comment.is_empty());
        batch = batch.add_table_with_comment(&self.table, Family::Inet, flags, comment);
        for chain in rules::chains(&self.table, settings) {
            let made = Chain::new(self.table.as_str(), chain.name)?;
            batch = batch.add_chain(made.family(Family::Inet).base(chain.base));
            batch = chain.rules.into_iter().fold(batch, |batch, rule| batch.add_rule(rule));
        }
        batch.commit(&self.nftables).await
    }

    /// Whether the table is there.
    pub(super) async fn is_installed(&self) -> bool {
        self.gateway_tables().await.iter().any(|table| table.name == self.table)
    }

    /// Removes the table of that name, if it is there and is nobody else's.
    pub(super) async fn remove(&self, table: &str) {
        let _ = self.nftables.del_table_if_exists(table, Family::Inet).await;
    }

    /// What the tables of all gateways in this namespace, living or dead, say that the host was like before.
    pub(super) async fn former(&self) -> Vec<Change> {
        let tables = self.gateway_tables().await;
        let comments = tables.iter().filter_map(|table| table.comment.as_deref());
        comments.flat_map(former::decode).collect()
    }

    /// Whether a gateway is left in this namespace, this one's table being removed.
    pub(super) async fn has_living_gateway(&self) -> bool {
        !self.gateway_tables().await.iter().all(is_orphan)
    }

    async fn gateway_tables(&self) -> Vec<Table> {
        let mut tables = self.nftables.list_tables_in(Family::Inet).await.unwrap_or_default();
        tables.retain(|table| table.name == "tacit" || table.name.starts_with("tacit_"));
        tables
    }
}

/// Whether the process that owned the table is gone. Without ownership (before Linux 6.9) nobody can tell.
fn is_orphan(table: &Table) -> bool {
    table.flags & (NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST) == NFT_TABLE_F_PERSIST
}

fn is_invalid(error: &nlink::Error) -> bool {
    error.errno() == Some(libc::EINVAL)
}
