use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use proptest::prelude::*;
use sqlx::{AnyConnection, AssertSqlSafe, Executor};
use tacit_accounts::{AccountId, Store, StoreError, TunnelPool};
use tacit_messages::{UnixSeconds, clock::Instant};

use crate::{
    Fixture, NOW, ON, On, add_account, add_device, add_device_at, later, name, open, pool,
};

const DAY: u64 = 24 * 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn two_concurrent_adds_never_share_an_address() {
    let fixture = Fixture::new().await;
    let networks = pool("10.66.0.0/16", "fd66:7ac1:7::/64");
    let mut adds = Vec::new();
    for handle in 0..2 {
        let store = open(&fixture.path, networks).await.unwrap().with_device_limit(100);
        let account = add_account(&store, &format!("customer{handle}@example.org")).await;
        for number in 0..100 {
            let store = store.clone();
            let add =
                async move { add_device(&store, account, &number.to_string()).await.unwrap() };
            adds.push(tokio::spawn(add));
        }
    }
    let mut v4 = BTreeSet::new();
    let mut v6 = BTreeSet::new();
    for add in adds {
        let device = add.await.unwrap();
        v4.insert(device.tunnel_v4);
        v6.insert(device.tunnel_v6);
    }
    assert_eq!((v4.len(), v6.len()), (200, 200));
    assert_eq!(v4.last(), Some(&networks.addresses(201).0), "an address was skipped");
}

#[tokio::test]
async fn address_is_not_reissued_for_24_hours() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let first = add_device(&fixture.store, account, "first").await.unwrap();
    fixture.store.remove_device(account, &name("first"), NOW).await.unwrap();
    let early = add_device_at(&fixture.store, account, "early", later(DAY - 1)).await.unwrap();
    assert_ne!(early.tunnel_v4, first.tunnel_v4);
    assert_ne!(early.tunnel_v6, first.tunnel_v6);
    let late = add_device_at(&fixture.store, account, "late", later(DAY)).await.unwrap();
    assert_eq!((late.tunnel_v4, late.tunnel_v6), (first.tunnel_v4, first.tunnel_v6));
}

#[tokio::test]
async fn full_pool_says_so() {
    let fixture = Fixture::with_pool(pool("10.66.0.0/29", "fd66::/64")).await;
    let account = fixture.account().await;
    for number in 2..=6 {
        let device = add_device(&fixture.store, account, &number.to_string()).await.unwrap();
        assert_eq!(device.tunnel_v4, Ipv4Addr::new(10, 66, 0, number));
    }
    let store = fixture.store.clone().with_device_limit(99);
    let error = add_device(&store, account, "one too many").await.unwrap_err();
    assert!(matches!(error, StoreError::PoolFull { setting: "tunnel-v4" }));
    assert!(error.to_string().contains("`tunnel-v4`"), "{error}");
    store.remove_device(account, &name("4"), NOW).await.unwrap();
    let error = add_device(&store, account, "too early").await.unwrap_err();
    assert!(matches!(error, StoreError::PoolFull { .. }));
    let device = add_device_at(&store, account, "in time", later(DAY)).await.unwrap();
    assert_eq!(device.tunnel_v4, Ipv4Addr::new(10, 66, 0, 4));
}

#[tokio::test]
async fn full_ipv6_network_is_named() {
    let fixture = Fixture::with_pool(pool("10.66.0.0/16", "fd66::/126")).await;
    let account = fixture.account().await;
    for device in ["phone", "laptop"] {
        add_device(&fixture.store, account, device).await.unwrap();
    }
    let error = add_device(&fixture.store, account, "tv").await.unwrap_err();
    assert!(matches!(error, StoreError::PoolFull { setting: "tunnel-v6" }));
}

#[tokio::test]
async fn growing_the_network_makes_room() {
    let fixture = Fixture::with_pool(pool("10.66.0.0/30", "fd66::/64")).await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    add_device(&fixture.store, account, "laptop").await.unwrap_err();
    let store = open(&fixture.path, pool("10.66.0.0/24", "fd66::/64")).await.unwrap();
    let device = add_device(&store, account, "laptop").await.unwrap();
    assert_eq!(device.tunnel_v4, Ipv4Addr::new(10, 66, 0, 3));
}

