//! Whatever is done to staff log and disclosure register behind the gateway's back is seen.

use sqlx::AssertSqlSafe;
use tacit_accounts::{
    Basis, ChainFault, DataKind, Deed, DisclosureRequest, End, Progress, StoreError, Verdict,
};

use crate::{Fixture, NOW, add_account, later};

const STAFF: u32 = 1_234;

/// A store with seven entries in each chain.
async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let staff = fixture.store.for_staff(STAFF);
    for number in 1..=7 {
        let request = DisclosureRequest {
            account,
            basis: Basis::LawfulOrder,
            reference: format!("order {number}").parse().unwrap(),
            recipient: "a court".parse().unwrap(),
            secret_until: (number % 2 == 0).then(|| later(number)),
        };
        staff.disclose(&request, later(number)).await.unwrap();
    }
    fixture
}

async fn verdicts(fixture: &Fixture, noted: Option<End>) -> [Verdict; 2] {
    let store = &fixture.store;
    [store.verify_staff_log(noted).await.unwrap(), store.verify_disclosures(noted).await.unwrap()]
}

/// What is found after somebody has run `sql` on each list in turn.
async fn faults(sql: &[&str]) -> [ChainFault; 2] {
    let fixture = filled().await;
    let mut database = fixture.database().await;
    for table in ["staff_log", "disclosures"] {
        for sql in sql {
            let sql = AssertSqlSafe(sql.replace("LIST", table));
            let changed = sqlx::query(sql).execute(&mut database).await.unwrap();
            assert!(changed.rows_affected() > 0);
        }
    }
    verdicts(&fixture, None).await.map(|verdict| verdict.unwrap_err())
}

