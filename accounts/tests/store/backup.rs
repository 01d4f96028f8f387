use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::Value;
use tacit_accounts::{
    AccountId, AccountSelector, Chain, ChainFault, Confirmation, Database, Store, StoreError,
    backup::{BackupError, Counting, Restoration, Restored, Summary},
};
use tacit_messages::UnixSeconds;
use tokio::sync::mpsc;

use crate::{
    Fixture, NOW, Place, add_account, data_keys, email, inventory::one_of_everything, ip, later,
    pool, rules::draft,
};

/// The user who restores.
const UID: u32 = 7;

/// All lines of a store.
async fn dump(store: &Store) -> (Summary, String) {
    let (pieces, mut received) = mpsc::channel(1);
    let dumping = {
        let store = store.clone();
        tokio::spawn(async move { store.dump(&pieces, NOW).await })
    };
    let mut lines = Vec::new();
    while let Some(piece) = received.recv().await {
        lines.extend(piece);
    }
    (dumping.await.unwrap().unwrap(), String::from_utf8(lines).unwrap())
}

async fn restore(to: &Database, lines: &str, key: u8) -> Result<Restored, BackupError> {
    let (database, keys) = (to.clone(), data_keys(key));
    let restoration = Restoration { database, keys, replaces: false, uid: UID };
    restoration.carry_out(&mut lines.as_bytes(), later(60)).await
}

async fn open(database: &Database) -> Store {
    let networks = Store::recorded_pool(database).await.unwrap();
    Store::open(database, networks, data_keys(7)).await.unwrap()
}

fn file_in(dir: &Path) -> Database {
    Database::Sqlite(dir.join("copy.db"))
}

/// The lines of each table, but for what a restore changes: it is an entry of the staff log.
fn rows(lines: &str) -> BTreeMap<String, Vec<&str>> {
    let (mut tables, mut table) = (BTreeMap::<String, Vec<&str>>::new(), String::new());
    for line in lines.lines().skip(1) {
        let value: Value = serde_json::from_str(line).unwrap();
        if let Some(name) = value["table"]["name"].as_str() {
            table = name.to_owned();
        }
        tables.entry(table.clone()).or_default().push(line);
    }
    tables.remove("chains");
    tables.remove("staff_log");
    tables.get_mut("letters").unwrap().retain(|line| !line.starts_with("{\"end\""));
    tables
}

#[tokio::test]
async fn clause_7_backup_gives_back_every_row_of_every_table_in_a_store_of_either_kind() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    let (summary, lines) = dump(&fixture.store).await;
    let mut counting = Counting::default();
    lines.as_bytes().chunks(1000).for_each(|piece| counting.take(piece));
    assert_eq!(counting.finish().unwrap(), summary);
    assert_eq!((summary.accounts, summary.at), (1, NOW.0));
    for secret in ["ann@example", "192.0.2.7", "thimble", "a notary"] {
        assert!(!lines.contains(secret), "{secret} is not sealed");
    }

    // To a file, and from there to whatever this store is.
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new();
    let mut lines = lines;
    for database in [file_in(dir.path()), place.database()] {
        let restored = restore(&database, &lines, 7).await.unwrap();
        assert_eq!(restored.backup.accounts, 1);
        let store = open(&database).await;
        let (_, again) = dump(&store).await;
        assert_eq!(rows(&again), rows(&lines));
        let by_email = AccountSelector::Email(email("ann@example.net"));
        let account = store.account(&by_email).await.unwrap();
        assert_eq!(store.sessions(account.id).await.unwrap()[0].connecting_ip, ip("192.0.2.7"));
        assert!(store.verify_staff_log(None).await.unwrap().is_ok());
        assert!(store.verify_disclosures(None).await.unwrap().is_ok());
        let log = store.staff_log(None, 0, 100).await.unwrap();
        let last = log.last().unwrap();
        assert_eq!((last.verb.as_str(), last.uid, last.at), ("restore", UID, later(60)));
        store.close().await;
        lines = again;
    }
}

