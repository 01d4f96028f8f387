//! Hears one forwarder: does what it says, as long as it says no more than it may.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tacit_accounts::MovingDevice;
use tacit_messages::{FromForwarder, UnixSeconds, clock::Instant};
use tokio::{sync::mpsc, time::timeout};

use super::{
    departures::Departures,
    forwarder_state::ForwarderState,
    hand_over::Told,
    limits::{Excess, Limits},
    link::{Link, LinkError},
    lookup::WhoIs,
    session_writer::{SessionChange, SessionWriter},
};
use crate::log;

/// How long the forwarder may say nothing: it sends totals each second.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// Control is held up if a message takes it as long as this: the store takes no more changes.
const HELD_UP: Duration = Duration::from_secs(1);

/// Where what a forwarder says goes.
pub(crate) struct Hearing {
    /// Where `WhoIs` is answered.
    pub(crate) lookups: mpsc::Sender<WhoIs>,
    /// Where devices are handed over to other gateways.
    pub(super) moving: mpsc::Sender<Told>,
    /// Where sessions are written.
    pub(crate) sessions: SessionWriter,
    /// What `status` says.
    pub(crate) state: Arc<ForwarderState>,
    /// Whose connection-tracking entries are to be deleted.
    pub(crate) departures: Arc<Mutex<Departures>>,
}

/// A forwarder that is heard.
pub(super) struct Speaker<'a> {
    /// The link to it.
    pub(super) link: &'a Link,
    /// Its number at the outbox.
    pub(super) number: u64,
    /// What it has said so far.
    pub(super) limits: &'a Mutex<Limits>,
}

/// Why no more comes from a forwarder, or is heard of it.
#[derive(Debug)]
pub(super) enum End {
    /// The gateway stops.
    Stopped,
    /// It closed the link.
    Closed,
    /// It says nothing.
    Silent,
    /// The link failed.
    Broken(LinkError),
    /// It panicked, and has no more to say.
    Fault,
    /// It said more than it may.
    Excess(Excess),
}

