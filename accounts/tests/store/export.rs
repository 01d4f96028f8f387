//! What a customer is shown of everything that is held about them.

use std::collections::BTreeSet;

use serde_json::Value;
use tacit_accounts::{
    AccountId, DataKind, Deed, Kept, Reader, SessionChange, StoreError, export::Document, inventory,
};

use crate::{Fixture, NOW, email, inventory::one_of_everything, ip, later};

/// Where the customer sees what a column holds, or why not.
enum Shown {
    /// At this place of the export's JSON.
    At(&'static str),
    /// Not at all, because of this.
    Not(&'static str),
}

use Shown::{At, Not};

const REFERENCE: Shown = Not("says only which account a row is of, all of which is in its export");
const NUMBER: Shown = Not("numbers rows, and nobody gets to see the number");
const HASH: Shown = Not("is made of what is shown");
const WAITS: Shown = Not("is of somebody who is no customer yet, or says how far a letter is");
const SECRET: Shown = Not("is a secret that the customer has and nobody is shown");
const STAFF: Shown = Not("is data of a member of the staff");

/// Every column that holds something of a customer.
const PERSONAL: &[(&str, Shown)] = &[
    ("accounts.id", At("/account")),
    ("accounts.email", At("/email")),
    ("accounts.email_hash", HASH),
    ("accounts.confirmation", At("/confirmation")),
    ("accounts.created_at", At("/confirmed_at")),
    ("accounts.service_until", At("/services/0/ends_at")),
    ("accounts.password", At("/password")),
    ("accounts.epoch", NUMBER),
    ("accounts.cancelled_at", At("/cancelled_at")),
    ("services.account_id", REFERENCE),
    ("services.name", At("/services/0/name")),
    ("services.ends_at", At("/services/0/ends_at")),
    ("pending_addresses.token_hash", HASH),
    ("pending_addresses.account_id", REFERENCE),
    ("pending_addresses.email", At("/email_to_be_confirmed")),
    ("pending_addresses.password", WAITS),
    ("pending_addresses.confirmation", WAITS),
    ("pending_addresses.requested_at", WAITS),
    ("codes.code_hash", Not("is of nobody: a redeemed code's row goes")),
    ("archive.id", NUMBER),
    ("archive.account_id", REFERENCE),
    ("archive.kind", At("/former_values/0/kind")),
    ("archive.value", At("/former_values/0/value")),
    ("archive.reason", At("/former_values/0/reason")),
    ("archive.archived_at", At("/former_values/0/archived_at")),
    ("archive.keep_until", At("/former_values/0/keep_until")),
    ("consents.id", NUMBER),
    ("consents.account_id", REFERENCE),
    ("consents.recipient", At("/consents/0/recipient")),
    ("consents.given_at", At("/consents/0/given_at")),
    ("consents.withdrawn_at", At("/consents/0/withdrawn_at")),
    ("staff_log.number", NUMBER),
    ("staff_log.at", At("/seen_by_staff/0/at")),
    ("staff_log.uid", STAFF),
    ("staff_log.verb", At("/seen_by_staff/0/verb")),
    ("staff_log.account_id", REFERENCE),
    ("staff_log.data", At("/seen_by_staff/0/data")),
    ("staff_log.hash", HASH),
    ("disclosures.number", NUMBER),
    ("disclosures.at", At("/disclosures/0/made_at")),
    ("disclosures.uid", STAFF),
    ("disclosures.account_id", REFERENCE),
    ("disclosures.basis", At("/disclosures/0/basis")),
    ("disclosures.reference", At("/disclosures/0/reference")),
    ("disclosures.recipient", At("/disclosures/0/recipient")),
    ("disclosures.secret_until", Not("is over before the disclosure is shown")),
    ("disclosures.content_hash", At("/disclosures/0/sha256")),
    ("disclosures.hash", HASH),
    ("chains.state", HASH),
    ("devices.id", NUMBER),
    ("devices.account_id", REFERENCE),
    ("devices.name", At("/devices/0/name")),
    ("devices.public_key", At("/devices/0/public_key")),
    ("devices.preshared_key", SECRET),
    ("devices.address_offset", At("/devices/0/tunnel_v4")),
    ("devices.created_at", At("/devices/0/key_since")),
    ("rotated_devices.former_id", NUMBER),
    ("rotated_devices.device_id", NUMBER),
    ("sessions.gateway_id", Not("numbers a gateway, until it has said when the session ended")),
    ("sessions.id", NUMBER),
    ("sessions.account_id", REFERENCE),
    ("sessions.device_id", At("/sessions/0/device")),
    ("sessions.connecting_ip", At("/sessions/0/connecting_ip")),
    ("sessions.began_at", At("/sessions/0/began_at")),
    ("sessions.ended_at", At("/sessions/0/ended_at")),
    ("rules_acceptances.account_id", REFERENCE),
    ("rules_acceptances.version", At("/rules/0/version")),
    ("rules_acceptances.accepted_on", At("/rules/0/accepted_on")),
    ("letters.id", NUMBER),
    ("letters.kind", WAITS),
    ("letters.account_id", REFERENCE),
    ("letters.rules_version", At("/rules/0/version")),
    ("letters.content", WAITS),
    ("letters.message_id", NUMBER),
    ("letters.queued_at", At("/rules/0/letter_written_at")),
    ("letters.state", At("/rules/0/letter_sent_at")),
    ("letters.state_since", At("/rules/0/letter_sent_at")),
    ("letters.due_at", WAITS),
    ("letters.gateway_id", WAITS),
    ("letters.attempts", WAITS),
    ("letters.held", WAITS),
    ("letters.reply_code", WAITS),
];

/// Everything that can be held about a customer: the account, and what is in its export before and after it is cancelled.
async fn export_of_everything() -> Vec<(Value, String)> {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    one_of_everything(&fixture).await;
    let account = AccountId(1);
    store.session_ended(store.devices(account).await.unwrap()[0].id, later(60)).await.unwrap();
    let term = tacit_accounts::Term::DaysFromNow(30);
    store.grant(account, &tacit_accounts::ServiceName::default(), term, NOW).await.unwrap();
    store.begin_email_change(account, &email("ann@example.com"), NOW).await.unwrap();
    let consent = store.consents(account).await.unwrap().remove(0).id;
    store.withdraw_consent(account, consent, later(60)).await.unwrap();
    let look = Deed::on(account, "account show", &[DataKind::Email]);
    store.for_staff(7).note_look(look, NOW).await.unwrap();
    for sql in [
        "INSERT INTO rules (version, published_at, effective_at, significant, summary, body)
         VALUES (1, 1, 1, 1, 'x', 'y')",
        "INSERT INTO rules_acceptances (account_id, version, accepted_on) VALUES (1, 1, 1790000000)",
        "INSERT INTO letters (kind, account_id, rules_version, queued_at, state, state_since, due_at, attempts)
         VALUES ('rules-change', 1, 1, 1, 'sent', 2, 1, 0)",
    ] {
        fixture.execute(sql).await;
    }
    let export = async || {
        let export = store.export(account, Reader::Customer, later(90)).await.unwrap();
        (serde_json::from_str(&export.json()).unwrap(), export.text().to_string())
    };
    let before = export().await;
    store.cancel_account(account, later(80)).await.unwrap();
    vec![before, export().await]
}

/// More sessions than are read at a time, many of which began at the same moment.
async fn flap(fixture: &Fixture, account: AccountId) {
    let device = fixture.store.devices(account).await.unwrap()[0].id;
    let began = |number: u64| SessionChange::Began {
        device,
        connecting_ip: ip("192.0.2.9"),
        at: later(60 + number / 300),
    };
    let changes: Vec<_> = (0..1200).map(began).collect();
    fixture.store.session_recorder().await.unwrap().record(&changes, later(90)).await.unwrap();
}

/// Has the staff look at the account, and disclose something of it.
async fn look(fixture: &Fixture, account: AccountId, count: u64) {
    for number in 0..count {
        let verb = if number % 2 == 0 { "account show" } else { "disclosure make" };
        let look = Deed::on(account, verb, &[DataKind::Email]);
        fixture.store.for_staff(7).note_look(look, later(number)).await.unwrap();
    }
}

#[tokio::test]
async fn excerpt_has_the_latest_of_each_list_and_says_how_many_there_are() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    let account = AccountId(1);
    flap(&fixture, account).await;
    look(&fixture, account, 60).await;
    let export = fixture.store.export(account, Reader::Customer, later(90)).await.unwrap();
    let export: Value = serde_json::from_str(&export.json()).unwrap();
    let excerpt = fixture.store.excerpt(account, later(90)).await.unwrap();
    let excerpt = serde_json::to_value(&excerpt).unwrap();
    let lists = ["sessions", "former_values", "rules", "consents", "disclosures", "seen_by_staff"];
    for (list, most) in lists.into_iter().zip([100, 20, 20, 20, 20, 20]) {
        let all = export[list].as_array().unwrap();
        let latest: Vec<_> = all.iter().rev().take(most).cloned().collect();
        assert_eq!(excerpt[list]["shown"], Value::Array(latest), "{list}");
        assert_eq!(excerpt[list]["count"], all.len(), "{list}");
    }
    assert_eq!(excerpt["sessions"]["count"], 1201);
    assert!(excerpt["seen_by_staff"]["count"].as_u64() >= Some(30));
    for list in ["former_values", "consents", "disclosures"] {
        assert!(excerpt[list]["count"].as_u64() >= Some(1), "{list}");
    }
    assert_eq!((&excerpt["email"], &excerpt["devices"]), (&export["email"], &export["devices"]));
}

#[tokio::test]
async fn document_in_pieces_says_what_the_export_says() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    let account = AccountId(1);
    flap(&fixture, account).await;
    look(&fixture, account, 1100).await;
    let kept = Kept::new(1, 2, 3);
    let mut document = Document::new(fixture.store.clone(), account, kept, later(90));
    let (mut text, mut largest) = (String::new(), 0);
    while let Some(piece) = document.piece().await.unwrap() {
        largest = largest.max(piece.len());
        text.push_str(&piece);
    }
    assert!(largest < 128 * 1024, "{largest} bytes at once of {}", text.len());
    let document: Value = serde_json::from_str(&text).unwrap();
    let export = fixture.store.export(account, Reader::Customer, later(90)).await.unwrap();
    let export: Value = serde_json::from_str(&export.with_kept(kept).json()).unwrap();
    assert_eq!(document, export);
    assert_eq!(document["sessions"].as_array().unwrap().len(), 1201);
}

