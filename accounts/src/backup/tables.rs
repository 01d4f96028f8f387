//! The tables of a backup, each after those that it refers to.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AnyConnection;

use crate::{StoreError, database::Kind};

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What its rows are ordered by.
    pub(super) key: &'static str,
}

const fn table(name: &'static str, key: &'static str) -> Table {
    Table { name, key }
}

/// The data keys come first, so that a wrong key is found before much is read.
pub(super) const DATA_KEYS: &str = "data_keys";

pub(super) const TABLES: &[Table] = &[
    table(DATA_KEYS, "id"),
    table("accounts", "id"),
    table("services", "account_id, name"),
    table("pending_addresses", "id"),
    table("codes", "id"),
    table("archive", "id"),
    table("consents", "id"),
    table("chains", "id"),
    table("staff_log", "number"),
    table("disclosures", "number"),
    table("devices", "id"),
    table("rotated_devices", "former_id"),
    table("sessions", "id"),
    table("tunnel_pool", "id"),
    table("freed_addresses", "address_offset"),
    table("gateway", "id"),
    table("gateways", "id"),
    table("rules", "version"),
    table("rules_acceptances", "account_id, version"),
    table("letters", "id"),
];

/// The table of this name.
pub(super) fn find(name: &str) -> Option<Table> {
    TABLES.iter().copied().find(|table| table.name == name)
}

/// The columns of each table that the database has.
pub(super) async fn live(
    kind: Kind,
    connection: &mut AnyConnection,
) -> Result<BTreeMap<String, BTreeSet<String>>, StoreError> {
    let columns: Vec<(String, String)> =
        sqlx::query_as(kind.columns()).fetch_all(connection).await?;
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (table, column) in columns {
        tables.entry(table).or_default().insert(column);
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::inventory;

    /// Tables that come with the database or the library, not with the data.
    const NOT_DATA: [&str; 2] = ["_sqlx_migrations", "sqlite_sequence"];

    #[test]
    fn every_table_of_the_inventory_is_in_a_backup() {
        let mut listed: BTreeSet<String> = inventory().into_keys().collect();
        listed.retain(|name| !NOT_DATA.contains(&name.as_str()));
        let backed_up: BTreeSet<String> = TABLES.iter().map(|table| table.name.into()).collect();
        assert_eq!(backed_up, listed);
        assert_eq!(backed_up.len(), TABLES.len());
    }
}
