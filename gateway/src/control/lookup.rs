//! Answers to `WhoIs`: which device a key belongs to.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tacit_accounts::{Store, StoreError};
use tacit_messages::{PublicKey, SecretKey, ToForwarder, UnixSeconds};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::outbox::{Answered, Outbox};
use crate::log;

/// How many look-ups go on at once.
const AT_ONCE: usize = 64;

/// How many more can wait. A key that finds no place is asked again by the client's next handshake.
const QUEUE_LEN: usize = 4096;

/// How long a look-up may take; after that the client has tried again (REKEY_TIMEOUT).
const PATIENCE: Duration = Duration::from_secs(5);

/// A forwarder's question.
#[derive(Debug)]
pub(crate) struct WhoIs {
    /// The forwarder's number at the [`Outbox`].
    pub(crate) forwarder: u64,
    /// The key.
    pub(crate) public_key: PublicKey,
}

/// Starts answering; it ends when the sender is dropped.
pub(crate) fn start(store: Store, outbox: Arc<Outbox>) -> mpsc::Sender<WhoIs> {
    let (sender, mut questions) = mpsc::channel(QUEUE_LEN);
    let lookups = Arc::new(Lookups { store, outbox, failing: AtomicBool::new(false) });
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(question) = questions.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let lookups = Arc::clone(&lookups);
            tokio::spawn(async move {
                lookups.answer(&question).await;
                drop(place);
            });
        }
    });
    sender
}

struct Lookups {
    store: Store,
    outbox: Arc<Outbox>,
    failing: AtomicBool,
}

impl Lookups {
    /// Answers one question; not at all if the store fails, for then nothing is known about the key.
    async fn answer(&self, question: &WhoIs) {
        while let Some(ticket) = self.outbox.ticket(question.forwarder).await {
            let looked_up = timeout(PATIENCE, look_up(&self.store, question.public_key)).await;
            let answer = match looked_up {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return self.note_failure(&error),
                Err(_) => return self.note_failure(&"the store takes too long"),
            };
            self.note_success();
            if self.outbox.answer(ticket, &answer).await != Answered::Stale {
                return;
            }
        }
    }

    fn note_failure(&self, problem: &dyn Display) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            log::lookups_failing(problem);
        }
    }

    fn note_success(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            log::lookups_work_again();
        }
    }
}

async fn look_up(store: &Store, public_key: PublicKey) -> Result<ToForwarder, StoreError> {
    let found = store.device_by_public_key(&public_key, UnixSeconds::now()).await?;
    Ok(found.map_or(ToForwarder::Unknown { public_key }, |found| ToForwarder::Device {
        public_key,
        device: found.device,
        preshared_key: SecretKey::new(*found.preshared_key.expose()),
        tunnel_v4: found.tunnel_v4,
        tunnel_v6: found.tunnel_v6,
    }))
}
