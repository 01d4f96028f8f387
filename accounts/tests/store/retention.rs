use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

use proptest::prelude::*;
use tacit_accounts::PastItsTime;
use tacit_messages::UnixSeconds;

use crate::{Fixture, NOW, add_device, ip, later, name, new_key};

const DAY: u64 = 24 * 60 * 60;
const KEEP: Duration = Duration::from_secs(30 * DAY);

/// What a sealed value begins with: version, key and nonce.
const HEAD_LEN: usize = 29;

/// The heads that are found anywhere in the files of the store's directory.
pub(crate) fn found(dir: impl AsRef<Path>, heads: &HashSet<Vec<u8>>) -> usize {
    let files = fs::read_dir(dir).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
    let found: HashSet<Vec<u8>> = files
        .flat_map(|bytes| {
            let windows = bytes.windows(HEAD_LEN).filter(|window| heads.contains(*window));
            windows.map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    found.len()
}

/// What the sealed values begin with that `sql` selects.
pub(crate) async fn heads(fixture: &Fixture, sql: &str) -> HashSet<Vec<u8>> {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let values: Vec<Vec<u8>> =
        sqlx::query_scalar(sql).fetch_all(&mut fixture.database().await).await.unwrap();
    values.into_iter().map(|value| value[..HEAD_LEN].to_vec()).collect()
}

/// Many sessions of a few devices, so that the database has had to move rows about: one a minute.
pub(crate) async fn many_sessions(fixture: &Fixture, count: u64) {
    let account = fixture.account().await;
    let mut devices = Vec::new();
    for number in 0..5 {
        devices.push(add_device(&fixture.store, account, &number.to_string()).await.unwrap().id);
    }
    for minute in 0..count {
        let device = devices[minute as usize % devices.len()];
        fixture.store.session_began(device, ip("192.0.2.7"), later(minute * 60)).await.unwrap();
        if minute % 7 == 0 {
            let ended = devices[(minute as usize + 2) % devices.len()];
            fixture.store.session_ended(ended, later(minute * 60 + 30)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn sessions_past_their_time_are_gone_from_table_log_and_free_pages() {
    let fixture = Fixture::new().await;
    many_sessions(&fixture, 2000).await;
    let all = heads(&fixture, "SELECT connecting_ip FROM sessions").await;
    assert_eq!(found(fixture._dir.path(), &all), 2000, "the search misses what is there");
    let now = later(1500 * 60 + 30 * DAY);
    let would = fixture.store.past_its_time(KEEP, now).await.unwrap();
    let removed = fixture.store.purge(KEEP, now).await.unwrap();
    assert_eq!(removed, would);
    assert!((1400..1500).contains(&removed.sessions), "{removed:?}");
    let kept = heads(&fixture, "SELECT connecting_ip FROM sessions").await;
    assert_eq!(kept.len() as u64, 2000 - removed.sessions);
    let gone: HashSet<_> = all.difference(&kept).cloned().collect();
    assert_eq!(found(fixture._dir.path(), &gone), 0, "removed values are still in the files");
    assert_eq!(found(fixture._dir.path(), &kept), kept.len());
    assert!(fixture.store.purge(KEEP, now).await.unwrap().is_nothing());
}

#[tokio::test]
async fn counting_removes_nothing() {
    let fixture = Fixture::new().await;
    many_sessions(&fixture, 20).await;
    let would = fixture.store.past_its_time(Duration::ZERO, later(100 * DAY)).await.unwrap();
    assert_eq!(would.sessions, 15, "five are open");
    let account = tacit_accounts::AccountId(1);
    assert_eq!(fixture.store.sessions(account).await.unwrap().len(), 20);
}

#[tokio::test]
async fn former_number_goes_with_its_last_session() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let account = fixture.account().await;
    let device = add_device(store, account, "phone").await.unwrap();
    store.session_began(device.id, ip("192.0.2.7"), NOW).await.unwrap();
    store.session_ended(device.id, later(60)).await.unwrap();
    let keys = tacit_keys::PresharedKey::generate();
    store.rotate_device(account, &name("phone"), new_key(), &keys, later(70)).await.unwrap();

    let early = store.purge(KEEP, later(59 + 30 * DAY)).await.unwrap();
    assert!(early.is_nothing(), "{early:?}");
    assert_eq!(store.sessions(account).await.unwrap()[0].device_name, Some(name("phone")));
    let due = store.purge(KEEP, later(60 + 30 * DAY)).await.unwrap();
    assert_eq!(due, PastItsTime { sessions: 1, ..PastItsTime::default() });
    let due = store.purge(KEEP, later(70 + 30 * DAY)).await.unwrap();
    assert_eq!(due, PastItsTime { former_numbers: 1, ..PastItsTime::default() });
}

#[tokio::test]
async fn quarantine_that_is_over_goes() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    fixture.store.remove_device(account, &name("phone"), NOW).await.unwrap();
    assert!(fixture.store.purge(KEEP, later(DAY - 1)).await.unwrap().is_nothing());
    let due = fixture.store.purge(KEEP, later(DAY)).await.unwrap();
    assert_eq!(due, PastItsTime { quarantines: 1, ..PastItsTime::default() });
}

#[tokio::test]
async fn removed_devices_preshared_key_is_out_of_the_files_after_a_purge() {
    let fixture = Fixture::new().await;
    many_sessions(&fixture, 10).await;
    let all = heads(&fixture, "SELECT preshared_key FROM devices").await;
    let account = tacit_accounts::AccountId(1);
    fixture.store.remove_device(account, &name("3"), NOW).await.unwrap();
    let kept = heads(&fixture, "SELECT preshared_key FROM devices").await;
    fixture.store.purge(KEEP, NOW).await.unwrap();
    let gone: HashSet<_> = all.difference(&kept).cloned().collect();
    assert_eq!((gone.len(), found(fixture._dir.path(), &gone)), (1, 0));
}

#[tokio::test]
async fn oldest_end_is_known() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.store.oldest_session_end().await.unwrap(), None);
    many_sessions(&fixture, 10).await;
    assert_eq!(fixture.store.oldest_session_end().await.unwrap(), Some(later(5 * 60)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Each session: of which device, how long after the one before it began, and how long it lasts, if it ends.
    #[test]
    fn exactly_the_sessions_past_their_time_go(
        sessions in prop::collection::vec((0..4u64, 0..20 * DAY, prop::option::of(0..3 * DAY)), 1..30),
        keep_days in 0..60u64,
        wait in 0..90 * DAY,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(sessions, Duration::from_secs(keep_days * DAY), wait))?;
    }
}

async fn follow(
    sessions: Vec<(u64, u64, Option<u64>)>,
    keep: Duration,
    wait: u64,
) -> Result<(), TestCaseError> {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let mut devices = Vec::new();
    for number in 0..4 {
        devices.push(add_device(&fixture.store, account, &number.to_string()).await.unwrap().id);
    }
    // When each session ends; the next one of its device ends one that is open.
    let mut ends: Vec<Option<UnixSeconds>> = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    let mut now = NOW;
    for (device, after, lasts) in sessions {
        now = UnixSeconds(now.0 + after);
        if let Some(former) = open.remove(&device) {
            ends[former] = Some(now);
        }
        let id = devices[device as usize];
        fixture.store.session_began(id, ip("192.0.2.7"), now).await.unwrap();
        let end = lasts.map(|lasts| UnixSeconds(now.0 + lasts));
        ends.push(end);
        match end {
            Some(end) => fixture.store.session_ended(id, end).await.unwrap(),
            None => drop(open.insert(device, ends.len() - 1)),
        }
    }
    now = UnixSeconds(now.0 + wait);
    let is_kept = |end: &Option<UnixSeconds>| end.is_none_or(|end| end.0 + keep.as_secs() > now.0);
    let mut expected: Vec<_> = ends.into_iter().filter(is_kept).collect();
    fixture.store.purge(keep, now).await.unwrap();
    let left = fixture.store.sessions(account).await.unwrap();
    let mut left: Vec<_> = left.into_iter().map(|session| session.ended_at).collect();
    left.sort();
    expected.sort();
    prop_assert_eq!(left, expected);
    Ok(())
}