#[tokio::test]
async fn numbers_are_not_given_twice_after_a_restore() {
    let fixture = Fixture::new().await;
    for number in 0..3 {
        add_account(&fixture.store, &format!("c{number}@example.org")).await;
    }
    fixture.execute("DELETE FROM services WHERE account_id = 3").await;
    fixture.execute("DELETE FROM accounts WHERE id = 3").await;
    let (_, lines) = dump(&fixture.store).await;
    let place = Place::new();
    restore(&place.database(), &lines, 7).await.unwrap();
    let store = open(&place.database()).await;
    assert_eq!(add_account(&store, "new@example.org").await, AccountId(4));
}

#[tokio::test]
async fn store_that_is_there_is_replaced_only_when_that_is_asked_for() {
    let fixture = Fixture::new().await;
    let (_, empty) = dump(&fixture.store).await;
    let place = Place::new();
    let store = Store::open(place.database(), pool("10.70.0.0/16", "fd70::/64"), data_keys(7));
    let store = store.await.unwrap();
    add_account(&store, "ann@example.org").await;
    store.close().await;
    let refused = restore(&place.database(), &empty, 7).await.unwrap_err();
    assert!(matches!(refused, BackupError::StoreExists), "{refused}");
    let store = open(&place.database()).await;
    assert_eq!(store.counts().await.unwrap().accounts, 1);
    store.close().await;
    let (database, keys) = (place.database(), data_keys(7));
    let restoration = Restoration { database, keys, replaces: true, uid: UID };
    restoration.carry_out(&mut empty.as_bytes(), NOW).await.unwrap();
    let store = open(&place.database()).await;
    assert_eq!(store.counts().await.unwrap().accounts, 0);
}

/// The lines without those of which `is_gone` is true, and a number of rows that is right again.
fn without(lines: &str, is_gone: impl Fn(&str) -> bool) -> String {
    let kept: Vec<&str> = lines.lines().filter(|line| !is_gone(line)).collect();
    let rows = |lines: &[&str]| lines.iter().filter(|line| line.starts_with("{\"row\"")).count();
    let (before, after) = (rows(&lines.lines().collect::<Vec<_>>()), rows(&kept));
    let text = kept.join("\n") + "\n";
    text.replace(&format!("\"rows\":{before}"), &format!("\"rows\":{after}"))
}

