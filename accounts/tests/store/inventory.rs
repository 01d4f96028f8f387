use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, SqliteConnection};
use tacit_accounts::{
    Basis, Confirmation, DisclosureRequest, Line, Password, PasswordHasher, inventory,
};
use tacit_keys::data_key::sealing_key;

use crate::{Fixture, NOW, add_device, data_keys, email, ip};

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

/// Fills every column that is sealed.
async fn one_of_everything(fixture: &Fixture) {
    let store = &fixture.store;
    let account = fixture.account().await;
    let device = add_device(store, account, "phone").await.unwrap();
    store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    store.change_email(account, &email("ann@example.net"), NOW).await.unwrap();
    let password = Password::new("thimble-orbit-canvas-7").unwrap();
    let hashed = PasswordHasher::new().hash(&password).await.unwrap();
    store.set_password(account, &hashed, NOW).await.unwrap();
    let confirmation = Confirmation::OfAge;
    store.begin_registration(&email("b@example.org"), &hashed, confirmation, NOW).await.unwrap();
    let recipient: Line = "a notary".parse().unwrap();
    store.give_consent(account, &recipient, NOW).await.unwrap();
    let (basis, reference) = (Basis::Consent, recipient.clone());
    let request = DisclosureRequest { account, basis, reference, recipient, secret_until: None };
    store.for_staff(7).disclose(&request, NOW).await.unwrap();
}

/// How many values of a column there are, and how many of them are in the form of a sealed one.
async fn count_sealed(
    database: &mut SqliteConnection,
    table: &str,
    column: &str,
) -> (usize, usize) {
    let sql = format!("SELECT {column} FROM {table} WHERE typeof({column}) = 'blob'");
    let values: Vec<Vec<u8>> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *database).await.unwrap();
    let sql = format!("SELECT COUNT({column}) FROM {table}");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(database).await.unwrap();
    let key = data_keys(7).current().id();
    let sealed = values.iter().filter(|value| sealing_key(value) == Some(key)).count();
    (usize::try_from(count).unwrap(), sealed)
}

#[tokio::test]
async fn values_are_sealed_where_the_inventory_says_so_and_nowhere_else() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    fixture.store.post_trial(&email("boss@example.org"), NOW).await.unwrap();
    let mut database = fixture.database().await;
    for (table, columns) in inventory() {
        for (name, column) in columns {
            let (count, sealed) = count_sealed(&mut database, &table, &name).await;
            assert!(count > 0 || !column.sealed, "{table}.{name}: nothing to see");
            assert_eq!(sealed, if column.sealed { count } else { 0 }, "{table}.{name}");
        }
    }
}