#[tokio::test]
async fn untouched_chains_are_whole() {
    let fixture = filled().await;
    for verdict in verdicts(&fixture, None).await {
        assert_eq!(verdict.unwrap().end.entries, 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn entries_that_many_write_at_once_are_one_chain() {
    let fixture = filled().await;
    let mut writing = Vec::new();
    for number in 0..40_u32 {
        let store = fixture.store.for_staff(number);
        writing.push(tokio::spawn(async move {
            let deed = Deed { verb: "account list", account: None, data: &[DataKind::Email] };
            store.note_look(deed, NOW).await.unwrap();
        }));
    }
    for one in writing {
        one.await.unwrap();
    }
    let log = fixture.store.staff_log(None, 7, 100).await.unwrap();
    assert_eq!(
        log.iter().map(|entry| entry.number).collect::<Vec<_>>(),
        (8..=47).collect::<Vec<_>>()
    );
    let mut who: Vec<_> = log.iter().map(|entry| entry.uid).collect();
    who.sort_unstable();
    assert_eq!(who, (0..40).collect::<Vec<_>>());
    assert_eq!(verdicts(&fixture, None).await[0].unwrap().end.entries, 47);
}

#[tokio::test]
async fn clause_7_changed_entry_is_named() {
    for sql in [
        "UPDATE LIST SET at = at + 1 WHERE number = 3",
        "UPDATE LIST SET uid = 0 WHERE number = 3",
        "UPDATE LIST SET account_id = 2 WHERE number = 3",
        "UPDATE LIST SET hash = (SELECT hash FROM LIST WHERE number = 4) WHERE number = 3",
    ] {
        assert_eq!(faults(&[sql]).await, [ChainFault::Changed(3); 2], "{sql}");
    }
}

#[tokio::test]
async fn first_of_several_changed_entries_is_named() {
    let sql = "UPDATE LIST SET at = at + 1 WHERE number IN (6, 2, 5)";
    assert_eq!(faults(&[sql]).await, [ChainFault::Changed(2); 2]);
}

#[tokio::test]
async fn clause_7_removed_entry_is_named() {
    for (number, rest) in [(1, ""), (4, ""), (7, "")] {
        let sql = format!("DELETE FROM LIST WHERE number = {number}{rest}");
        assert_eq!(faults(&[&sql]).await, [ChainFault::Missing(number); 2]);
    }
    let renumbered = [
        "DELETE FROM LIST WHERE number = 4",
        "UPDATE LIST SET number = number - 1 WHERE number > 4",
    ];
    assert_eq!(faults(&renumbered).await, [ChainFault::Changed(4); 2]);
}

#[tokio::test]
async fn cut_off_end_is_seen_by_the_head() {
    assert_eq!(faults(&["DELETE FROM LIST WHERE number > 5"]).await, [ChainFault::Missing(6); 2]);
    assert_eq!(faults(&["DELETE FROM LIST"]).await, [ChainFault::Missing(1); 2]);
}

#[tokio::test]
async fn clause_7_reordered_entries_are_named() {
    let swap = [
        "UPDATE LIST SET number = 99 WHERE number = 2",
        "UPDATE LIST SET number = 2 WHERE number = 5",
        "UPDATE LIST SET number = 5 WHERE number = 99",
    ];
    assert_eq!(faults(&swap).await, [ChainFault::Changed(2); 2]);
}

#[tokio::test]
async fn added_entry_is_named() {
    let fixture = filled().await;
    let sql = "INSERT INTO staff_log SELECT 8, at, uid, verb, account_id, data, hash FROM staff_log WHERE number = 7";
    sqlx::query(sql).execute(&mut fixture.database().await).await.unwrap();
    assert_eq!(verdicts(&fixture, None).await[0], Err(ChainFault::Added(8)));
}

#[tokio::test]
async fn head_that_is_gone_or_of_another_moment_is_seen() {
    for sql in [
        "DELETE FROM chains",
        "UPDATE chains SET entries = 5",
        "UPDATE chains SET state = substr(state, 1, 20)",
    ] {
        let fixture = filled().await;
        sqlx::query(sql).execute(&mut fixture.database().await).await.unwrap();
        assert_eq!(verdicts(&fixture, None).await, [Err(ChainFault::Head), Err(ChainFault::Head)]);
        let deed = Deed { verb: "x", account: None, data: &[DataKind::Email] };
        let refused = fixture.store.for_staff(STAFF).note_look(deed, NOW).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "a look goes unlogged");
    }
}

#[tokio::test]
async fn end_that_was_noted_shows_an_older_copy_put_back() {
    let fixture = filled().await;
    let mut database = fixture.database().await;
    for sql in [
        "CREATE TABLE older_log AS SELECT * FROM staff_log",
        "CREATE TABLE older_chains AS SELECT * FROM chains",
    ] {
        sqlx::query(sql).execute(&mut database).await.unwrap();
    }
    let account = add_account(&fixture.store.for_staff(STAFF), "bob@example.org").await;
    let noted = verdicts(&fixture, None).await[0].unwrap().end;
    assert_eq!(noted.entries, 8);
    assert_eq!(verdicts(&fixture, Some(noted)).await[0].unwrap().end, noted);

    for sql in [
        "DELETE FROM staff_log",
        "INSERT INTO staff_log SELECT * FROM older_log",
        "DELETE FROM chains",
        "INSERT INTO chains SELECT * FROM older_chains",
    ] {
        sqlx::query(sql).execute(&mut database).await.unwrap();
    }
    let store = &fixture.store;
    assert!(store.verify_staff_log(None).await.unwrap().is_ok(), "by itself nobody can see it");
    let seen = store.verify_staff_log(Some(noted)).await.unwrap();
    assert_eq!(seen, Err(ChainFault::NotedEnd(8)));
    // Also when the log has grown past it again.
    for _ in 0..3 {
        let deed = Deed::on(account, "device list", &[DataKind::Devices]);
        store.for_staff(STAFF).note_look(deed, NOW).await.unwrap();
    }
    let seen = store.verify_staff_log(Some(noted)).await.unwrap();
    assert_eq!(seen, Err(ChainFault::NotedEnd(8)));
}

#[tokio::test]
async fn chains_are_whole_after_a_change_of_the_data_key() {
    let fixture = filled().await;
    let before = verdicts(&fixture, None).await;
    let keys = fixture.store.data_keys().with_new();
    fixture.store.use_data_keys(keys.clone()).await.unwrap();
    add_account(&fixture.store.for_staff(STAFF), "bob@example.org").await;
    fixture.store.seal_anew(&Progress::default()).await.unwrap();
    fixture.store.use_data_keys(keys.without_former()).await.unwrap();
    let after = verdicts(&fixture, Some(before[0].unwrap().end)).await;
    assert_eq!(after[0].unwrap().end.entries, 8);
    assert_eq!(verdicts(&fixture, None).await[1], before[1]);
    let disclosures = fixture.store.disclosures(None).await.unwrap();
    assert_eq!(disclosures[6].reference.expose(), "order 7");
}

#[tokio::test]
async fn entries_whose_time_is_over_go_and_the_chain_stays_whole() {
    let fixture = filled().await;
    let record_time = std::time::Duration::from_secs(1000);
    let store = fixture.store.clone().with_times(record_time, record_time);
    let now = later(1004);
    let would = store.past_its_time(record_time, now).await.unwrap();
    assert_eq!((would.staff_entries, would.disclosures), (4, 4));
    assert_eq!(store.purge(record_time, now).await.unwrap(), would);
    for verdict in verdicts(&fixture, None).await {
        let whole = verdict.unwrap();
        assert_eq!((whole.removed, whole.end.entries), (4, 7));
    }
    assert_eq!(store.staff_log(None, 0, 9).await.unwrap()[0].number, 5);
    let sql = "DELETE FROM staff_log WHERE number = 5";
    sqlx::query(sql).execute(&mut fixture.database().await).await.unwrap();
    assert_eq!(verdicts(&fixture, None).await[0], Err(ChainFault::Missing(5)));
}
