//! The privacy rules that are about people: each test names its clause.

use std::{net::IpAddr, time::Duration};

use tacit_accounts::{
    AccountId, AccountSelector, Basis, Code, Confirmation, DEFAULT_ARCHIVE_TIME, DataKind, Deed,
    DisclosureRequest, Door, DoorError, FormerKind, Letter, Line, Password, PasswordError, Reader,
    Reason, ServiceName, StoreError, Term, Token,
};

use crate::{
    Fixture, NOW, add_account, add_device, email, ip, later,
    retention::{found, heads},
};

const DAY: u64 = 24 * 60 * 60;
const KEEP: Duration = Duration::from_secs(30 * DAY);
const PASSWORD: &str = "thimble-orbit-canvas-7";
const OTHER_PASSWORD: &str = "walnut-9-ferry-lantern";
/// A member of the staff.
const STAFF: u32 = 1_234;

fn line(text: &str) -> Line {
    text.parse().unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn token(letter: &Letter) -> Token {
    match letter {
        Letter::ConfirmAddress { token, .. } => token.clone(),
        other => panic!("{other:?} has no link"),
    }
}

fn from(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An account that its customer registered.
async fn registered(fixture: &Fixture, door: &Door, address: &str) -> AccountId {
    let (email, password) = (email(address), password(PASSWORD));
    let from = from("192.0.2.1");
    let letter = door.register(&fixture.store, &email, &password, Confirmation::OfAge, from).await;
    fixture.store.confirm_registration(&token(&letter.unwrap()), NOW).await.unwrap()
}

#[tokio::test]
async fn clause_1_every_change_by_the_staff_is_in_the_log_and_the_customers_own_are_not() {
    let fixture = Fixture::new().await;
    let staff = fixture.store.for_staff(STAFF);
    let account = add_account(&staff, "ann@example.org").await;
    add_device(&staff, account, "phone").await.unwrap();
    staff.grant(account, &ServiceName::default(), Term::DaysFromNow(3), NOW).await.unwrap();
    staff.change_email(account, &email("ann@example.net"), NOW).await.unwrap();
    let look = Deed::on(account, "session list", &[DataKind::Sessions]);
    staff.note_look(look, later(9)).await.unwrap();
    staff.cancel_account(account, later(10)).await.unwrap();
    fixture.account().await;

    let log = fixture.store.staff_log(None, 0, 100).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| entry.verb.as_str()).collect();
    let expected = [
        "account add",
        "device add",
        "account grant",
        "account email",
        "session list",
        "account cancel",
    ];
    assert_eq!(told, expected);
    assert!(log.iter().all(|entry| entry.uid == STAFF && entry.account == Some(account)));
    assert_eq!((log[4].at, log[4].data.as_str()), (later(9), "sessions"));
    assert_eq!(log[0].data, "e-mail, confirmation, services");
    let text = format!("{log:?}");
    assert!(!text.contains("example"), "the log has the data: {text}");
    let verified = fixture.store.verify_staff_log(None).await.unwrap().unwrap();
    assert_eq!((verified.end.entries, verified.removed), (6, 0));
}

#[tokio::test]
async fn clause_1_change_that_fails_leaves_no_entry() {
    let fixture = Fixture::new().await;
    let staff = fixture.store.for_staff(STAFF);
    add_account(&staff, "ann@example.org").await;
    let again = staff.add_account(&email("ann@example.org"), Confirmation::OfAge, None, NOW).await;
    assert!(matches!(again, Err(StoreError::EmailTaken)));
    assert_eq!(fixture.store.staff_log(None, 0, 100).await.unwrap().len(), 1);
    fixture.store.verify_staff_log(None).await.unwrap().unwrap();
}

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

#[tokio::test]
async fn clause_5_code_gives_service_once_and_its_row_goes() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    let device = add_device(store, account, "phone").await.unwrap();
    let key = device.public_key;
    let connects = |at| {
        let store = store.clone();
        async move { store.device_by_public_key(key.as_bytes(), at).await.unwrap().is_some() }
    };
    assert!(!connects(NOW).await, "an account of the site has service from the start");
    let service: ServiceName = "vpn".parse().unwrap();
    let codes = store.make_codes(2, &service, 30, NOW).await.unwrap();
    let typed: Code = codes[0].expose().to_lowercase().replace('-', " ").parse().unwrap();
    let given = store.redeem_code(account, &typed, NOW).await.unwrap();
    assert_eq!(given.ends_at, Some(later(30 * DAY)));
    assert!(connects(later(30 * DAY - 1)).await && !connects(later(30 * DAY)).await);
    let again = store.redeem_code(account, &codes[0], NOW).await;
    assert!(matches!(again, Err(StoreError::NoSuchCode)));
    let left = store.unused_codes().await.unwrap();
    assert_eq!((left.len(), left[0].id, left[0].days), (1, 2, 30));
    let given = store.redeem_code(account, &codes[1], later(DAY)).await.unwrap();
    assert_eq!(given.ends_at, Some(later(60 * DAY)), "days are added to the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clause_5_code_is_redeemed_once_however_many_try() {
    let fixture = Fixture::new().await;
    let (store, service) = (&fixture.store, ServiceName::default());
    let mut accounts = Vec::new();
    for number in 0..8 {
        let account = add_account(store, &format!("customer{number}@example.org")).await;
        store.grant(account, &service, Term::DaysFromNow(1), NOW).await.unwrap();
        accounts.push(account);
    }
    let code = store.make_codes(1, &service, 30, NOW).await.unwrap().remove(0);
    let trying: Vec<_> = accounts
        .iter()
        .map(|account| {
            let (store, account, code) = (store.clone(), *account, code.clone());
            tokio::spawn(async move { store.redeem_code(account, &code, NOW).await.is_ok() })
        })
        .collect();
    let mut redeemed = 0;
    for one in trying {
        redeemed += u32::from(one.await.unwrap());
    }
    assert_eq!(redeemed, 1);
    let mut longer = 0;
    for account in accounts {
        let services = store.services(account).await.unwrap();
        longer += u32::from(services[0].ends_at == Some(later(31 * DAY)));
    }
    assert_eq!(longer, 1);
}

#[tokio::test]
async fn clause_5_code_is_still_good_if_it_could_add_nothing() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let code = store.make_codes(1, &ServiceName::default(), 30, NOW).await.unwrap().remove(0);
    let refused = store.redeem_code(account, &code, NOW).await;
    assert!(matches!(refused, Err(StoreError::WithoutEnd)));
    assert_eq!(store.unused_codes().await.unwrap().len(), 1);
}

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
async fn registration_tells_nobody_who_is_a_customer() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    fixture.account().await;
    let from = from("192.0.2.1");
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
async fn log_in_is_throttled_alike_whether_or_not_there_is_an_account() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    registered(&fixture, &door, "ann@example.org").await;
    for address in ["ann@example.org", "nobody@example.org"] {
        let (address, mut answers) = (email(address), Vec::new());
        for number in 0..7 {
            let from = from(&format!("198.51.{number}.1"));
            answers.push(door.log_in(store, &address, &password("wrong"), from).await.unwrap_err());
        }
        assert!(
            answers[..5].iter().all(|answer| matches!(answer, DoorError::Wrong)),
            "{answers:?}"
        );
        assert!(
            answers[5..].iter().all(|answer| matches!(answer, DoorError::TooOften(_))),
            "{answers:?}"
        );
        assert!(!format!("{answers:?}").contains("example"));
    }
    // A network that tries many accounts has to wait as well.
    let mut refused = 0;
    for number in 0..40 {
        let address = email(&format!("guess{number}@example.org"));
        let tried = door.log_in(store, &address, &password("wrong"), from("203.0.113.77")).await;
        refused += u32::from(matches!(tried, Err(DoorError::TooOften(_))));
    }
    assert!((5..=10).contains(&refused), "{refused}");
}

