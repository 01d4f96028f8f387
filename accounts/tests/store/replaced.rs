//! A gateway that was taken for dead and is back: others have gone on without it.

use std::time::Duration;

use tacit_accounts::{
    AccountId, Device, PRESUMED_DEAD_AFTER, Progress, SessionChange, SessionRecorder, Store,
    StoreError, post::DeliveryError, post::Postman,
};
use tacit_messages::UnixSeconds;
use tacit_tests::mail_server::{Habits, MailServer};

use crate::{
    Fixture, NOW, add_device, data_keys, email, ip, later, open, pool,
    post::{mail, with_customers},
};

/// When a gateway that was last heard of at the begin is taken for dead.
fn presumed_dead() -> UnixSeconds {
    NOW.plus(PRESUMED_DEAD_AFTER)
}

/// A gateway with connections of its own, called `name`, whose directory is `identity`'s.
async fn gateway(fixture: &Fixture, name: &str, identity: &str, now: UnixSeconds) -> Store {
    let store = open(&fixture.path, pool("10.66.0.0/16", "fd66:7ac1:7::/64")).await.unwrap();
    store.for_gateway(name, identity, None, now).await.unwrap().store
}

/// A gateway, who writes its sessions, and a device of a customer's.
struct Scene {
    fixture: Fixture,
    oslo: Store,
    recorder: SessionRecorder,
    account: AccountId,
    device: Device,
}

impl Scene {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let oslo = gateway(&fixture, "oslo", "oslo's", NOW).await;
        let account = fixture.account().await;
        let device = add_device(&oslo, account, "phone").await.unwrap();
        let recorder = oslo.session_recorder().await.unwrap();
        Self { fixture, oslo, recorder, account, device }
    }

    /// Another gateway that takes the name.
    async fn twin(&self) -> Store {
        gateway(&self.fixture, "oslo", "the twin's", presumed_dead()).await
    }

    fn began(&self, at: UnixSeconds) -> SessionChange {
        SessionChange::Began { device: self.device.id, connecting_ip: ip("192.0.2.7"), at }
    }

    fn ended(&self, last_seen_at: UnixSeconds) -> SessionChange {
        SessionChange::Ended { device: self.device.id, last_seen_at }
    }

    /// Begin and end of each session, after the begin of all.
    async fn times(&self) -> Vec<(u64, Option<u64>)> {
        let sessions = self.fixture.store.sessions(self.account).await.unwrap();
        let after = |at: UnixSeconds| at.0 - NOW.0;
        let times = |began, ended: Option<UnixSeconds>| (after(began), ended.map(after));
        sessions.iter().map(|session| times(session.began_at, session.ended_at)).collect()
    }
}

fn is_replaced<T>(outcome: Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::GatewayReplaced))
}

#[tokio::test]
async fn gateway_whose_name_another_took_writes_nothing_any_more() {
    let mut scene = Scene::new().await;
    scene.recorder.record(&[scene.began(NOW)], NOW).await.unwrap();
    let twin = scene.twin().await;
    let late = presumed_dead();
    let mut recorder = twin.session_recorder().await.unwrap();
    recorder.record(&[scene.began(late)], late).await.unwrap();
    let of_twin = [(0, Some(0)), (late.0 - NOW.0, None)];
    assert_eq!(scene.times().await, of_twin);

    let changes = [scene.began(later(9)), scene.ended(later(10))];
    for _ in 0..2 {
        assert!(is_replaced(scene.recorder.record(&changes, late).await));
    }
    assert!(is_replaced(scene.oslo.alive(late).await));
    assert!(is_replaced(scene.oslo.close_open_sessions_at(late).await));
    assert!(is_replaced(scene.oslo.post_trial(&email("boss@example.org"), late).await));
    assert_eq!((scene.times().await, scene.fixture.count("letters").await), (of_twin.into(), 0));
    recorder.record(&[scene.ended(late)], late).await.unwrap();
}

#[tokio::test]
async fn gateway_that_was_removed_writes_nothing_any_more() {
    let mut scene = Scene::new().await;
    let rome = gateway(&scene.fixture, "rome", "rome's", NOW).await;
    rome.for_staff(7).remove_gateway("oslo", presumed_dead()).await.unwrap();
    assert!(is_replaced(scene.recorder.record(&[scene.began(NOW)], NOW).await));
    assert!(is_replaced(scene.oslo.alive(NOW).await));
    assert_eq!(scene.times().await, []);
}

#[tokio::test]
async fn group_that_nobody_wrote_is_never_taken_for_written() {
    let mut scene = Scene::new().await;
    scene.fixture.execute("UPDATE gateways SET session_groups = session_groups + 2").await;
    assert!(is_replaced(scene.recorder.record(&[scene.began(NOW)], NOW).await));
    assert_eq!(scene.times().await, []);
}

