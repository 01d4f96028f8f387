use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tacit_accounts::{
    AccountId, AccountSelector, Confirmation, Letter, Password, PasswordHasher, Store,
    post::{DeliveryError, Doubt, Mail, Postman, Progress, Security, TlsError, TlsTrust},
};
use tacit_messages::UnixSeconds;
use tacit_tests::mail_server::{Habits, MailServer, Received};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
};

use crate::{
    Fixture, NOW, add_account_at, email, later,
    retention::{found, heads},
    rules::draft,
};

const DAY: u64 = 24 * 60 * 60;

pub(crate) fn mail(server: &MailServer<'_>) -> Mail {
    Mail {
        servers: vec![server.address()],
        security: Security::None,
        credentials: None,
        sender: "VPN <vpn@example.org>".parse().unwrap(),
        contact: "help@example.org".parse().unwrap(),
        site: "https://vpn.example.org".parse().unwrap(),
        pace: Duration::ZERO,
        patience: Duration::from_secs(20),
    }
}

/// A store with customers who are to be told of a version, in real time.
pub(crate) async fn with_customers(emails: &[&str]) -> Fixture {
    let fixture = Fixture::new().await;
    let now = UnixSeconds::now();
    fixture.store.publish_default_rules(now).await.unwrap();
    for email in emails {
        add_account_at(&fixture.store, email, now).await;
    }
    let day = UnixSeconds((now.0 / DAY + 30) * DAY);
    let draft = draft("# Rules\n\n## 1. Data\n\nLess than before.\n", day, true);
    fixture.store.publish_rules(&draft, Some(Duration::ZERO), now).await.unwrap();
    fixture
}

async fn progress(store: &Store) -> Progress {
    store.letter_progress(UnixSeconds::now()).await.unwrap().remove(0)
}

/// How many letters each address got.
fn counts(received: &[Received]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for letter in received {
        *counts.entry(letter.to.clone()).or_default() += 1;
    }
    counts
}

/// The letter's number in the world.
fn message_id(letter: &Received) -> String {
    let header = letter.header("Message-ID").unwrap();
    header.trim_matches(['<', '>']).split('@').next().unwrap().to_owned()
}

