//! What is particular to a store in a database of a PostgreSQL server.

use tacit_accounts::{Database, Store, StoreError};

use crate::{Fixture, NOW, Place, add_account, add_device, data_keys, open, pool};

#[tokio::test(flavor = "multi_thread")]
async fn many_gateways_that_start_at_once_make_one_store() {
    let place = Place::new();
    let opens: Vec<_> = (0..20)
        .map(|_| {
            let database = place.database();
            let networks = pool("10.66.0.0/16", "fd66::/64");
            tokio::spawn(async move { open(&database, networks).await })
        })
        .collect();
    for open in opens {
        open.await.unwrap().unwrap().close().await;
    }
    let applied: i64 =
        sqlx::query_scalar("SELECT COUNT(*) - COUNT(DISTINCT version) FROM _sqlx_migrations")
            .fetch_one(&mut place.connect().await)
            .await
            .unwrap();
    assert_eq!(applied, 0, "a version was applied twice");
}

#[tokio::test]
async fn wrong_key_is_refused_and_nothing_is_written() {
    let fixture = Fixture::new().await;
    fixture.account().await;
    let before: i64 = sqlx::query_scalar("SELECT id FROM data_keys")
        .fetch_one(&mut fixture.database().await)
        .await
        .unwrap();
    let networks = pool("10.77.0.0/16", "fd77::/64");
    let error = Store::open(&fixture.path, networks, data_keys(8)).await.unwrap_err();
    assert!(matches!(error, StoreError::WrongDataKey), "{error}");
    let after: Vec<i64> = sqlx::query_scalar("SELECT id FROM data_keys")
        .fetch_all(&mut fixture.database().await)
        .await
        .unwrap();
    assert_eq!(after, [before]);
    let networks = Store::recorded_pool(&fixture.path).await;
    assert_eq!(networks, Some(pool("10.66.0.0/16", "fd66:7ac1:7::/64")));
}

#[tokio::test]
async fn server_that_is_not_there_is_told_in_a_line() {
    let server = "postgres://tacit@%2Fnonexistent/tacit".parse().unwrap();
    let networks = pool("10.66.0.0/16", "fd66::/64");
    let error = open(&Database::Postgres(server), networks).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("`database`") && !told.contains('\n'), "{told}");
}

#[tokio::test]
async fn store_goes_on_after_the_server_has_dropped_its_connections() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    add_device(&fixture.store, account, "phone").await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid != pg_backend_pid()";
    fixture.execute(sql).await;
    assert_eq!(fixture.count("devices").await, 1);
    add_device(&fixture.store, account, "laptop").await.unwrap();
    add_account(&fixture.store, "bob@example.org").await;
    assert_eq!(fixture.store.devices(account).await.unwrap().len(), 2);
    fixture.store.alive(NOW).await.unwrap();
}
