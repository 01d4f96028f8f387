use tacit_accounts::{AccountId, AccountSelector, Confirmation, SelectorError, StoreError};

use crate::{Fixture, NOW, add_device, email, later};

#[tokio::test]
async fn account_is_found_by_number_and_by_email() {
    let fixture = Fixture::new().await;
    let until = Some(later(30));
    let added = fixture
        .store
        .add_account(&email("Ann@Example.org"), Confirmation::ResponsibleAdult, until, NOW)
        .await
        .unwrap();
    let by_id: AccountSelector = added.id.to_string().parse().unwrap();
    let by_email: AccountSelector = "Ann@example.ORG".parse().unwrap();
    assert_eq!(fixture.store.account(&by_id).await.unwrap(), added);
    assert_eq!(fixture.store.account(&by_email).await.unwrap(), added);
    assert_eq!(added.email.expose(), "Ann@example.org");
    assert_eq!(added.confirmation, Confirmation::ResponsibleAdult);
    assert_eq!((added.created_at, added.service_until), (NOW, until));
    assert_eq!((added.devices, added.device_limit), (0, 5));
}

#[tokio::test]
async fn accounts_are_listed_with_their_number_of_devices() {
    let fixture = Fixture::new().await;
    let ann = fixture.account().await;
    let bob = crate::add_account(&fixture.store, "bob@example.org").await;
    add_device(&fixture.store, bob, "phone").await.unwrap();
    add_device(&fixture.store, bob, "laptop").await.unwrap();
    let listed: Vec<_> = fixture.store.accounts().await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|account| (account.id, account.devices)).collect();
    assert_eq!(listed, [(ann, 0), (bob, 2)]);
    let counts = fixture.store.counts().await.unwrap();
    assert_eq!((counts.accounts, counts.devices), (2, 2));
}

#[tokio::test]
async fn second_account_with_an_email_is_refused() {
    let fixture = Fixture::new().await;
    fixture.account().await;
    let again = email("ann@EXAMPLE.org");
    let error =
        fixture.store.add_account(&again, Confirmation::OfAge, None, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::EmailTaken));
    assert_eq!(fixture.store.accounts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn unknown_account_is_told() {
    let fixture = Fixture::new().await;
    for selector in ["7", "eve@example.org"] {
        let error = fixture.store.account(&selector.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, StoreError::NoSuchAccount));
    }
}

#[test]
fn selector_is_a_number_or_an_email() {
    assert_eq!("42".parse(), Ok(AccountSelector::Id(AccountId(42))));
    assert_eq!("a@b".parse(), Ok(AccountSelector::Email(email("a@b"))));
    assert_eq!("99999999999999999999".parse::<AccountSelector>(), Err(SelectorError::Number));
    for text in ["", "ann", "-1", "4 2"] {
        assert!(
            matches!(text.parse::<AccountSelector>(), Err(SelectorError::Email(_))),
            "{text:?}"
        );
    }
}
