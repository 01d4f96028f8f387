//! Writes sessions to the store, in the order in which they happened, and loses none.
//!
//! Changes that come within a moment are written together: the disk is waited for once for all of them.

use std::{sync::Arc, time::Duration};

pub(crate) use tacit_accounts::SessionChange;
use tacit_accounts::{SessionRecorder, StoreError};
use tacit_messages::{DeviceId, UnixSeconds};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    outbox::Outbox,
    store_state::{StoreState, Use},
};
use crate::log;

/// How many changes can wait for the store. When they are all there, no more is heard of the forwarder until the store
/// takes some: it keeps what it has to say, and goes on carrying packets.
const QUEUE_LEN: usize = 65_536;

/// How many changes are written together.
const GROUP_LEN: usize = 512;

/// How long a change waits for others to be written with it.
const GATHERING: Duration = Duration::from_millis(25);

/// How long the store may take for a group.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first wait before a group is tried again; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait before a group is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The way to the writer, and the writer.
#[derive(Debug)]
pub(crate) struct SessionWriter {
    changes: mpsc::Sender<SessionChange>,
    state: Arc<StoreState>,
    task: JoinHandle<()>,
}

impl SessionWriter {
    /// Starts writing by `recorder`. Devices that may not be connected any more by then are revoked at `outbox`.
    pub(crate) fn start(
        recorder: SessionRecorder,
        state: Arc<StoreState>,
        outbox: Arc<Outbox>,
    ) -> Self {
        let (changes, mut waiting) = mpsc::channel(QUEUE_LEN);
        let mut pen = Pen { recorder, state: Arc::clone(&state) };
        let task = tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let group = gather(first, &mut waiting).await;
                for device in pen.write(&group).await {
                    outbox.revoke(device).await;
                }
                pen.state.written(group.len());
            }
        });
        Self { changes, state, task }
    }

    /// Has `change` written after all that came before.
    pub(crate) async fn write(&self, change: SessionChange) {
        self.state.waits();
        // The writer ends only after the sender is gone.
        let _ = self.changes.send(change).await;
    }

    /// Waits until all is written, but no longer than `patience`.
    pub(crate) async fn finish(self, patience: Duration) {
        drop(self.changes);
        let mut task = self.task;
        if timeout(patience, &mut task).await.is_err() {
            log::sessions_unwritten(self.state.waiting());
            task.abort();
        }
    }
}

/// Takes what comes within a moment of `first`.
async fn gather(
    first: SessionChange,
    waiting: &mut mpsc::Receiver<SessionChange>,
) -> Vec<SessionChange> {
    let mut group = vec![first];
    let _ = timeout(GATHERING, async {
        while group.len() < GROUP_LEN {
            let Some(next) = waiting.recv().await else { return };
            group.push(next);
        }
    })
    .await;
    group
}

/// Who writes.
struct Pen {
    recorder: SessionRecorder,
    state: Arc<StoreState>,
}

impl Pen {
    /// Writes `group`, trying until the store takes it; returns the devices that may not be connected any more.
    async fn write(&mut self, group: &[SessionChange]) -> Vec<DeviceId> {
        let (mut attempt, mut wait) = (1, FIRST_WAIT);
        loop {
            match timeout(PATIENCE, self.recorder.record(group, UnixSeconds::now())).await {
                Ok(Ok(unwelcome)) => {
                    self.state.answered(Use::Writing);
                    return unwelcome;
                }
                Ok(Err(error)) => self.note(&error, attempt, wait),
                Err(_) => self.state.hangs(Use::Writing),
            }
            sleep(wait).await;
            (attempt, wait) = (attempt + 1, (wait * 2).min(LONGEST_WAIT));
        }
    }

    fn note(&self, error: &StoreError, attempt: u32, wait: Duration) {
        let is_away = self.state.failed(Use::Writing, error);
        if !is_away && (attempt == 1 || wait == LONGEST_WAIT) {
            log::session_not_written(error, attempt);
        }
    }
}
