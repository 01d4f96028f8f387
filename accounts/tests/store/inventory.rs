use sqlx::{AnyConnection, AssertSqlSafe, Row};
use tacit_accounts::{
    Basis, Confirmation, DisclosureRequest, Inspection, Line, Password, PasswordHasher, inventory,
};
use tacit_keys::data_key::sealing_key;

use crate::{Fixture, NOW, add_device, data_keys, email, ip};

#[tokio::test]
async fn clause_3_store_has_the_columns_of_the_inventory_and_no_other() {
    let fixture = Fixture::new().await;
    let inspection = Inspection::of(&fixture.path, NOW, NOW, NOW).await.unwrap();
    assert_eq!(inspection.listed_columns(), inspection.columns);
    assert_eq!(inspection.programs, []);
}

#[tokio::test]
async fn clause_4_session_has_no_room_for_what_a_customer_does() {
    let fixture = Fixture::new().await;
    let inspection = Inspection::of(&fixture.path, NOW, NOW, NOW).await.unwrap();
    let sessions = inspection.columns.iter().filter(|(table, _)| table == "sessions");
    let sessions: Vec<_> = sessions.map(|(_, column)| column.as_str()).collect();
    assert_eq!(
        sessions,
        ["account_id", "began_at", "connecting_ip", "device_id", "ended_at", "gateway_id", "id"]
    );
    let all = inventory();
    assert!(all.values().flat_map(|table| table.values()).all(|column| column.clause != Some(4)));
}

#[tokio::test]
async fn clause_5_no_column_is_about_money() {
    let fixture = Fixture::new().await;
    let inspection = Inspection::of(&fixture.path, NOW, NOW, NOW).await.unwrap();
    let all = inventory();
    for (table, column) in &inspection.columns {
        let what = &all[table][column].what;
        let text = format!("{table} {column} {what}").to_lowercase();
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        let money = [
            "pay", "paid", "payer", "payment", "payments", "card", "bank", "iban", "price",
            "amount", "currency", "invoice",
        ];
        assert!(!words.any(|word| money.contains(&word)), "{text}");
    }
}

/// Fills every column that is sealed.
pub(crate) async fn one_of_everything(fixture: &Fixture) {
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
    store.post_trial(&email("boss@example.org"), NOW).await.unwrap();
}

/// How many values of a column there are, and how many of them are in the form of a sealed one.
async fn count_sealed(database: &mut AnyConnection, table: &str, column: &str) -> (usize, usize) {
    let sql = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
    let Ok(rows) = sqlx::query(AssertSqlSafe(sql)).fetch_all(database).await else {
        // A time or a truth of the library's, which no sealed value is.
        return (0, 0);
    };
    let key = data_keys(7).current().id();
    let values = rows.iter().filter_map(|row| row.try_get::<Vec<u8>, _>(0).ok());
    let sealed = values.filter(|value| sealing_key(value) == Some(key)).count();
    (rows.len(), sealed)
}

#[tokio::test]
async fn values_are_sealed_where_the_inventory_says_so_and_nowhere_else() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    let mut database = fixture.database().await;
    for (table, columns) in inventory() {
        for (name, column) in columns {
            let (count, sealed) = count_sealed(&mut database, &table, &name).await;
            assert!(count > 0 || !column.sealed, "{table}.{name}: nothing to see");
            assert_eq!(sealed, if column.sealed { count } else { 0 }, "{table}.{name}");
        }
    }
}
