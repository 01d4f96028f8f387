use std::time::Duration;

use tacit_accounts::{
    AccountSelector, DEFAULT_ARCHIVE_TIME, Door, DoorError, FormerKind, Letter, PasswordError,
    Reader, Reason, ServiceName, StoreError, Term,
};

use super::{DAY, KEEP, OTHER_PASSWORD, PASSWORD, from, line, password, registered, token};
use crate::{
    Fixture, NOW, add_account, add_device, email, ip, later,
    retention::{found, heads},
};

#[tokio::test]
async fn clause_9_former_email_is_archived_sealed_and_purged() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let letters = store.change_email(account, &email("ann@example.net"), NOW).await.unwrap();
    let told = letters.map(|letter| letter.to().expose().to_owned());
    assert_eq!(told, ["ann@example.org", "ann@example.net"]);
    let archive = store.archive(account).await.unwrap();
    assert_eq!(archive.len(), 1);
    let former = &archive[0];
    assert_eq!((former.kind, former.reason), (FormerKind::Email, Reason::Changed));
    assert_eq!(*former.value, "ann@example.org");
    assert_eq!(former.keep_until, NOW.plus(DEFAULT_ARCHIVE_TIME));
    let gone = store.account(&"ann@example.org".parse().unwrap()).await;
    assert!(matches!(gone, Err(StoreError::NoSuchAccount)));
    assert_eq!(store.account(&"ann@example.net".parse().unwrap()).await.unwrap().id, account);

    let sealed = heads(&fixture, "SELECT value FROM archive").await;
    assert_eq!(found(fixture._dir.path(), &sealed), 1);
    let early = later(365 * DAY - 1);
    assert_eq!(store.purge(KEEP, early).await.unwrap().archived, 0);
    let due = later(365 * DAY);
    assert_eq!(store.past_its_time(KEEP, due).await.unwrap().archived, 1);
    assert_eq!(store.purge(KEEP, due).await.unwrap().archived, 1);
    assert_eq!(found(fixture._dir.path(), &sealed), 0, "the value is still in the files");
    assert!(store.archive(account).await.unwrap().is_empty());
}

#[tokio::test]
async fn clause_9_change_of_address_waits_for_its_link_and_tells_both() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    add_account(store, "bob@example.org").await;
    let taken = store.begin_email_change(account, &email("bob@example.org"), NOW).await.unwrap();
    assert!(matches!(taken, Letter::AlreadyRegistered { .. }));
    let waiting = store.export(account, Reader::Customer, NOW).await.unwrap().json();
    assert!(waiting.contains("bob@example.org"), "who asked sees that it is somebody's");
    let first = store.begin_email_change(account, &email("a@example.net"), NOW).await.unwrap();
    let second = store.begin_email_change(account, &email("b@example.net"), NOW).await.unwrap();
    let dropped = store.confirm_email_change(&token(&first), NOW).await;
    assert!(matches!(dropped, Err(StoreError::NoSuchLink)), "a link that was replaced works");
    assert!(store.confirm_registration(&token(&second), NOW).await.is_err());
    assert_eq!(
        store.account(&AccountSelector::Id(account)).await.unwrap().email,
        email("ann@example.org")
    );
    let late = store.confirm_email_change(&token(&second), later(DAY)).await;
    assert!(matches!(late, Err(StoreError::NoSuchLink)));
    let letters = store.confirm_email_change(&token(&second), later(DAY - 1)).await.unwrap();
    assert_eq!(
        letters.map(|letter| letter.to().clone()),
        [email("ann@example.org"), email("b@example.net")]
    );
    assert_eq!(*store.archive(account).await.unwrap()[0].value, "ann@example.org");
}

