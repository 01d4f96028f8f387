//! Answers to `WhoIs`: which device a key belongs to.

use std::{sync::Arc, time::Duration};

use tacit_accounts::Store;
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
    let (sender, mut questions) = mpsc::channel::<WhoIs>(QUEUE_LEN);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(question) = questions.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (store, outbox) = (store.clone(), Arc::clone(&outbox));
            tokio::spawn(async move {
                if timeout(PATIENCE, answer(&store, &outbox, &question)).await.is_err() {
                    log::lookup_failed(&"the store takes too long");
                }
                drop(place);
            });
        }
    });
    sender
}

/// Answers one question; not at all if the store fails, for then nothing is known about the key.
async fn answer(store: &Store, outbox: &Outbox, question: &WhoIs) {
    while let Some(ticket) = outbox.ticket(question.forwarder).await {
        let answer = match look_up(store, question.public_key).await {
            Ok(answer) => answer,
            Err(error) => return log::lookup_failed(&error),
        };
        if outbox.answer(ticket, &answer).await != Answered::Stale {
            return;
        }
    }
}

async fn look_up(
    store: &Store,
    public_key: PublicKey,
) -> Result<ToForwarder, tacit_accounts::StoreError> {
    let found = store.device_by_public_key(&public_key, UnixSeconds::now()).await?;
    Ok(found.map_or(ToForwarder::Unknown { public_key }, |found| ToForwarder::Device {
        public_key,
        device: found.device,
        preshared_key: SecretKey::new(*found.preshared_key.expose()),
        tunnel_v4: found.tunnel_v4,
        tunnel_v6: found.tunnel_v6,
    }))
}