#[tokio::test]
async fn unknown_address_takes_as_long_as_a_wrong_password() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..8 {
        let known = format!("ann{round}@example.org");
        let account = add_account(store, &known).await;
        let hashed = door.hasher().hash(&password(PASSWORD)).await.unwrap();
        store.set_password(account, &hashed, NOW).await.unwrap();
        let from = from(&format!("198.51.{round}.1"));
        for (kind, address) in [known, format!("nobody{round}@example.org")].iter().enumerate() {
            let began = tacit_messages::clock::Instant::now();
            let answer = door.log_in(store, &email(address), &password("wrong"), from).await;
            assert!(matches!(answer, Err(DoorError::Wrong)));
            times[kind].push(tacit_messages::clock::Instant::now().since(began));
        }
    }
    // The quickest of each: a busy machine makes others slow. Without hashing it would be a twentieth.
    let [known, unknown] = times.map(|times| times.into_iter().min().unwrap().as_secs_f64());
    assert!(unknown > known / 3.0 && known > unknown / 3.0, "{known} s and {unknown} s");
}

#[tokio::test]
async fn device_of_an_account_whose_service_ended_is_to_be_revoked() {
    let fixture = Fixture::new().await;
    let (store, account) = (&fixture.store, fixture.account().await);
    let device = add_device(store, account, "phone").await.unwrap();
    store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    assert!(store.devices_without_service(later(1000 * DAY)).await.unwrap().is_empty());
    let term = Term::DaysFromNow(1);
    store.grant(account, &ServiceName::default(), term, NOW).await.unwrap();
    assert!(store.devices_without_service(later(DAY - 1)).await.unwrap().is_empty());
    assert_eq!(store.devices_without_service(later(DAY)).await.unwrap(), [device.id]);
    store.session_ended(device.id, later(DAY)).await.unwrap();
    assert!(store.devices_without_service(later(DAY)).await.unwrap().is_empty());
}

#[tokio::test]
async fn stolen_database_yields_no_code_no_token_no_password_and_no_archived_value() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let account = registered(&fixture, &door, "ann@example.org").await;
    store.change_email(account, &email("ann.searchable@example.net"), NOW).await.unwrap();
    let code = store.make_codes(1, &ServiceName::default(), 3, NOW).await.unwrap().remove(0);
    let letter = store
        .begin_email_change(account, &email("later.searchable@example.com"), NOW)
        .await
        .unwrap();
    store.give_consent(account, &line("notary to search for"), NOW).await.unwrap();
    let request = DisclosureRequest {
        account,
        basis: Basis::TermsBreach,
        reference: line("reference to search for"),
        recipient: line("recipient to search for"),
        secret_until: None,
    };
    store.for_staff(STAFF).disclose(&request, NOW).await.unwrap();
    let secrets = [
        PASSWORD,
        "argon2id",
        "ann@example",
        "searchable",
        "search for",
        token(&letter).expose(),
        &code.expose(),
        &code.expose().replace('-', ""),
    ]
    .map(str::to_owned);
    let files: Vec<Vec<u8>> = std::fs::read_dir(fixture._dir.path())
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    let found = |needle: &[u8]| {
        files.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(found(b"disclosure make"), "the search finds nothing at all");
    for secret in &secrets {
        assert!(!found(secret.as_bytes()), "{secret} is in the files");
        assert!(!found(secret.to_lowercase().as_bytes()), "{secret} is in the files");
    }
}