/// A million registered devices, five of each account, and a hundred thousand freed addresses, half of them in quarantine.
async fn fill(fixture: &Fixture) {
    let mut database = fixture.database().await;
    // Two ways to leave out what takes time and tells nothing here, and to say 32 bytes of a number.
    let (before, bytes) = match ON {
        On::Sqlite => ("PRAGMA synchronous = OFF", "CAST(printf('%032d', i) AS BLOB)"),
        On::Postgres => {
            ("SET session_replication_role = 'replica'", "decode(lpad(to_hex(i), 64, '0'), 'hex')")
        }
    };
    let statement = |sql: String| sqlx::raw_sql(AssertSqlSafe(sql));
    database.execute(statement(before.into())).await.unwrap();
    // In pieces: a server keeps for the length of a transaction what other tests have it remove.
    for piece in 0..20 {
        let accounts = format!(
            "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {0} + 9999)
             INSERT INTO accounts (id, email, email_hash, confirmation, created_at)
             SELECT i, {bytes}, {bytes}, 'of-age', 0 FROM n",
            20 + piece * 10_000
        );
        let devices = format!(
            "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {0} + 49999)
             INSERT INTO devices (id, account_id, name, public_key, preshared_key, address_offset, created_at)
             SELECT i, i / 5, 'device ' || i, {bytes}, {bytes}, i, 0 FROM n",
            100 + piece * 50_000
        );
        for sql in [accounts, devices] {
            database.execute(statement(sql)).await.unwrap();
        }
    }
    for sql in [
        "WITH RECURSIVE n(i) AS (SELECT 1000100 UNION ALL SELECT i + 1 FROM n WHERE i < 1100099)
         INSERT INTO freed_addresses SELECT i, CASE WHEN i < 1050100 THEN 99999999999 END FROM n",
        "UPDATE tunnel_pool SET next_offset = 1100100, next_device_id = 1000100",
        // As a server would have done by itself by then.
        if ON == On::Postgres { "ANALYZE" } else { "SELECT 1" },
    ] {
        database.execute(statement(sql.into())).await.unwrap();
    }
}

/// Adds and finds a device, and returns how long that took.
async fn add_and_find(store: &Store, account: AccountId, number: u32) -> Duration {
    let began_at = Instant::now();
    let device = add_device(store, account, &number.to_string()).await.unwrap();
    let key = device.public_key.as_bytes();
    assert!(store.device_by_public_key(key, NOW).await.unwrap().is_some());
    Instant::now().since(began_at)
}

/// Goes through all devices, and returns how long that took.
async fn scan(database: &mut AnyConnection) -> Duration {
    let began_at = Instant::now();
    let scan = sqlx::query_scalar("SELECT COUNT(*) FROM devices WHERE created_at < 0");
    let found: i64 = scan.fetch_one(database).await.unwrap();
    assert_eq!(found, 0);
    Instant::now().since(began_at)
}

#[tokio::test]
async fn a_million_devices_slow_nothing_down() {
    const ADDS: u32 = 50;
    let networks = || pool("10.0.0.0/8", "fd66::/64");
    let fixture = Fixture::with_pool(networks()).await;
    fill(&fixture).await;
    let store = fixture.store.clone().with_device_limit(ADDS);
    let account = add_account(&store, "bob@example.org").await;
    let mut database = fixture.database().await;
    // In turn, so that whatever else the machine does slows both down.
    let (mut adds, mut scans) = (Duration::ZERO, Duration::ZERO);
    for number in 0..ADDS {
        adds += add_and_find(&store, account, number).await;
        scans += scan(&mut database).await;
    }
    let open = open(&fixture.path, networks()).await.unwrap();
    assert_eq!(open.devices(account).await.unwrap().len(), ADDS as usize);
    assert!(adds < scans / 2, "{adds:?} for {ADDS} adds, {scans:?} for as many scans");
}

/// What the store must do, in the simplest words.
#[derive(Default)]
struct Model {
    taken: BTreeSet<u32>,
    removed_at: BTreeMap<u32, UnixSeconds>,
}

impl Model {
    fn add(&mut self, pool: TunnelPool, now: UnixSeconds) -> Option<u32> {
        let offset = (2..2 + pool.capacity()).find(|offset| {
            let quarantined =
                self.removed_at.get(offset).is_some_and(|removed_at| now.0 < removed_at.0 + DAY);
            !self.taken.contains(offset) && !quarantined
        })?;
        self.taken.insert(offset);
        Some(offset)
    }

    fn remove(&mut self, offset: u32, now: UnixSeconds) {
        self.taken.remove(&offset);
        self.removed_at.insert(offset, now);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add,
    /// The n-th of the devices there are.
    Remove(prop::sample::Index),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Add),
        3 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => (1..DAY).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn addresses_are_issued_as_the_model_says(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(steps))?;
    }
}

async fn follow(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let networks = pool("10.66.0.0/28", "fd66::/64");
    let fixture = Fixture::with_pool(networks).await;
    let store = fixture.store.clone().with_device_limit(99);
    let account = fixture.account().await;
    let mut model = Model::default();
    let mut now = NOW;
    for step in steps {
        match step {
            Step::Wait(seconds) => now = UnixSeconds(now.0 + seconds),
            Step::Add => {
                let Some(offset) = model.add(networks, now) else {
                    let full = add_device_at(&store, account, "one too many", now).await;
                    let full = matches!(full, Err(StoreError::PoolFull { .. }));
                    prop_assert!(full);
                    continue;
                };
                let device = add_device_at(&store, account, &offset.to_string(), now).await;
                let device = device.unwrap();
                prop_assert_eq!((device.tunnel_v4, device.tunnel_v6), networks.addresses(offset));
            }
            Step::Remove(index) if !model.taken.is_empty() => {
                let offset = *index.get(&model.taken.iter().copied().collect::<Vec<_>>());
                model.remove(offset, now);
                store.remove_device(account, &name(&offset.to_string()), now).await.unwrap();
            }
            Step::Remove(_) => {}
        }
    }
    Ok(())
}