/// Settles every letter in doubt as an operator does, who looks it up in the mail server's log; returns how many there were.
async fn settle(store: &Store, server: &MailServer<'_>) -> usize {
    let taken = server.taken();
    let letters = store.letters_to_look_after(1000).await.unwrap();
    let doubtful: Vec<_> = letters.into_iter().filter(|letter| !letter.is_refused).collect();
    for letter in &doubtful {
        let is_there = taken.contains(&format!("{}@example.org", letter.message_id));
        let doubt = if is_there { Doubt::Arrived } else { Doubt::Lost };
        store.settle_letter(&letter.message_id, doubt, UnixSeconds::now()).await.unwrap();
    }
    doubtful.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_letter_has_date_summary_address_of_the_rules_and_how_to_cancel() {
    let server = MailServer::start(Habits::default());
    let fixture = with_customers(&["ann@example.org", "zoë@example.org"]).await;
    let postman = Postman::new(fixture.store.clone(), mail(&server));
    assert_eq!(postman.deliver().await.unwrap().sent, 2);
    assert_eq!(postman.deliver().await.unwrap().sent, 0, "a letter is sent once");
    let received = server.mailbox();
    assert_eq!(
        counts(&received),
        [("ann@example.org".into(), 1), ("zoë@example.org".into(), 1)].into()
    );
    let letter = received.iter().find(|letter| letter.to == "ann@example.org").unwrap();
    let text = words(letter);
    let rules = fixture.store.rules(2).await.unwrap();
    let date = tacit_accounts::rules::Date(rules.version.effective_at).to_string();
    assert!(letter.header("Subject").unwrap().contains(&date), "{text}");
    for part in [
        &*date,
        rules.summary.as_str(),
        "https://vpn.example.org/rules/2",
        "cancel your account",
        "at least 14 days before",
        "You get this letter because",
        "cannot unsubscribe",
        "counts as your consent",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    assert_eq!(letter.header("From").unwrap(), "VPN <vpn@example.org>");
    assert_eq!(letter.header("To").unwrap(), "ann@example.org");
    assert_eq!(letter.header("Auto-Submitted").unwrap(), "auto-generated");
    assert!(letter.header("Content-Type").unwrap().starts_with("multipart/alternative"));
    assert_eq!(letter.header("List-Unsubscribe"), None);
    for kind in ["text/plain", "text/html"] {
        assert!(
            letter.text.contains(&format!("Content-Type: {kind}; charset=utf-8")),
            "{}",
            letter.text
        );
    }
}

/// The words of a letter: its parts are quoted-printable or plain, with lines of their own.
fn words(letter: &Received) -> String {
    letter
        .text
        .replace("=\n", "")
        .replace("=3D", "=")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_8_letter_asks_for_nothing_and_says_so() {
    let server = MailServer::start(Habits::default());
    let fixture = with_customers(&["ann@example.org"]).await;
    fixture.store.post_trial(&email("boss@example.org"), UnixSeconds::now()).await.unwrap();
    Postman::new(fixture.store.clone(), mail(&server)).deliver().await.unwrap();
    let received = server.mailbox();
    assert_eq!(received.len(), 2);
    for letter in received {
        let text = words(&letter);
        assert!(text.contains(
            "We never ask for a password, a key, a code or anything else confidential by e-mail"
        ));
        assert!(text.contains("no letter of ours has a link that logs you in"));
        let links: Vec<_> = text
            .split("https://")
            .skip(1)
            .map(|link| link.split(['"', ' ', '<']).next().unwrap())
            .collect();
        assert!(links.iter().all(|link| *link == "vpn.example.org/rules/2"), "{links:?}");
        assert!(
            !letter.text.contains("<form")
                && !letter.text.contains("<img")
                && !letter.text.contains("src=")
        );
    }
    assert_eq!(progress(&fixture.store).await.sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_12_each_letter_says_where_to_ask() {
    let server = MailServer::start(Habits::default());
    let fixture = with_customers(&["ann@example.org"]).await;
    fixture.store.post_trial(&email("boss@example.org"), UnixSeconds::now()).await.unwrap();
    Postman::new(fixture.store.clone(), mail(&server)).deliver().await.unwrap();
    for letter in server.mailbox() {
        assert!(words(&letter).contains("Questions? Write to us: help@example.org"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_one_bad_address_among_a_thousand_and_a_server_that_dies_half_way() {
    let mut server = MailServer::start(Habits::default());
    let names: Vec<String> = (0..999).map(|number| format!("c{number}@example.org")).collect();
    let mut emails: Vec<&str> = names.iter().map(String::as_str).collect();
    emails.insert(500, "bad@example.org");
    let fixture = with_customers(&emails).await;
    let postman = Arc::new(Postman::new(fixture.store.clone(), mail(&server)));
    for enough in [300, 600] {
        let round = tokio::spawn({
            let postman = Arc::clone(&postman);
            async move { postman.deliver().await }
        });
        while server.count_taken() < enough && !round.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        let round = round.await.unwrap();
        assert!(matches!(round, Err(DeliveryError::Broken)), "{round:?}");
        let unreachable = postman.deliver().await;
        assert!(matches!(unreachable, Err(DeliveryError::Unreachable)), "{unreachable:?}");
        server.restart();
        settle(&fixture.store, &server).await;
    }
    assert_eq!(postman.deliver().await.unwrap().doubtful, 0);
    let counts = counts(&server.mailbox());
    assert_eq!(counts.len(), 999);
    assert!(counts.values().all(|count| *count == 1), "somebody got two letters");
    let progress = progress(&fixture.store).await;
    assert_eq!((progress.sent, progress.refused, progress.doubtful), (999, 1, 0));
    let refused = fixture.store.letters_to_look_after(10).await.unwrap();
    assert_eq!((refused.len(), refused[0].reply_code), (1, Some(550)));
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_sender_that_is_killed_at_random_moments_sends_each_letter_once() {
    let server = MailServer::start(Habits::default());
    let names: Vec<String> = (0..60).map(|number| format!("c{number}@example.org")).collect();
    let fixture = with_customers(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut doubtful = 0;
    for number in 0_u64.. {
        let postman = Postman::new(fixture.store.clone(), mail(&server));
        // Dropped at an await: what is committed is in the store, all else is gone, as when a process dies.
        let wait = Duration::from_micros(number * 2311 % 60_000);
        let round = tokio::time::timeout(wait, postman.deliver()).await;
        fixture.end_of_what_the_dead_began().await;
        // A minute later, for the next process.
        fixture.execute("UPDATE letters SET due_at = due_at - 60 WHERE state = 'queued'").await;
        let now = UnixSeconds::now();
        fixture.store.find_letters_in_doubt(now, now).await.unwrap();
        doubtful += settle(&fixture.store, &server).await;
        if round.is_ok() && progress(&fixture.store).await.is_over() {
            break;
        }
    }
    let counts = counts(&server.mailbox());
    assert_eq!(counts.len(), names.len());
    assert!(counts.values().all(|count| *count == 1), "somebody got two letters");
    assert!(doubtful > 0, "no moment was the one that matters");
}

/// Passes bytes on to a server until it has seen `letters` ends of a letter, whose answer it keeps for itself.
async fn cutting_proxy(server: &MailServer<'_>, letters: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, server) = (listener.local_addr().unwrap(), server.address());
    let seen = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = split(client);
            let (mut from_server, mut to_server) = split(TcpStream::connect(server).await.unwrap());
            let back = tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            let mut buffer = vec![0; 65536];
            let mut tail = Vec::new();
            while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
                tail.extend_from_slice(&buffer[..len]);
                if tail.ends_with(b"\r\n.\r\n") {
                    tail.clear();
                    if seen.fetch_add(1, Ordering::Relaxed) + 1 == letters {
                        back.abort();
                        let _ = back.await;
                        to_server.write_all(&buffer[..len]).await.unwrap();
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        break;
                    }
                }
                to_server.write_all(&buffer[..len]).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_letter_whose_answer_was_lost_is_in_doubt_and_not_sent_again() {
    let server = MailServer::start(Habits::default());
    let fixture = with_customers(&["ann@example.org", "ben@example.org", "cleo@example.org"]).await;
    let through = cutting_proxy(&server, 2).await;
    let postman =
        Postman::new(fixture.store.clone(), Mail { servers: vec![through], ..mail(&server) });
    assert!(matches!(postman.deliver().await, Err(DeliveryError::Broken)));
    assert_eq!(progress(&fixture.store).await.doubtful, 1);
    // However often, it is not sent again; the others are.
    for _ in 0..2 {
        let _ = postman.deliver().await;
        fixture.store.retry_letters(UnixSeconds::now()).await.unwrap();
    }
    let now = progress(&fixture.store).await;
    assert_eq!((now.sent, now.doubtful), (2, 1));
    assert_eq!(counts(&server.mailbox()).values().sum::<usize>(), 3);
    let doubtful = fixture.store.letters_to_look_after(10).await.unwrap().remove(0);
    let told = fixture.store.told(doubtful.account).await.unwrap();
    assert!(told.letters.is_empty(), "who may not have the letter is not told");
    assert_eq!(settle(&fixture.store, &server).await, 1);
    let told = fixture.store.told(doubtful.account).await.unwrap();
    assert_eq!(told.letters, [(2, doubtful.since)]);
    let _ = postman.deliver().await;
    assert!(counts(&server.mailbox()).values().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn letter_that_tells_of_no_rules_is_sent_again_under_the_same_number() {
    let server = MailServer::start(Habits::default());
    let fixture = Fixture::new().await;
    fixture.store.post_trial(&email("boss@example.org"), UnixSeconds::now()).await.unwrap();
    let through = cutting_proxy(&server, 1).await;
    let postman =
        Postman::new(fixture.store.clone(), Mail { servers: vec![through], ..mail(&server) });
    assert!(matches!(postman.deliver().await, Err(DeliveryError::Broken)));
    assert_eq!(postman.deliver().await.unwrap().sent, 1);
    let ids: BTreeSet<String> = server.mailbox().iter().map(message_id).collect();
    assert_eq!((server.mailbox().len(), ids.len()), (2, 1));
    assert_eq!(fixture.count("letters").await, 0, "its address is gone once it is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_busy_servers_get_each_letter_once() {
    let server =
        MailServer::start(Habits { slowness: Duration::from_secs(1), ..Habits::default() });
    let fixture = with_customers(&["ann@example.org", "later@example.org"]).await;
    let patient = Postman::new(fixture.store.clone(), mail(&server));
    let hasty = Mail { patience: Duration::from_millis(500), ..mail(&server) };
    let hasty = Postman::new(fixture.store.clone(), hasty);
    assert!(matches!(hasty.deliver().await, Err(DeliveryError::Broken)));
    assert_eq!(progress(&fixture.store).await.queued, 2);
    let round = patient.deliver().await.unwrap();
    assert_eq!((round.sent, round.not_sent), (1, 1));
    let now = progress(&fixture.store).await;
    assert_eq!((now.sent, now.queued, now.put_off), (1, 1, 1));
    assert_eq!(patient.deliver().await.unwrap(), Default::default(), "it is not due yet");
    assert_eq!(fixture.store.retry_letters(UnixSeconds::now()).await.unwrap(), 1);
    assert_eq!(patient.deliver().await.unwrap().not_sent, 1);
    assert_eq!(counts(&server.mailbox()), [("ann@example.org".into(), 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_gateways_share_a_slow_servers_letters_and_none_takes_that_for_a_failure() {
    let server =
        MailServer::start(Habits { slowness: Duration::from_secs(1), ..Habits::default() });
    let names: Vec<String> = (0..9).map(|number| format!("c{number}@example.org")).collect();
    let fixture = with_customers(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let postman = async |name: &str| {
        let store = fixture.store.clone();
        let started = store.for_gateway(name, name, None, UnixSeconds::now()).await;
        // A letter is another's for a moment longer than this.
        let mail = Mail { patience: Duration::from_secs(4), ..mail(&server) };
        Postman::new(started.unwrap().store, mail)
    };
    let (oslo, rome) = (postman("oslo").await, postman("rome").await);
    let (of_oslo, of_rome) = tokio::join!(oslo.deliver(), async {
        tokio::time::sleep(Duration::from_millis(5300)).await;
        rome.deliver().await
    });
    let (of_oslo, of_rome) = (of_oslo.unwrap(), of_rome.unwrap());
    assert!(of_oslo.sent > 0 && of_rome.sent > 0, "{of_oslo:?}, {of_rome:?}");
    assert_eq!(of_oslo.sent + of_rome.sent, 9);
    let counts = counts(&server.mailbox());
    assert!(counts.len() == 9 && counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn address_of_a_sent_letter_is_in_no_file_after_the_next_purge() {
    let server = MailServer::start(Habits::default());
    let fixture = Fixture::new().await;
    fixture.store.post_trial(&email("boss@example.org"), UnixSeconds::now()).await.unwrap();
    let address = heads(&fixture, "SELECT content FROM letters").await;
    assert_eq!(found(fixture._dir.path(), &address), 1);
    assert_eq!(Postman::new(fixture.store.clone(), mail(&server)).deliver().await.unwrap().sent, 1);
    fixture.store.purge(Duration::from_secs(DAY), UnixSeconds::now()).await.unwrap();
    assert_eq!(found(fixture._dir.path(), &address), 0);
}

/// How the way to a server of a name is protected.
type Protect = fn(&str, TlsTrust) -> Result<Security, TlsError>;

async fn go_out_to_the_right_server_alone(speaks_tls_first: bool, protect: Protect) {
    let habits = Habits { asks_who: true, speaks_tls_first, ..Habits::default() };
    let server = MailServer::start(habits);
    let fixture = with_customers(&["ann@example.org"]).await;
    let certificate = std::fs::read(server.certificate_path()).unwrap();
    let trust = || TlsTrust::Certificate(certificate.clone());
    let with = |host: &str, trust, password: &str| Mail {
        security: protect(host, trust).unwrap(),
        credentials: Some(tacit_accounts::post::Credentials::new("tacit".into(), password.into())),
        ..mail(&server)
    };
    let deliver = |mail| {
        let postman = Postman::new(fixture.store.clone(), mail);
        async move { postman.deliver().await }
    };
    let strangers = deliver(with("127.0.0.1", TlsTrust::System, "se cret")).await;
    assert!(matches!(strangers, Err(DeliveryError::Unreachable)), "{strangers:?}");
    let other_name = deliver(with("mail.example.org", trust(), "se cret")).await;
    assert!(matches!(other_name, Err(DeliveryError::Unreachable)), "{other_name:?}");
    let wrong = deliver(with("127.0.0.1", trust(), "wrong")).await;
    assert!(matches!(wrong, Err(DeliveryError::Rejected(Some(535)))), "{wrong:?}");
    let nobody = Mail { credentials: None, ..with("127.0.0.1", trust(), "") };
    assert_eq!(deliver(nobody).await.unwrap().sent, 0, "who does not log in sends nothing");
    fixture.store.retry_letters(UnixSeconds::now()).await.unwrap();
    assert_eq!(progress(&fixture.store).await.queued, 1);
    assert_eq!(deliver(with("127.0.0.1", trust(), "se cret")).await.unwrap().sent, 1);
    assert_eq!(server.mailbox().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_out_by_starttls_after_a_log_in_to_the_right_server_alone() {
    go_out_to_the_right_server_alone(false, Security::starttls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_out_by_tls_from_the_first_byte_after_a_log_in_to_the_right_server_alone() {
    go_out_to_the_right_server_alone(true, Security::tls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_server_that_turns_everybody_away_costs_no_letter() {
    let mut server = MailServer::start(Habits { turns_away: true, ..Habits::default() });
    let names: Vec<String> = (0..20).map(|number| format!("c{number}@example.org")).collect();
    let fixture = with_customers(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let postman = Postman::new(fixture.store.clone(), mail(&server));
    for _ in 0..3 {
        assert!(matches!(postman.deliver().await, Err(DeliveryError::Unreachable)));
    }
    let waiting = progress(&fixture.store).await;
    assert_eq!((waiting.queued, waiting.put_off), (20, 0), "that is no fault of the letters");
    server.restart_with(Habits::default());
    assert_eq!(postman.deliver().await.unwrap().sent, 20);
    assert!(counts(&server.mailbox()).values().eq([1; 20].iter()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_8_letters_of_account_life_ask_for_nothing_and_have_no_link_but_one_that_confirms() {
    let server = MailServer::start(Habits::default());
    let fixture = Fixture::new().await;
    let now = UnixSeconds::now();
    let store = fixture.store.clone().with_postman();
    let account = add_account_at(&store, "ann@example.org", now).await;
    let password = Password::new("thimble-orbit-canvas-7").unwrap();
    let hashed = PasswordHasher::new().hash(&password).await.unwrap();
    let register = async |address: &str| {
        let address = email(address);
        store.begin_registration(&address, &hashed, Confirmation::OfAge, now).await.unwrap()
    };
    let registration = register("new@example.org").await;
    let Letter::ConfirmAddress { token, .. } = &registration else { panic!("{registration:?}") };
    let token = token.expose().to_owned();
    register("ann@example.org").await;
    store.begin_email_change(account, &email("ann@example.org"), now).await.unwrap();
    store.change_email(account, &email("ann@example.net"), now).await.unwrap();
    store.set_password(account, &hashed, now).await.unwrap();
    store.cancel_account(account, now).await.unwrap();
    assert_eq!(Postman::new(fixture.store.clone(), mail(&server)).deliver().await.unwrap().sent, 8);
    let received = server.mailbox();
    let addresses: Vec<_> = counts(&received).into_iter().collect();
    assert_eq!(
        addresses,
        [
            ("ann@example.net".into(), 3),
            ("ann@example.org".into(), 4),
            ("new@example.org".into(), 1)
        ]
    );
    for letter in &received {
        let text = words(letter);
        assert!(
            text.contains("We never ask for a password")
                && text.contains("You get this letter because"),
            "{text}"
        );
        assert!(text.contains("Questions? Write to us: help@example.org"));
        let is_confirming = letter.to == "new@example.org";
        assert_eq!(
            text.contains(&format!("https://vpn.example.org/confirm/{token}")),
            is_confirming,
            "{text}"
        );
        assert!(is_confirming || !text.contains("https://"), "{text}");
    }
    assert_eq!(
        fixture.count("letters").await,
        0,
        "addresses and tokens are gone once they are sent"
    );
}

#[tokio::test]
async fn clause_11_cancelled_account_gets_no_letter_and_new_address_another_try() {
    let fixture = with_customers(&["ann@example.org", "ben@example.org"]).await;
    fixture.execute("UPDATE letters SET state = 'refused'").await;
    let now = UnixSeconds::now();
    fixture.store.cancel_account(AccountId(1), now).await.unwrap();
    fixture.store.change_email(AccountId(2), &email("ben@example.net"), now).await.unwrap();
    let progress = progress(&fixture.store).await;
    assert_eq!((progress.total(), progress.queued), (1, 1));
    assert_eq!(fixture.store.queue_missing_letters(now).await.unwrap(), 0);
}

#[tokio::test]
async fn letter_that_nobody_waits_for_any_more_is_gone_with_its_address() {
    let fixture = Fixture::new().await;
    fixture.store.post_trial(&email("boss@example.org"), NOW).await.unwrap();
    let keep = Duration::from_secs(30 * DAY);
    assert!(fixture.store.purge(keep, later(3 * DAY - 1)).await.unwrap().is_nothing());
    assert_eq!(fixture.store.purge(keep, later(3 * DAY)).await.unwrap().letters, 1);
    assert_eq!(fixture.count("letters").await, 0);
}

#[tokio::test]
async fn change_and_its_letters_are_made_together_or_not_at_all() {
    let fixture = Fixture::new().await;
    let store = fixture.store.clone().with_postman();
    let account = add_account_at(&store, "ann@example.org", NOW).await;
    let password = Password::new("thimble-orbit-canvas-7").unwrap();
    let hashed = PasswordHasher::new().hash(&password).await.unwrap();
    // As soon as the change is made, whatever becomes of this process.
    store.change_email(account, &email("ann@example.net"), NOW).await.unwrap();
    assert_eq!(fixture.count("letters").await, 2, "the former address and the new one");
    store.begin_email_change(account, &email("a@example.net"), NOW).await.unwrap();
    assert_eq!(fixture.count("letters").await, 4, "the present address is told too");
    store
        .begin_registration(&email("ben@example.net"), &hashed, Confirmation::OfAge, NOW)
        .await
        .unwrap();
    store.set_password(account, &hashed, NOW).await.unwrap();
    assert_eq!(fixture.count("letters").await, 6);

    fixture.execute("ALTER TABLE letters RENAME TO elsewhere").await;
    let before = store.credentials_of(account).await.unwrap().unwrap();
    assert!(store.change_email(account, &email("c@example.org"), NOW).await.is_err());
    assert!(store.set_password(account, &hashed, NOW).await.is_err());
    assert!(store.cancel_account(account, NOW).await.is_err());
    assert!(store.begin_email_change(account, &email("d@example.net"), NOW).await.is_err());
    let cleo = email("cleo@example.org");
    assert!(store.begin_registration(&cleo, &hashed, Confirmation::OfAge, NOW).await.is_err());
    let by_email = AccountSelector::Email(email("ann@example.net"));
    assert_eq!(store.account(&by_email).await.unwrap().id, account);
    let after = store.credentials_of(account).await.unwrap().unwrap();
    assert_eq!(after.epoch, before.epoch);
    assert_eq!(fixture.count("pending_addresses").await, 1, "the one from before");
}
