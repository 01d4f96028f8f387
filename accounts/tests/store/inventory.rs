use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::Fixture;

/// What the inventory says of a column.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    what: String,
    clause: String,
    sealed: bool,
    kept: String,
}

type Inventory = BTreeMap<String, BTreeMap<String, Column>>;

fn inventory() -> Inventory {
    toml::from_str(include_str!("../../inventory.toml")).unwrap()
}

#[tokio::test]
async fn inventory_lists_exactly_the_columns_that_there_are() {
    let fixture = Fixture::new().await;
    let live: Vec<(String, String)> = sqlx::query_as(
        "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_xinfo(tables.name) AS columns
         WHERE tables.type IN ('table', 'view')",
    )
    .fetch_all(&mut fixture.database().await)
    .await
    .unwrap();
    let listed = inventory().into_iter().flat_map(|(table, columns)| {
        columns.into_keys().map(move |column| (table.clone(), column)).collect::<Vec<_>>()
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), live.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn every_column_is_explained() {
    for (table, columns) in inventory() {
        for (name, column) in columns {
            assert!(!column.what.is_empty() && !column.kept.is_empty(), "{table}.{name}");
            let clause = column.clause.parse::<u8>().is_ok_and(|clause| (1..=12).contains(&clause));
            assert!(clause || column.clause == "none", "{table}.{name}");
            assert!(!column.sealed, "{table}.{name}: nothing is sealed yet");
        }
    }
}
