//! Gateways that share a store.

use std::time::Duration;

use tacit_accounts::{
    AccountId, Entrance, PRESUMED_DEAD_AFTER, SessionChange, Start, Store, StoreError,
};
use tacit_keys::PresharedKey;
use tacit_messages::{DeviceId, UnixSeconds};

use crate::{Fixture, NOW, add_account, add_device, email, ip, later, name, new_key, open, pool};

/// When a gateway that was last heard of at the begin is taken for dead.
fn presumed_dead() -> UnixSeconds {
    NOW.plus(PRESUMED_DEAD_AFTER)
}

async fn gateway(fixture: &Fixture, name: &str) -> Store {
    gateway_at(fixture, name, NOW).await.unwrap().store
}

/// A gateway in a data directory that is named as it is.
async fn gateway_at(fixture: &Fixture, name: &str, now: UnixSeconds) -> Result<Start, StoreError> {
    fixture.store.clone().for_gateway(name, &format!("of {name}"), None, now).await
}

async fn connected(store: &Store, account: AccountId, name: &str, at: UnixSeconds) -> DeviceId {
    let device = add_device(store, account, name).await.unwrap().id;
    store.session_began(device, ip("192.0.2.7"), at).await.unwrap();
    device
}

async fn ends(store: &Store, account: AccountId) -> Vec<Option<UnixSeconds>> {
    let sessions = store.sessions(account).await.unwrap();
    sessions.into_iter().map(|session| session.ended_at).collect()
}

#[tokio::test]
async fn start_closes_only_the_gateways_own_sessions() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let account = fixture.account().await;
    connected(&oslo, account, "phone", NOW).await;
    connected(&rome, account, "laptop", later(1)).await;
    oslo.alive(later(20)).await.unwrap();
    rome.alive(later(30)).await.unwrap();
    let start = gateway_at(&fixture, "oslo", later(60)).await.unwrap();
    assert_eq!(start.closed, 1);
    assert_eq!(ends(&oslo, account).await, [Some(later(20)), None]);
}

#[tokio::test]
async fn device_can_be_at_two_gateways_and_each_ends_its_own_session() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let account = fixture.account().await;
    let device = connected(&oslo, account, "phone", NOW).await;
    rome.session_began(device, ip("192.0.2.7"), later(5)).await.unwrap();
    oslo.session_ended(device, later(9)).await.unwrap();
    assert_eq!(ends(&oslo, account).await, [Some(later(9)), None]);
    assert_eq!(rome.close_open_sessions_at(later(12)).await.unwrap(), 1);
    assert_eq!(ends(&oslo, account).await, [Some(later(9)), Some(later(12))]);
}

#[tokio::test]
async fn sessions_of_a_dead_gateway_end_when_it_was_last_alive() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let account = fixture.account().await;
    connected(&oslo, account, "phone", NOW).await;
    oslo.alive(later(20)).await.unwrap();
    connected(&oslo, account, "tablet", later(25)).await;
    connected(&rome, account, "laptop", later(30)).await;
    let too_early = presumed_dead().plus(Duration::from_secs(19));
    rome.alive(too_early).await.unwrap();
    assert_eq!(rome.close_sessions_of_the_dead(too_early).await.unwrap(), 0);
    let late = presumed_dead().plus(Duration::from_secs(20));
    assert_eq!(rome.close_sessions_of_the_dead(late).await.unwrap(), 2);
    assert_eq!(ends(&rome, account).await, [Some(later(20)), Some(later(25)), None]);
    assert_eq!(rome.close_sessions_of_the_dead(late).await.unwrap(), 0);
    let start = gateway_at(&fixture, "oslo", late).await.unwrap();
    assert_eq!(start.closed, 0);
    assert_eq!(ends(&rome, account).await, [Some(later(20)), Some(later(25)), None]);
}

#[tokio::test]
async fn gateway_that_was_only_cut_off_corrects_what_others_closed() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let account = fixture.account().await;
    let phone = connected(&oslo, account, "phone", NOW).await;
    connected(&oslo, account, "laptop", later(1)).await;
    let late = presumed_dead();
    assert_eq!(rome.close_sessions_of_the_dead(late).await.unwrap(), 2);
    assert_eq!(ends(&rome, account).await, [Some(NOW), Some(later(1))]);
    // An end that waited is written first; the other session goes on.
    oslo.session_ended(phone, later(100)).await.unwrap();
    oslo.alive(late).await.unwrap();
    assert_eq!(ends(&rome, account).await, [Some(later(100)), None]);
}

