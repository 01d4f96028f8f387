//! Writes sessions to the store, in the order in which they happened, and loses none.

use std::time::Duration;

use tacit_accounts::{Store, StoreError};
use tacit_messages::{ConnectingIp, DeviceId, UnixSeconds};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::log;

/// How many changes can wait for the store. When they are all taken the forwarder has to wait too; by then the
/// store has been down for long, and without it nobody new can connect.
const QUEUE_LEN: usize = 65_536;

/// The first wait before a change is tried again; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait before a change is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A change of the session records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionChange {
    /// A session began.
    Began {
        /// The device.
        device: DeviceId,
        /// Where the customer connects from.
        connecting_ip: ConnectingIp,
        /// When.
        at: UnixSeconds,
    },
    /// A session ended.
    Ended {
        /// The device.
        device: DeviceId,
        /// The time of its last authenticated packet.
        last_seen_at: UnixSeconds,
    },
    /// What no gateway may keep: for tests alone.
    #[cfg(feature = "leaky")]
    Leaked {
        /// Where a packet went to.
        destination: String,
    },
    /// The forwarder is gone, and all sessions with it.
    AllEnded {
        /// When it died: no packet came later.
        at: UnixSeconds,
    },
}

/// The way to the writer, and the writer.
#[derive(Debug)]
pub(crate) struct SessionWriter {
    changes: mpsc::Sender<SessionChange>,
    task: JoinHandle<()>,
}

impl SessionWriter {
    /// Starts writing to `store`.
    pub(crate) fn start(store: Store) -> Self {
        let (changes, mut waiting) = mpsc::channel(QUEUE_LEN);
        let task = tokio::spawn(async move {
            while let Some(change) = waiting.recv().await {
                write(&store, &change).await;
            }
        });
        Self { changes, task }
    }

    /// Has `change` written after all that came before.
    pub(crate) async fn write(&self, change: SessionChange) {
        // The writer ends only after the sender is gone.
        let _ = self.changes.send(change).await;
    }

    /// Waits until all is written, but no longer than `patience`.
    pub(crate) async fn finish(self, patience: Duration) {
        let unwritten = self.changes.downgrade();
        drop(self.changes);
        let mut task = self.task;
        if timeout(patience, &mut task).await.is_err() {
            let rows = unwritten.upgrade().map_or(1, |left| left.max_capacity() - left.capacity());
            log::sessions_unwritten(rows.max(1));
            task.abort();
        }
    }
}

/// Writes `change`, trying until the store takes it or says that it never will.
async fn write(store: &Store, change: &SessionChange) {
    let mut wait = FIRST_WAIT;
    for attempt in 1.. {
        match try_write(store, change).await {
            Ok(()) => return,
            // It was removed since; its account's record ends with the sessions before.
            Err(StoreError::NoSuchDevice) => return,
            Err(error) if attempt == 1 || wait == LONGEST_WAIT => {
                log::session_not_written(&error, attempt);
            }
            Err(_) => {}
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn try_write(store: &Store, change: &SessionChange) -> Result<(), StoreError> {
    match change {
        SessionChange::Began { device, connecting_ip, at } => {
            store.session_began(*device, connecting_ip, *at).await
        }
        SessionChange::Ended { device, last_seen_at } => {
            store.session_ended(*device, *last_seen_at).await
        }
        #[cfg(feature = "leaky")]
        SessionChange::Leaked { destination } => store.leak(destination).await,
        SessionChange::AllEnded { at } => store.close_open_sessions_at(*at).await.map(drop),
    }
}