#[tokio::test]
async fn gateway_goes_on_at_a_server_that_has_lost_its_last_groups() {
    let mut scene = Scene::new().await;
    for at in [NOW, later(3)] {
        scene.recorder.record(&[scene.began(at)], at).await.unwrap();
    }
    // As a replica has it that was not told of the second.
    scene.fixture.execute("DELETE FROM sessions WHERE began_at > 1790000000").await;
    scene.fixture.execute("UPDATE gateways SET session_groups = session_groups - 1").await;
    for at in [later(6), later(9)] {
        scene.recorder.record(&[scene.began(at)], at).await.unwrap();
    }
    assert_eq!(scene.times().await, [(0, Some(3)), (6, Some(9)), (9, None)]);
}

#[tokio::test]
async fn gateway_without_the_new_data_key_writes_nothing_any_more() {
    let mut scene = Scene::new().await;
    let rome = gateway(&scene.fixture, "rome", "rome's", presumed_dead()).await;
    rome.check_alone(presumed_dead()).await.unwrap();
    let both = data_keys(7).with_new();
    rome.use_data_keys(both.clone()).await.unwrap();
    let has_wrong_key = |outcome| matches!(outcome, Err(StoreError::WrongDataKey));
    assert!(has_wrong_key(scene.recorder.record(&[scene.began(NOW)], NOW).await.map(drop)));

    rome.seal_anew(&Progress::default()).await.unwrap();
    rome.use_data_keys(both.without_former()).await.unwrap();
    assert!(has_wrong_key(scene.recorder.record(&[scene.began(NOW)], NOW).await.map(drop)));
    assert!(has_wrong_key(add_device(&scene.oslo, scene.account, "tv").await.map(drop)));
    assert!(has_wrong_key(scene.oslo.alive(presumed_dead()).await));
    assert_eq!(rome.sessions(scene.account).await.unwrap(), []);
    rome.seal_anew(&Progress::default()).await.unwrap();
}

#[tokio::test]
async fn what_waits_when_another_took_the_name_is_written_at_the_next_start() {
    for name in ["oslo", "bergen"] {
        let mut scene = Scene::new().await;
        scene.recorder.record(&[scene.began(NOW)], NOW).await.unwrap();
        let tried = [scene.ended(later(5)), scene.began(later(6))];
        let sealed = scene.recorder.seal_unwritten(&tried, &[scene.ended(later(8))]);
        let twin = scene.twin().await;
        let late = presumed_dead();
        let mut recorder = twin.session_recorder().await.unwrap();
        for at in [late, late.plus(Duration::from_secs(1))] {
            recorder.record(&[scene.began(at)], at).await.unwrap();
        }
        drop(recorder);

        let store = &scene.fixture.store;
        let waiting = store.open_unwritten(&sealed).await.unwrap();
        let start = |now| store.clone().for_gateway(name, "oslo's", Some(&waiting), now);
        if name == "oslo" {
            assert!(matches!(start(late).await, Err(StoreError::GatewayNameTaken)));
        }
        let later = late.plus(PRESUMED_DEAD_AFTER);
        assert_eq!(start(later).await.unwrap().taken_up, 3, "as {name}");
        // The process died before the file was removed.
        assert_eq!(start(later).await.unwrap().taken_up, 0, "as {name}");
        let times = scene.times().await;
        assert_eq!(times[..2], [(0, Some(0)), (6, Some(8))], "as {name}");
        assert_eq!(times.len(), 4, "as {name}");
        assert!(name == "bergen" || times.iter().all(|(_, ended)| ended.is_some()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clause_11_letter_that_another_of_the_name_has_taken_goes_out_once() {
    let server =
        MailServer::start(Habits { slowness: Duration::from_secs(3), ..Habits::default() });
    let fixture = with_customers(&["ann@example.org"]).await;
    let now = UnixSeconds::now();
    let oslo = gateway(&fixture, "oslo", "oslo's", now).await;
    let of_oslo = Postman::new(oslo, mail(&server));
    let sending = tokio::spawn(async move { of_oslo.deliver().await });
    let taken = "SELECT COUNT(*) FROM letters WHERE gateway_id IS NOT NULL";
    let mut database = fixture.database().await;
    loop {
        let taken: i64 = sqlx::query_scalar(taken).fetch_one(&mut database).await.unwrap();
        if taken == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let twin = gateway(&fixture, "oslo", "the twin's", now.plus(PRESUMED_DEAD_AFTER)).await;
    twin.take_over_letters(UnixSeconds::now()).await.unwrap();
    assert_eq!(Postman::new(twin, mail(&server)).deliver().await.unwrap().sent, 1);
    let lost = sending.await.unwrap();
    assert!(matches!(lost, Err(DeliveryError::Store(StoreError::GatewayReplaced))), "{lost:?}");
    assert_eq!(server.mailbox().len(), 1);
}
