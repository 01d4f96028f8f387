use std::time::Duration;

use sqlx::Executor;
use tacit_accounts::{AccountSelector, Confirmation, Door, DoorError, Letter, StoreError, Token};

use super::{PASSWORD, from, password, token};
use crate::{Fixture, NOW, email, later};

#[tokio::test]
async fn clause_8_letters_carry_no_secret_but_a_link_that_logs_nobody_in() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let (address, from) = (email("ann@example.org"), from("192.0.2.1"));
    let letter = door
        .register(store, &address, &password(PASSWORD), Confirmation::OfAge, from)
        .await
        .unwrap();
    let link = token(&letter);
    assert!(!link.expose().contains("ann") && link.expose().len() == 43);
    store.confirm_registration(&link, NOW).await.unwrap();
    let again = store.confirm_registration(&link, NOW).await;
    assert!(matches!(again, Err(StoreError::NoSuchLink)), "a link worked twice");
    let wrong = door.log_in(store, &address, &password(link.expose()), from).await;
    assert!(matches!(wrong, Err(DoorError::Wrong)));
}

#[tokio::test]
async fn clause_10_confirmation_is_recorded_with_its_time() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let hashed = door.hasher().hash(&password(PASSWORD)).await.unwrap();
    let adult = Confirmation::ResponsibleAdult;
    let letter =
        store.begin_registration(&email("ann@example.org"), &hashed, adult, NOW).await.unwrap();
    assert!(store.accounts().await.unwrap().is_empty(), "an account without a confirmed address");
    let account = store.confirm_registration(&token(&letter), later(60)).await.unwrap();
    let account = store.account(&AccountSelector::Id(account)).await.unwrap();
    assert_eq!((account.confirmation, account.created_at), (adult, NOW));
}

#[tokio::test]
async fn clause_10_there_is_no_account_without_a_confirmation() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let mut database = fixture.database().await;
    for confirmation in ["NULL", "''", "'child'"] {
        let sql = format!("UPDATE accounts SET confirmation = {confirmation} WHERE id = {account}");
        let changed = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut database).await;
        assert!(changed.is_err(), "{confirmation} was taken");
    }
    let hashed = Door::new().hasher().hash(&password(PASSWORD)).await.unwrap();
    let (store, of_age) = (&fixture.store, Confirmation::OfAge);
    store.begin_registration(&email("bob@example.org"), &hashed, of_age, NOW).await.unwrap();
    let forgotten = "UPDATE pending_addresses SET confirmation = NULL";
    assert!(sqlx::query(forgotten).execute(&mut database).await.is_err());
}

#[tokio::test]
async fn registration_tells_nobody_who_is_a_customer() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    fixture.account().await;
    let from = from("192.0.2.1");
    fixture.execute("UPDATE gateway SET scrub_due = 0").await;
    let letter = door
        .register(store, &email("ann@example.org"), &password(PASSWORD), Confirmation::OfAge, from)
        .await
        .unwrap();
    assert_eq!(letter, Letter::AlreadyRegistered { to: email("ann@example.org") });
    let mut database = fixture.database().await;
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pending_addresses")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(rows, 0);
    let due: i64 =
        sqlx::query_scalar("SELECT scrub_due FROM gateway").fetch_one(&mut database).await.unwrap();
    assert_eq!(due, 1, "what was written and removed at once stays in the files");
    // Of two registrations with one address the link that is followed first counts.
    let mut links = Vec::new();
    for _ in 0..2 {
        let bob = email("bob@example.org");
        let letter =
            door.register(store, &bob, &password(PASSWORD), Confirmation::OfAge, from).await;
        links.push(token(&letter.unwrap()));
    }
    store.confirm_registration(&links[1], NOW).await.unwrap();
    assert!(matches!(
        store.confirm_registration(&links[0], NOW).await,
        Err(StoreError::EmailTaken)
    ));
    assert!(matches!(
        store.confirm_registration(&Token::from("x"), NOW).await,
        Err(StoreError::NoSuchLink)
    ));
}

#[tokio::test]
async fn link_that_was_made_up_keeps_nobody_waiting_who_writes() {
    let fixture = Fixture::new().await;
    let mut writer = fixture.database().await;
    writer.execute(sqlx::raw_sql(fixture.others_cannot_write())).await.unwrap();
    let (store, token) = (&fixture.store, Token::from("made up"));
    let both = async {
        let registered = store.confirm_registration(&token, NOW).await.map(drop);
        [registered, store.confirm_email_change(&token, NOW).await.map(drop)]
    };
    let answers = tokio::time::timeout(Duration::from_secs(20), both).await;
    let answers = answers.expect("it waits for a turn to write");
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::NoSuchLink))));
}