#[tokio::test]
async fn document_of_nobody_is_refused() {
    let fixture = Fixture::new().await;
    let kept = Kept::new(1, 2, 3);
    let mut document = Document::new(fixture.store.clone(), AccountId(7), kept, NOW);
    assert!(matches!(document.piece().await, Err(StoreError::NoSuchAccount)));
}

#[test]
fn it_is_decided_for_each_personal_column_what_a_customer_sees() {
    let tables = inventory().into_iter();
    let personal: BTreeSet<String> = tables
        .flat_map(|(table, columns)| {
            let columns = columns.into_iter().filter(|(_, column)| column.clause.is_some());
            columns.map(move |(name, _)| format!("{table}.{name}")).collect::<Vec<_>>()
        })
        .collect();
    let decided: BTreeSet<String> = PERSONAL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(decided, personal);
    let reasons = PERSONAL.iter().filter_map(|(_, shown)| match shown {
        At(_) => None,
        Not(reason) => Some(reason),
    });
    assert!(reasons.into_iter().all(|reason| !reason.is_empty()));
}

#[tokio::test]
async fn clause_3_each_personal_column_is_in_the_export_in_json_and_in_text() {
    let exports = export_of_everything().await;
    for (column, shown) in PERSONAL {
        let At(place) = shown else { continue };
        let seen = exports.iter().find_map(|(json, text)| {
            let value = json.pointer(place).filter(|value| !value.is_null())?;
            let words = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((text.contains(&words), words))
        });
        let Some((is_in_text, words)) = seen else { panic!("{column}: nothing at {place}") };
        assert!(is_in_text, "{column}: {words:?} is not in the text");
    }
}