#[tokio::test]
async fn clause_9_cancelling_removes_what_was_the_customers_and_archives_the_rest() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    let device = add_device(store, account, "phone").await.unwrap();
    store.session_began(device.id, ip("203.0.113.9"), NOW).await.unwrap();
    store.grant(account, &ServiceName::default(), Term::MoreDays(9), NOW).await.unwrap();
    store.give_consent(account, &line("a notary"), NOW).await.unwrap();
    let live = heads(
        &fixture,
        "SELECT email FROM accounts UNION ALL SELECT preshared_key FROM devices
        UNION ALL SELECT password FROM accounts UNION ALL SELECT recipient FROM consents",
    )
    .await;
    assert_eq!(live.len(), 4);

    let wrong = door.cancel(store, account, &password(OTHER_PASSWORD)).await;
    assert!(matches!(wrong, Err(DoorError::Wrong)));
    let cancelled = door.cancel(store, account, &password(PASSWORD)).await.unwrap();
    assert_eq!(cancelled.devices.len(), 1);
    assert_eq!(
        (cancelled.devices[0].id, cancelled.devices[0].tunnel_v4),
        (device.id, device.tunnel_v4)
    );
    assert_eq!(cancelled.letter.to(), &email("ann@example.org"));
    let gone = store.account(&"ann@example.org".parse().unwrap()).await;
    assert!(matches!(gone, Err(StoreError::NoSuchAccount)));
    assert!(store.accounts().await.unwrap().is_empty());
    assert_eq!(store.epoch(account).await.unwrap(), None, "visits go on");
    assert!(store.devices(account).await.unwrap().is_empty());
    assert!(store.services(account).await.unwrap().is_empty());
    let key = device.public_key;
    assert!(store.device_by_public_key(key.as_bytes(), NOW).await.unwrap().is_none());
    assert!(matches!(add_device(store, account, "new").await, Err(StoreError::NoSuchAccount)));
    let again = store.cancel_account(account, NOW).await;
    assert!(matches!(again, Err(StoreError::NoSuchAccount)));
    let kinds: Vec<_> =
        store.archive(account).await.unwrap().iter().map(|former| former.kind).collect();
    assert_eq!(kinds, [FormerKind::Email, FormerKind::Confirmation, FormerKind::Service]);
    // The address is free again, for another account.
    assert_ne!(registered(&fixture, &door, "ann@example.org").await, account);

    store.session_ended(device.id, later(60)).await.unwrap();
    let sessions_over = UnixSecondsNow::after(31 * DAY);
    store.purge(KEEP, sessions_over).await.unwrap();
    assert_eq!(
        found(fixture._dir.path(), &live),
        0,
        "what was the customer's is still in the files"
    );
    assert!(
        store
            .export(account, Reader::Recipient, NOW)
            .await
            .unwrap()
            .json()
            .contains("ann@example.org")
    );
    let archive_over = UnixSecondsNow::after(366 * DAY);
    let removed = store.purge(KEEP, archive_over).await.unwrap();
    assert_eq!((removed.archived, removed.accounts), (3, 1));
    assert!(matches!(
        store.export(account, Reader::Recipient, NOW).await,
        Err(StoreError::NoSuchAccount)
    ));
}

/// Times after the real one: the door reads the clock.
struct UnixSecondsNow;

impl UnixSecondsNow {
    fn after(seconds: u64) -> tacit_messages::UnixSeconds {
        let now = tacit_messages::UnixSeconds::now().max(NOW);
        now.plus(Duration::from_secs(seconds))
    }
}

#[tokio::test]
async fn clause_9_passwords_are_never_archived_and_a_new_one_ends_other_visits() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    let (address, from) = (email("ann@example.org"), from("192.0.2.1"));
    let visit = door.log_in(store, &address, &password(PASSWORD), from).await.unwrap();
    assert_eq!(store.epoch(account).await.unwrap(), Some(visit.epoch));
    let former = heads(&fixture, "SELECT password FROM accounts").await;
    let weak = door
        .change_password(store, account, &password(PASSWORD), &password("ann1985"), &address)
        .await;
    assert!(matches!(weak, Err(DoorError::Password(PasswordError::Weak(_)))));
    let wrong = door
        .change_password(store, account, &password("x"), &password(OTHER_PASSWORD), &address)
        .await;
    assert!(matches!(wrong, Err(DoorError::Wrong)));
    let (new, letter) = door
        .change_password(store, account, &password(PASSWORD), &password(OTHER_PASSWORD), &address)
        .await
        .unwrap();
    assert!(matches!(letter, Letter::PasswordChanged { .. }));
    let epoch = store.epoch(account).await.unwrap();
    assert!(epoch == Some(new.epoch) && epoch != Some(visit.epoch), "the other visit goes on");
    let old = door.log_in(store, &address, &password(PASSWORD), from).await;
    assert!(matches!(old, Err(DoorError::Wrong)));
    door.log_in(store, &address, &password(OTHER_PASSWORD), from).await.unwrap();
    assert!(store.archive(account).await.unwrap().is_empty());
    store.purge(KEEP, NOW).await.unwrap();
    assert_eq!(found(fixture._dir.path(), &former), 0, "the former hash is still in the files");
}

#[tokio::test]
async fn clause_7_address_of_a_customer_and_a_free_one_look_alike_to_who_asks_for_them() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    add_account(store, "bob@example.org").await;
    let mut seen = Vec::new();
    for asked in ["bob@example.org", "cat@example.org"] {
        store.begin_email_change(account, &email(asked), NOW).await.unwrap();
        let export = store.export(account, Reader::Customer, NOW).await.unwrap();
        seen.push([export.json(), export.text()].map(|all| all.replace(asked, "?")));
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].iter().all(|all| all.contains('?')), "{seen:?}");
    // Nobody has a link to it, and it goes when links do.
    assert_eq!(fixture.count("pending_addresses").await, 1);
    assert_eq!(store.purge(KEEP, later(DAY)).await.unwrap().unconfirmed, 1);
}

#[tokio::test]
async fn clause_7_new_password_drops_a_change_of_address_that_somebody_else_began() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    let eves = email("eve@example.net");
    let begun = door.change_email(store, account, &password(PASSWORD), &eves).await.unwrap();
    let (present, new) = (password(PASSWORD), password(OTHER_PASSWORD));
    door.change_password(store, account, &present, &new, &email("ann@example.org")).await.unwrap();
    let followed = store.confirm_email_change(&token(&begun), NOW).await;
    assert!(matches!(followed, Err(StoreError::NoSuchLink)), "{followed:?}");
    let now = store.account(&AccountSelector::Id(account)).await.unwrap();
    assert_eq!(now.email, email("ann@example.org"));
}