#[tokio::test]
async fn backup_that_is_cut_off_or_changed_is_refused_and_nothing_is_written() {
    let fixture = Fixture::new().await;
    one_of_everything(&fixture).await;
    let (_, text) = dump(&fixture.store).await;
    let entry = |line: &str| line.contains("\"disclosure make\"");
    assert_eq!(text.lines().filter(|line| entry(line)).count(), 1);
    let hostile = [
        String::new(),
        "hello\n".into(),
        text[..text.len() / 2].into(),
        text[..text.rfind("{\"end\"").unwrap()].into(),
        text.replacen("{\"row\"", "{\"raw\"", 1),
        text.replacen("\"format\":1", "\"format\":2", 1),
        text.replacen("\"tables\":", "\"tables\":9", 1),
        text.replacen("\"tables\":", "\"tables\":-", 1),
        text.replacen("\"name\":\"devices\"", "\"name\":\"devices; DROP TABLE accounts\"", 1),
        text.replacen("[\"account_id\"", "[\"account_id) VALUES (1); DROP TABLE accounts; --\"", 1),
        text.replacen("\"of-age\"", "\"of-ago\"", 1),
        without(&text, |line| line.contains("\"name\":\"codes\"")),
    ];
    let place = Place::new();
    for (number, lines) in hostile.into_iter().enumerate() {
        let error = restore(&place.database(), &lines, 7).await.unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{number}: {error}");
        assert_eq!(Store::recorded_pool(place.database()).await, None, "{number}: {error}");
    }
    let changed = text.replacen("\"disclosure make\"", "\"account list\"", 1);
    for (lines, expected) in
        [(changed, ChainFault::Changed(1)), (without(&text, entry), ChainFault::Missing(1))]
    {
        let error = restore(&place.database(), &lines, 7).await.unwrap_err();
        let BackupError::Chain { chain: Chain::StaffLog, fault } = error else { panic!("{error}") };
        assert_eq!(fault, expected);
        assert_eq!(Store::recorded_pool(place.database()).await, None);
    }
    let error = restore(&place.database(), &text, 8).await.unwrap_err();
    assert!(matches!(error, BackupError::Store(StoreError::WrongDataKey)), "{error}");
    assert_eq!(Store::recorded_pool(place.database()).await, None);
    restore(&place.database(), &text, 7).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_of_one_moment_while_others_write() {
    let fixture = Fixture::new().await;
    let writing = {
        let store = fixture.store.for_staff(UID);
        tokio::spawn(async move {
            for number in 0..300 {
                // Account, service and an entry of the staff log in one change.
                let email = email(&format!("c{number}@example.org"));
                store.add_account(&email, Confirmation::OfAge, None, NOW).await.unwrap();
            }
        })
    };
    let mut amounts = Vec::new();
    while !writing.is_finished() {
        let (summary, lines) = dump(&fixture.store).await;
        let dir = tempfile::tempdir().unwrap();
        restore(&file_in(dir.path()), &lines, 7).await.unwrap();
        let copy = open(&file_in(dir.path())).await;
        let count = usize::try_from(summary.accounts).unwrap();
        assert_eq!(copy.accounts().await.unwrap().len(), count);
        // And the entry that tells of the restore.
        assert_eq!(copy.staff_log(None, 0, 1000).await.unwrap().len(), count + 1);
        amounts.push(count);
        copy.close().await;
    }
    writing.await.unwrap();
    assert!(amounts.iter().any(|amount| (1..300).contains(amount)), "{amounts:?}");
}

#[tokio::test]
async fn letters_of_rules_that_waited_are_held_and_not_sent_twice() {
    let fixture = Fixture::new().await;
    fixture.account().await;
    fixture.store.post_trial(&email("boss@example.org"), NOW).await.unwrap();
    let queued = "INSERT INTO letters (kind, account_id, rules_version, queued_at, state, state_since, due_at, attempts)
         VALUES ('rules-change', 1, 1, 1, 'queued', 1, 1, 0)";
    let rules =
        "INSERT INTO rules (version, published_at, effective_at, significant, summary, body)
         VALUES (1, 1, 1, 1, 'x', 'y')";
    fixture.execute(rules).await;
    fixture.execute(queued).await;
    let (_, lines) = dump(&fixture.store).await;
    let place = Place::new();
    assert_eq!(restore(&place.database(), &lines, 7).await.unwrap().held_letters, 1);
    let store = open(&place.database()).await;
    assert_eq!(store.retry_letters(UnixSeconds(NOW.0 + 90)).await.unwrap(), 1);
}

/// Letters that tell of rules and may go out.
async fn rules_letters_due(store: &Store) -> u64 {
    store.letter_progress(NOW).await.unwrap().iter().map(|version| version.queued).sum()
}

#[tokio::test]
async fn clause_11_letter_that_may_have_been_sent_after_the_backup_waits_for_an_operator() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    store.publish_default_rules(NOW).await.unwrap();
    let [written, refused, unwritten] = ["ann@example.org", "ben@example.org", "cleo@example.org"];
    let [written, refused] = [add_account(store, written).await, add_account(store, refused).await];
    let day = UnixSeconds((NOW.0 / 86_400 + 30) * 86_400);
    let draft = draft("# Rules\n\n## 1. Data\n\nLess.\n", day, true);
    store.publish_rules(&draft, Some(Duration::ZERO), later(1)).await.unwrap();
    let sql = format!("UPDATE letters SET state = 'refused' WHERE account_id = {}", refused.0);
    fixture.execute(&sql).await;
    // Its letter is written within an hour: after the backup.
    let unwritten = add_account(store, unwritten).await;
    let (_, lines) = dump(store).await;

    let place = Place::new();
    assert_eq!(restore(&place.database(), &lines, 7).await.unwrap().held_letters, 3);
    let restored = open(&place.database()).await;
    assert_eq!(restored.queue_missing_letters(later(3600)).await.unwrap(), 0);
    for (account, to) in [(written, "a"), (refused, "b"), (unwritten, "c")] {
        let address = email(&format!("{to}@example.net"));
        restored.change_email(account, &address, later(3600)).await.unwrap();
    }
    assert_eq!(rules_letters_due(&restored).await, 0);
    let held = restored.letters_to_look_after(10).await.unwrap();
    assert!(held.len() == 3 && held.iter().all(|letter| letter.is_held));
    assert_eq!(restored.retry_letters(later(3600)).await.unwrap(), 3);
    assert_eq!(rules_letters_due(&restored).await, 3);
}