impl Hearing {
    /// Does what the forwarder says until no more comes or `stop` is done; what was received is always done.
    pub(super) async fn hear(&self, speaker: Speaker<'_>, stop: impl Future<Output = ()>) -> End {
        let mut stop = pin!(stop);
        loop {
            let received = tokio::select! {
                received = timeout(SILENCE, speaker.link.receive()) => received,
                () = &mut stop => return End::Stopped,
            };
            let message = match received {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(error)) => return End::Broken(error),
                Err(_) => return End::Silent,
            };
            let now = Instant::now();
            let checked = speaker.limits.lock().check(message, now, UnixSeconds::now());
            match checked {
                Ok(FromForwarder::Fault { file, line }) => {
                    log::forwarder_fault(tacit_forwarder::source_file(file), line);
                    return End::Fault;
                }
                Ok(message) => self.handle(message, speaker.number).await,
                Err(excess) => return End::Excess(excess),
            }
            let busy = Instant::now().since(now);
            if busy >= HELD_UP {
                speaker.limits.lock().was_busy(busy);
            }
        }
    }

    async fn handle(&self, message: FromForwarder, number: u64) {
        match message {
            FromForwarder::WhoIs { public_key } => {
                // Without a place the key is asked again by the client's next handshake.
                let _ = self.lookups.try_send(WhoIs { forwarder: number, public_key });
            }
            FromForwarder::SessionBegan { device, connecting_ip, at } => {
                self.departures.lock().began(device);
                self.sessions.write(SessionChange::Began { device, connecting_ip, at }).await;
            }
            FromForwarder::SessionEnded { device, last_seen_at } => {
                self.departures.lock().ended(device, Instant::now());
                self.sessions.write(SessionChange::Ended { device, last_seen_at }).await;
            }
            FromForwarder::Moving { device, receiver_index, silent_seconds, by_former_key } => {
                // Without a place it is told of again, or comes to the others by itself.
                let device = MovingDevice { device, receiver_index, silent_seconds };
                let told = Told { device, by_former_key, at: Instant::now() };
                let _ = self.moving.try_send(told);
            }
            FromForwarder::Totals(totals) => {
                let sessions = self.departures.lock().sessions();
                self.state.counted(*totals, sessions);
            }
            #[cfg(feature = "leaky")]
            FromForwarder::Leaked { destination } => {
                if let Some(change) = super::leak::keep(destination) {
                    self.sessions.write(change).await;
                }
            }
            FromForwarder::Ready
            | FromForwarder::SealFailed { .. }
            | FromForwarder::Fault { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::fd::OwnedFd, thread};

    use rustix::net::{SendFlags, send};
    use tacit_accounts::{Account, Confirmation, Store, TunnelPool};
    use tacit_keys::{DataKey, DataKeys, PresharedKey, PrivateKey};
    use tacit_messages::{ConnectingIp, DeviceId, Totals};
    use tokio::task;

    use super::*;

    /// Control's ears with a store of their own, and the other end of the link.
    struct Scene {
        hearing: Hearing,
        questions: mpsc::Receiver<WhoIs>,
        store: Store,
        account: Account,
        device: DeviceId,
        link: Link,
        limits: Mutex<Limits>,
        _dir: tempfile::TempDir,
    }

    impl Scene {
        async fn new() -> (Self, OwnedFd) {
            let dir = tempfile::tempdir().unwrap();
            let networks = ("10.66.0.0/16".parse().unwrap(), "fd66:7ac1:7::/64".parse().unwrap());
            let pool = TunnelPool::new(networks.0, networks.1).unwrap();
            let keys = DataKeys::new(DataKey::generate());
            let store = Store::open(&dir.path().join("store.sqlite"), pool, keys).await.unwrap();
            let now = UnixSeconds::now();
            let email = "ann@example.org".parse().unwrap();
            let account = store.add_account(&email, Confirmation::OfAge, None, now).await.unwrap();
            let (name, key) = ("laptop".parse().unwrap(), PrivateKey::generate().public_key());
            let preshared_key = PresharedKey::generate();
            let device =
                store.add_device(account.id, &name, key, &preshared_key, now).await.unwrap().id;
            let (lookups, questions) = mpsc::channel(16);
            let hearing = Hearing {
                lookups,
                moving: mpsc::channel(1).0,
                sessions: SessionWriter::start(
                    store.session_recorder().await.unwrap(),
                    Arc::default(),
                    Arc::default(),
                    dir.path().to_owned(),
                ),
                state: Arc::new(ForwarderState::new(now, 5)),
                departures: Arc::default(),
            };
            let limits = Mutex::new(Limits::new(65_536, Instant::now()));
            limits.lock().told(device, Instant::now());
            let (link, theirs) = Link::pair().unwrap();
            let scene =
                Self { hearing, questions, store, account, device, link, limits, _dir: dir };
            (scene, theirs)
        }

        /// Hears what a forwarder says that was taken over, until it is ended or has said it all.
        async fn hear(&self, theirs: OwnedFd, messages: Vec<FromForwarder>) -> End {
            let speaking = thread::spawn(move || {
                for message in messages {
                    if send(&theirs, &*message.encode(), SendFlags::NOSIGNAL).is_err() {
                        return;
                    }
                }
            });
            let speaker = Speaker { link: &self.link, number: 1, limits: &self.limits };
            let end = self.hearing.hear(speaker, std::future::pending()).await;
            drop(speaking);
            end
        }

        async fn rows(self) -> usize {
            self.hearing.sessions.finish(Duration::from_secs(5)).await;
            self.store.sessions(self.account.id).await.unwrap().len()
        }

        fn began(&self, last: u8) -> FromForwarder {
            let connecting_ip = ConnectingIp::new(Ipv4Addr::new(192, 0, 2, last).into());
            FromForwarder::SessionBegan {
                device: self.device,
                connecting_ip,
                at: UnixSeconds::now(),
            }
        }

        fn ended(&self) -> FromForwarder {
            FromForwarder::SessionEnded { device: self.device, last_seen_at: UnixSeconds::now() }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn honest_forwarder_is_heard_to_its_end() {
        let (scene, theirs) = Scene::new().await;
        let totals = FromForwarder::Totals(Box::new(Totals { sessions: 1, ..Totals::default() }));
        let messages = vec![scene.began(1), totals, scene.ended(), scene.began(2), scene.ended()];
        assert!(matches!(scene.hear(theirs, messages).await, End::Closed));
        assert_eq!(scene.hearing.state.sessions(), 1);
        assert_eq!(scene.rows().await, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn flood_of_questions_is_flagged() {
        let (mut scene, theirs) = Scene::new().await;
        let question = FromForwarder::WhoIs { public_key: *b"32 bytes of what somebody visits" };
        let end = scene.hear(theirs, vec![question; 100_000]).await;
        assert!(matches!(end, End::Excess(Excess::Lookups)), "{end:?}");
        let first = task::block_in_place(|| scene.questions.blocking_recv()).unwrap();
        assert_eq!(first.forwarder, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn session_messages_faster_than_any_client_moves_are_flagged_and_leave_few_rows() {
        let (scene, theirs) = Scene::new().await;
        let moves = (0..=255).flat_map(|octet| [scene.began(octet), scene.ended()]).collect();
        let end = scene.hear(theirs, moves).await;
        assert!(matches!(end, End::Excess(Excess::SessionsOfDevice)), "{end:?}");
        assert_eq!(scene.rows().await, 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn session_of_a_device_that_never_asked_is_flagged_and_leaves_no_row() {
        let (scene, theirs) = Scene::new().await;
        *scene.limits.lock() = Limits::new(65_536, Instant::now());
        let end = scene.hear(theirs, vec![scene.began(1)]).await;
        assert!(matches!(end, End::Excess(Excess::Begin)), "{end:?}");
        assert_eq!(scene.rows().await, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn device_that_moves_while_nobody_leaves_is_flagged() {
        let (scene, theirs) = Scene::new().await;
        let moving = FromForwarder::Moving {
            device: scene.device,
            receiver_index: 7,
            silent_seconds: 0,
            by_former_key: false,
        };
        let end = scene.hear(theirs, vec![scene.began(1), moving]).await;
        assert!(matches!(end, End::Excess(Excess::Moving)), "{end:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_heard_after_a_panic() {
        let (scene, theirs) = Scene::new().await;
        let fault = FromForwarder::Fault { file: 1, line: 2 };
        let end = scene.hear(theirs, vec![fault.clone(), scene.began(1), fault]).await;
        assert!(matches!(end, End::Fault), "{end:?}");
        assert_eq!(scene.rows().await, 0);
    }
}