#[tokio::test]
async fn name_is_one_gateways_while_it_runs() {
    let fixture = Fixture::new().await;
    let oslo = gateway(&fixture, "oslo").await;
    let account = fixture.account().await;
    connected(&oslo, account, "phone", NOW).await;
    let other = |now| fixture.store.clone().for_gateway("oslo", "of another", None, now);
    let error = other(later(60)).await.unwrap_err();
    assert!(matches!(error, StoreError::GatewayNameTaken), "{error}");
    assert!(error.to_string().contains("`gateway-name`"), "{error}");
    assert_eq!(ends(&oslo, account).await, [None]);
    assert_eq!(other(presumed_dead()).await.unwrap().closed, 1);
    assert_eq!(ends(&oslo, account).await, [Some(NOW)]);
}

#[tokio::test]
async fn renamed_gateway_closes_what_it_left_open_under_its_former_name() {
    let fixture = Fixture::new().await;
    let oslo = gateway(&fixture, "oslo").await;
    let account = fixture.account().await;
    connected(&oslo, account, "phone", NOW).await;
    let renamed = fixture.store.clone().for_gateway("bergen", "of oslo", None, later(9)).await;
    assert_eq!(renamed.unwrap().closed, 1);
    assert_eq!(ends(&oslo, account).await, [Some(NOW)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_start_at_once_are_told_apart() {
    let fixture = Fixture::new().await;
    let starts: Vec<_> = (0..10)
        .map(|number| {
            let (path, pool) = (fixture.path.clone(), pool("10.66.0.0/16", "fd66:7ac1:7::/64"));
            tokio::spawn(async move {
                let store = open(path, pool).await?;
                // Two of them have a name in common.
                let name = format!("gateway {}", number % 9);
                store.for_gateway(&name, &format!("directory {number}"), None, NOW).await.map(drop)
            })
        })
        .collect();
    let mut refused = 0;
    for start in starts {
        match start.await.unwrap() {
            Ok(()) => {}
            Err(StoreError::GatewayNameTaken) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((refused, fixture.count("gateways").await), (1, 9));
}

#[tokio::test]
async fn data_key_is_changed_by_a_gateway_alone() {
    let fixture = Fixture::new().await;
    let (oslo, _rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    assert!(matches!(oslo.check_alone(later(60)).await, Err(StoreError::OtherGatewaysRun)));
    oslo.check_alone(presumed_dead()).await.unwrap();
}

#[tokio::test]
async fn group_that_was_written_before_is_not_written_again() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap().id;
    let mut recorder = fixture.store.session_recorder().await.unwrap();
    // The answer to the first try is lost on the way to this one.
    let mut tries_again = fixture.store.session_recorder().await.unwrap();
    let began = |at| SessionChange::Began { device, connecting_ip: ip("192.0.2.7"), at };
    let group = [began(NOW), SessionChange::Ended { device, last_seen_at: later(5) }];
    recorder.record(&group, NOW).await.unwrap();
    tries_again.record(&group, NOW).await.unwrap();
    assert_eq!(ends(&fixture.store, account).await, [Some(later(5))]);
    tries_again.record(&[began(later(7))], NOW).await.unwrap();
    assert_eq!(ends(&fixture.store, account).await, [Some(later(5)), None]);
}

#[tokio::test]
async fn group_is_written_in_order() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let device = add_device(&fixture.store, account, "phone").await.unwrap().id;
    let laptop = add_device(&fixture.store, account, "laptop").await.unwrap().id;
    let began = |device, at| SessionChange::Began { device, connecting_ip: ip("192.0.2.7"), at };
    let changes = [
        began(device, NOW),
        began(laptop, later(1)),
        SessionChange::Ended { device, last_seen_at: later(2) },
        began(device, later(3)),
        SessionChange::AllEnded { at: later(4) },
        began(laptop, later(5)),
    ];
    let mut recorder = fixture.store.session_recorder().await.unwrap();
    assert_eq!(recorder.record(&changes, NOW).await.unwrap(), []);
    let expected = [Some(later(2)), Some(later(4)), Some(later(4)), None];
    assert_eq!(ends(&fixture.store, account).await, expected);
}

#[tokio::test]
async fn device_that_began_after_it_was_removed_or_rotated_is_named_to_be_cut() {
    let fixture = Fixture::new().await;
    let account = fixture.account().await;
    let mut began = Vec::new();
    for device in ["phone", "laptop", "tablet"] {
        let device = add_device(&fixture.store, account, device).await.unwrap().id;
        began.push(SessionChange::Began { device, connecting_ip: ip("192.0.2.7"), at: NOW });
    }
    let removed = fixture.store.remove_device(account, &name("phone"), NOW).await.unwrap();
    let preshared_key = PresharedKey::generate();
    let rotated =
        fixture.store.rotate_device(account, &name("laptop"), new_key(), &preshared_key, NOW).await;
    let mut recorder = fixture.store.session_recorder().await.unwrap();
    let unwelcome = recorder.record(&began, NOW).await.unwrap();
    assert_eq!(unwelcome, [removed, rotated.unwrap().0]);
    assert_eq!(ends(&fixture.store, account).await.len(), 2);
}

#[tokio::test]
async fn removal_rotation_and_cancellation_count_as_changes_for_every_gateway() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let account = fixture.account().await;
    let other = add_account(store, "bob@example.org").await;
    let phone = add_device(store, account, "phone").await.unwrap().id;
    let laptop = add_device(store, account, "laptop").await.unwrap().id;
    let tv = add_device(store, other, "tv").await.unwrap().id;
    let devices = [phone, laptop, tv];
    assert_eq!(store.unwelcome(&devices, NOW).await.unwrap(), []);
    let before = store.device_changes().await.unwrap();
    store.remove_device(account, &name("phone"), NOW).await.unwrap();
    let preshared_key = PresharedKey::generate();
    store.rotate_device(account, &name("laptop"), new_key(), &preshared_key, NOW).await.unwrap();
    assert_eq!(store.device_changes().await.unwrap(), before + 2);
    store.cancel_account(other, NOW).await.unwrap();
    assert_eq!(store.device_changes().await.unwrap(), before + 3);
    assert_eq!(store.unwelcome(&devices, NOW).await.unwrap(), devices);
}

#[tokio::test]
async fn start_takes_no_letters_from_a_gateway_that_runs() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    fixture.store.post_trial(&email("boss@example.org"), NOW).await.unwrap();
    let state = "SELECT COUNT(*) FROM letters WHERE state = 'sending'";
    let is_sending = async || -> i64 {
        sqlx::query_scalar(state).fetch_one(&mut fixture.database().await).await.unwrap()
    };
    let sent_by_oslo = "UPDATE letters SET state = 'sending',
        gateway_id = (SELECT id FROM gateways WHERE name = 'oslo')";
    fixture.execute(sent_by_oslo).await;
    rome.take_over_letters(later(1)).await.unwrap();
    assert_eq!(is_sending().await, 1);
    oslo.take_over_letters(later(1)).await.unwrap();
    assert_eq!(is_sending().await, 0);
}

/// Where devices connect to a gateway in a city.
fn entrance(city: &str) -> Entrance {
    Entrance {
        region: Some(city.parse().unwrap()),
        public_key: new_key(),
        endpoint: format!("{}.example.org:51820", city.to_lowercase()),
        dns: vec!["9.9.9.9".parse().unwrap(), "2620:fe::fe".parse().unwrap()],
        mtu: 1400,
    }
}

#[tokio::test]
async fn gateway_is_offered_by_the_others_while_it_runs() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    assert!(oslo.other_entrances(NOW).await.unwrap().is_empty(), "rome has not said where it is");
    let (of_oslo, of_rome) = (entrance("Oslo"), entrance("Rome"));
    rome.announce_entrance(&of_rome).await.unwrap();
    oslo.announce_entrance(&of_oslo).await.unwrap();
    let seen = (rome.gateway_number(), of_rome.clone());
    assert_eq!(oslo.other_entrances(NOW).await.unwrap(), [seen]);
    assert_eq!(rome.other_entrances(NOW).await.unwrap(), [(oslo.gateway_number(), of_oslo)]);

    let nameless = Entrance { region: None, mtu: 1280, ..of_rome };
    rome.announce_entrance(&nameless).await.unwrap();
    assert_eq!(oslo.other_entrances(NOW).await.unwrap()[0].1, nameless);
    assert!(oslo.other_entrances(presumed_dead()).await.unwrap().is_empty(), "it may be dead");
    oslo.set_draining("rome", true, NOW).await.unwrap();
    assert!(oslo.other_entrances(NOW).await.unwrap().is_empty(), "it takes nobody new");
    oslo.set_draining("rome", false, NOW).await.unwrap();
    assert_eq!(oslo.other_entrances(NOW).await.unwrap().len(), 1);
    rome.withdraw_entrance().await.unwrap();
    assert!(oslo.other_entrances(NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn gateway_whose_words_would_be_obeyed_by_a_program_is_not_offered() {
    let fixture = Fixture::new().await;
    let (oslo, rome) = (gateway(&fixture, "oslo").await, gateway(&fixture, "rome").await);
    let of_rome = entrance("Rome");
    let endpoint = "rome.example.org:51820\nPostUp = reboot".to_owned();
    rome.announce_entrance(&Entrance { endpoint, ..of_rome.clone() }).await.unwrap();
    assert!(oslo.other_entrances(NOW).await.unwrap().is_empty());
    rome.announce_entrance(&of_rome).await.unwrap();
    assert_eq!(oslo.other_entrances(NOW).await.unwrap().len(), 1);
}
