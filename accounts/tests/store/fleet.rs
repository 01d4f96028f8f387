//! Gateways as their operators see and direct them.

use std::time::Duration;

use tacit_accounts::{PRESUMED_DEAD_AFTER, Store, StoreError, Turn};
use tacit_messages::UnixSeconds;

use crate::{Fixture, NOW, add_device, email, ip, later, post};

async fn gateway(fixture: &Fixture, name: &str) -> Store {
    let identity = format!("of {name}");
    fixture.store.clone().for_gateway(name, &identity, None, NOW).await.unwrap().store
}

#[tokio::test]
async fn gateways_are_listed_with_what_they_say_and_carry() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let account = fixture.account().await;
    let device = add_device(&oslo, account, "phone").await.unwrap().id;
    rome.session_began(device, ip("192.0.2.7"), NOW).await.unwrap();
    rome.note_capacity(Some(5000)).await.unwrap();
    let late = NOW.plus(PRESUMED_DEAD_AFTER);
    oslo.alive(late).await.unwrap();

    let fleet = oslo.fleet(late).await.unwrap();
    let told = |name: &str| fleet.iter().find(|gateway| gateway.name == name).unwrap().clone();
    let (here, there) = (told("oslo"), told("rome"));
    assert!(here.is_this && here.runs && !here.is_draining && here.sessions == 0);
    assert!(!there.is_this && !there.runs);
    assert_eq!((there.sessions, there.capacity, there.last_alive_at), (1, Some(5000), Some(NOW)));
}

#[tokio::test]
async fn gateway_learns_that_it_is_drained_and_that_it_is_not_any_more() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    oslo.for_staff(7).set_draining("rome", true, NOW).await.unwrap();
    assert!(rome.is_draining().await.unwrap() && !oslo.is_draining().await.unwrap());
    oslo.for_staff(7).set_draining("rome", false, NOW).await.unwrap();
    assert!(!rome.is_draining().await.unwrap());
    let unknown = oslo.set_draining("bern", true, NOW).await;
    assert!(matches!(unknown, Err(StoreError::NoSuchGateway)));
    let log = oslo.staff_log(None, 0, 10).await.unwrap();
    let verbs: Vec<_> = log.iter().map(|entry| entry.verb.as_str()).collect();
    assert_eq!(verbs, ["gateway drain", "gateway resume"]);
}

#[tokio::test]
async fn gateway_that_is_gone_is_removed_and_its_sessions_end_truthfully() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let account = fixture.account().await;
    let device = add_device(&oslo, account, "phone").await.unwrap().id;
    rome.session_began(device, ip("192.0.2.7"), NOW).await.unwrap();
    rome.alive(later(20)).await.unwrap();
    let running = oslo.remove_gateway("rome", later(30)).await;
    assert!(matches!(running, Err(StoreError::GatewayRuns)));
    let late = later(20).plus(PRESUMED_DEAD_AFTER);
    assert!(matches!(oslo.remove_gateway("oslo", late).await, Err(StoreError::GatewayRuns)));
    assert_eq!(oslo.for_staff(7).remove_gateway("rome", late).await.unwrap(), 1);
    let sessions = oslo.sessions(account).await.unwrap();
    assert_eq!(sessions[0].ended_at, Some(later(20)));
    assert!(oslo.fleet(late).await.unwrap().iter().all(|gateway| gateway.name != "rome"));
}

#[tokio::test]
async fn letters_that_a_removed_gateway_was_sending_are_in_doubt_or_due_again() {
    let fixture = post::with_customers(&["ann@example.org"]).await;
    let (oslo, now) = (gateway(&fixture, "oslo").await, UnixSeconds::now());
    oslo.alive(now).await.unwrap();
    let rome = gateway(&fixture, "rome").await;
    rome.alive(now).await.unwrap();
    rome.post_trial(&email("boss@example.org"), now).await.unwrap();
    fixture
        .execute(
            "UPDATE letters SET state = 'sending', gateway_id = (SELECT id FROM gateways WHERE name = 'rome')",
        )
        .await;
    let late = now.plus(PRESUMED_DEAD_AFTER);
    oslo.remove_gateway("rome", late).await.unwrap();
    assert_eq!(oslo.find_letters_in_doubt(late, late).await.unwrap(), 1);
    let states = "SELECT state FROM letters ORDER BY id";
    let mut database = fixture.database().await;
    let states: Vec<String> = sqlx::query_scalar(states).fetch_all(&mut database).await.unwrap();
    assert_eq!(states, ["doubtful", "queued"]);
}

#[tokio::test]
async fn work_for_all_is_taken_by_one_gateway_when_it_is_due() {
    const DAY: Duration = Duration::from_secs(86_400);
    const HOUR: Duration = Duration::from_secs(3_600);
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    assert!(oslo.take_turn(Turn::Purge, HOUR, NOW).await.unwrap());
    assert!(!rome.take_turn(Turn::Purge, HOUR, later(3_599)).await.unwrap());
    assert!(rome.take_turn(Turn::LookForSilent, HOUR, NOW).await.unwrap(), "other work is its own");
    // Oslo has not said that it is done, so that it is Rome's an hour later.
    assert!(rome.take_turn(Turn::Purge, HOUR, later(3_600)).await.unwrap());
    rome.end_turn(Turn::Purge, later(3_600).plus(DAY)).await.unwrap();
    assert!(!oslo.take_turn(Turn::Purge, HOUR, later(3_600 + 86_000)).await.unwrap());
    assert!(oslo.take_turn(Turn::Purge, HOUR, later(3_600 + 86_400)).await.unwrap());
}

#[tokio::test]
async fn turn_that_a_wrong_clock_took_is_not_lost() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let fixture = Fixture::new().await;
    let oslo = gateway(&fixture, "oslo").await;
    for ahead in [10_000_000, 6 * 3_600] {
        assert!(oslo.take_turn(Turn::LookForSilent, HOUR, later(ahead)).await.unwrap());
        assert!(oslo.take_turn(Turn::LookForSilent, HOUR, NOW).await.unwrap());
    }
    assert!(oslo.take_turn(Turn::Purge, HOUR, later(10_000_000)).await.unwrap());
    assert!(oslo.take_turn(Turn::Purge, HOUR, NOW).await.unwrap());
}
