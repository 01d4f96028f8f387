use tacit_accounts::{
    AccountId, Basis, DataKind, Deed, DisclosureRequest, Door, Reader, StoreError, Term,
};

use super::{DAY, STAFF, line, registered};
use crate::{Fixture, NOW, add_device, email, ip, later};

#[tokio::test]
async fn clause_2_disclosure_needs_a_consent_that_holds() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let staff = store.for_staff(STAFF);
    let request = DisclosureRequest {
        account,
        basis: Basis::Consent,
        reference: line("letter of 3 May"),
        recipient: line("Dr. Who, notary"),
        secret_until: None,
    };
    let refused = || async {
        let refused = staff.disclose(&request, NOW).await;
        assert!(matches!(refused, Err(StoreError::NoConsent)));
    };
    refused().await;
    let other = store.give_consent(account, &line("somebody else"), NOW).await.unwrap();
    refused().await;
    let consent = store.give_consent(account, &request.recipient, NOW).await.unwrap();
    assert!(matches!(store.disclose(&request, NOW).await, Err(StoreError::StaffOnly)));
    let (entry, content) = staff.disclose(&request, later(1)).await.unwrap();
    assert_eq!((entry.number, entry.uid, entry.at), (1, STAFF, later(1)));
    assert!(content.contains("ann@example.org"));
    store.withdraw_consent(account, consent, later(2)).await.unwrap();
    refused().await;
    assert!(store.withdraw_consent(AccountId(99), other, NOW).await.is_err(), "not theirs");
    let consents = store.consents(account).await.unwrap();
    assert_eq!(consents[1].withdrawn_at, Some(later(2)));
    assert_eq!(store.disclosures(None).await.unwrap(), [entry]);
    assert_eq!(store.staff_log(None, 0, 9).await.unwrap().len(), 1, "one disclosure was made");
}

#[tokio::test]
async fn clause_2_consent_that_was_sent_twice_is_withdrawn_at_once() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let request = DisclosureRequest {
        account,
        basis: Basis::Consent,
        reference: line("letter of 3 May"),
        recipient: line("a notary"),
        secret_until: None,
    };
    let refused = || async {
        let refused = store.for_staff(STAFF).disclose(&request, NOW).await;
        assert!(matches!(refused, Err(StoreError::NoConsent)));
    };
    let give = |at| store.give_consent(account, &request.recipient, at);
    let first = give(NOW).await.unwrap();
    assert_eq!(give(later(1)).await.unwrap(), first, "it holds already");
    store.withdraw_consent(account, first, later(2)).await.unwrap();
    refused().await;

    // By a page that is older than the consent which holds.
    assert_ne!(give(later(3)).await.unwrap(), first, "a withdrawn one does not come back");
    store.withdraw_consent(account, first, later(4)).await.unwrap();
    refused().await;

    // What former versions have taken twice.
    fixture.execute("UPDATE consents SET withdrawn_at = NULL").await;
    store.withdraw_consent(account, first, later(5)).await.unwrap();
    refused().await;
    let consents = store.consents(account).await.unwrap();
    let withdrawn: Vec<_> = consents.iter().map(|consent| consent.withdrawn_at).collect();
    assert_eq!(withdrawn, [Some(later(5)); 2]);
}

#[tokio::test]
async fn clause_2_customer_is_told_unless_an_order_forbids_it_for_now() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let request = DisclosureRequest {
        account,
        basis: Basis::LawfulOrder,
        reference: line("1 Gs 17/26"),
        recipient: line("Court of Anytown"),
        secret_until: Some(later(DAY)),
    };
    let (entry, content) = store.for_staff(STAFF).disclose(&request, NOW).await.unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(content.as_bytes());
    assert_eq!(entry.content_hash, digest[..]);
    assert!(store.disclosures_told(account, later(DAY - 1)).await.unwrap().is_empty());
    let export = store.export(account, Reader::Customer, later(DAY - 1)).await.unwrap();
    for text in [export.json(), export.text()] {
        assert!(!text.contains("Anytown") && !text.contains("disclosure make"), "{}", *text);
    }
    let export = store.export(account, Reader::Customer, later(DAY)).await.unwrap();
    for text in [export.json(), export.text()] {
        assert!(text.contains("Court of Anytown") && text.contains("1 Gs 17/26"), "{}", *text);
    }
    let told = store.disclosures_told(account, later(DAY)).await.unwrap();
    assert_eq!(told, [entry]);
}

#[tokio::test]
async fn clause_3_export_is_everything_that_is_held() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    let device = add_device(store, account, "phone").await.unwrap();
    store.session_began(device.id, ip("203.0.113.9"), NOW).await.unwrap();
    store.session_ended(device.id, later(60)).await.unwrap();
    store.grant(account, &"family".parse().unwrap(), Term::MoreDays(2), NOW).await.unwrap();
    store.change_email(account, &email("ann@example.net"), NOW).await.unwrap();
    store.begin_email_change(account, &email("ann@example.com"), NOW).await.unwrap();
    store.give_consent(account, &line("a notary"), NOW).await.unwrap();
    let look = Deed::on(account, "account show", &[DataKind::Email]);
    store.for_staff(STAFF).note_look(look, NOW).await.unwrap();
    let export = store.export(account, Reader::Customer, later(DAY)).await.unwrap();
    let held = [
        "ann@example.org",
        "ann@example.net",
        "ann@example.com",
        "phone",
        "203.0.113.9",
        "family",
        "a notary",
        "of-age",
        "account show",
        "Argon2id",
        "2026-09-21T14:14:20Z",
    ];
    for text in [export.json(), export.text()] {
        for value in held {
            assert!(text.contains(value), "{value} is not in {}", *text);
        }
        assert!(!text.contains("$argon2id"), "the hash itself is nobody's business");
        assert!(!text.contains(&STAFF.to_string()), "who of the staff it was is data of theirs");
    }
    serde_json::from_str::<serde_json::Value>(&export.json()).unwrap();
    let export = store.export(account, Reader::Recipient, later(DAY)).await.unwrap();
    assert!(!export.json().contains("account show"), "{}", *export.json());
}
