use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tacit_accounts::{Door, DoorError};
use tacit_keys::PresharedKey;
use tacit_messages::UnixSeconds;

use super::{PASSWORD, from, password, registered};
use crate::{Fixture, NOW, add_account, email, name, new_key, pool};

#[tokio::test]
async fn clause_7_log_in_is_throttled_alike_whether_or_not_there_is_an_account() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    registered(&fixture, &door, "ann@example.org").await;
    for address in ["ann@example.org", "nobody@example.org"] {
        let (address, mut answers) = (email(address), Vec::new());
        // More than it takes: the first waits are no longer than a busy machine takes over a password.
        for number in 0..10 {
            let from = from(&format!("198.51.100.{number}"));
            answers.push(door.log_in(store, &address, &password("wrong"), from).await.unwrap_err());
        }
        let is_wrong = |answer: &DoorError| matches!(answer, DoorError::Wrong);
        let has_to_wait = |answer: &DoorError| matches!(answer, DoorError::TooOften(_));
        assert!(answers[..5].iter().all(is_wrong), "{answers:?}");
        assert!(answers[5..].iter().any(has_to_wait), "{answers:?}");
        assert!(!format!("{answers:?}").contains("example"));
    }
    // Who did not guess is let in meanwhile.
    let (ann, elsewhere) = (email("ann@example.org"), from("192.0.2.7"));
    door.log_in(store, &ann, &password(PASSWORD), elsewhere).await.unwrap();
    // A network that tries many accounts has to wait as well.
    let mut refused = 0;
    for number in 0..40 {
        let address = email(&format!("guess{number}@example.org"));
        let tried = door.log_in(store, &address, &password("wrong"), from("203.0.113.77")).await;
        refused += u32::from(matches!(tried, Err(DoorError::TooOften(_))));
    }
    assert!((5..=10).contains(&refused), "{refused}");
}

/// What this process has had of the processors so far, however much of them others have.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
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
            let before = cpu_time();
            let answer = door.log_in(store, &email(address), &password("wrong"), from).await;
            assert!(matches!(answer, Err(DoorError::Wrong)));
            times[kind].push(cpu_time() - before);
        }
    }
    // Without hashing it would be a twentieth.
    let [known, unknown] = times.map(|times| times.into_iter().min().unwrap().as_secs_f64());
    assert!(unknown > known / 3.0 && known > unknown / 3.0, "{known} s and {unknown} s");
}

#[tokio::test]
async fn account_begins_five_changes_of_address_at_once_and_no_more() {
    let fixture = Fixture::new().await;
    let (store, door) = (&fixture.store, Door::new());
    let mut answers = Vec::new();
    for name in ["ann", "bob"] {
        let account = registered(&fixture, &door, &format!("{name}@example.org")).await;
        for number in 0..6 {
            let asked = email(&format!("{name}{number}@example.net"));
            answers.push(door.change_email(store, account, &password(PASSWORD), &asked).await);
        }
    }
    let is_used_up = |answer: &Result<_, DoorError>| matches!(answer, Err(DoorError::UsedUp(_)));
    let refused: Vec<_> = (0..answers.len()).filter(|n| is_used_up(&answers[*n])).collect();
    assert_eq!(refused, [5, 11], "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
}

#[tokio::test]
async fn account_that_adds_and_removes_devices_cannot_use_the_pool_up() {
    // 61 devices.
    let fixture = Fixture::with_pool(pool("10.66.0.0/26", "fd66:7ac1:7::/64")).await;
    let (store, door) = (&fixture.store, Door::new());
    let (eve, ann) = (fixture.account().await, add_account(store, "ben@example.org").await);
    let add = async |account, called: &str| {
        let psk = PresharedKey::generate();
        door.add_device(store, account, &name(called), new_key(), &psk).await
    };
    let mut added = 0;
    for _ in 0..70 {
        match add(eve, "phone").await {
            Ok(device) => {
                store.remove_device_numbered(eve, device.id, UnixSeconds::now()).await.unwrap();
                added += 1;
            }
            Err(error) => assert!(matches!(error, DoorError::UsedUp(_)), "{error}"),
        }
    }
    assert_eq!(added, 20);
    // One that the store refuses takes no address, and counts for nothing.
    let mut names = ["a", "b", "c", "d", "e"].into_iter().chain(std::iter::repeat_n("a", 30));
    for called in names.by_ref().take(5) {
        add(ann, called).await.unwrap();
    }
    for called in names {
        assert!(matches!(add(ann, called).await, Err(DoorError::Store(_))));
    }
}
