//! Writes sessions to the store, in the order in which they happened, and loses none.
//!
//! Changes that come within a moment are written together: the disk is waited for once for all of them. What the store
//! does not take before the gateway stops is kept, sealed, for the next start.

use std::{path::PathBuf, sync::Arc, time::Duration};

pub(crate) use tacit_accounts::SessionChange;
use tacit_accounts::{SessionRecorder, StoreError};
use tacit_messages::{DeviceId, UnixSeconds};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    outbox::Outbox,
    store_state::{StoreState, Use},
    unwritten,
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

/// How long the writer waits at the stop for a store that takes none, and what it may take to seal what is left.
const STOP_PATIENCE_AWAY: Duration = Duration::from_secs(1);

/// The way to the writer, and the writer.
#[derive(Debug)]
pub(crate) struct SessionWriter {
    changes: mpsc::Sender<SessionChange>,
    state: Arc<StoreState>,
    data_dir: PathBuf,
    stop: oneshot::Sender<()>,
    /// Ends with what is not written, sealed, if there is any.
    task: JoinHandle<Option<Vec<u8>>>,
}

impl SessionWriter {
    /// Starts writing by `recorder`. Devices that may not be connected any more by then are revoked at `outbox`; what is
    /// left at the end is kept in `data_dir`.
    pub(crate) fn start(
        recorder: SessionRecorder,
        state: Arc<StoreState>,
        outbox: Arc<Outbox>,
        data_dir: PathBuf,
    ) -> Self {
        let (changes, mut waiting) = mpsc::channel(QUEUE_LEN);
        let (stop, mut stopped) = oneshot::channel();
        let mut pen = Pen { recorder, state: Arc::clone(&state) };
        let task = tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let group = gather(first, &mut waiting).await;
                let unwelcome = tokio::select! {
                    unwelcome = pen.write(&group) => unwelcome,
                    _ = &mut stopped => return Some(pen.seal(&group, waiting)),
                };
                for device in unwelcome {
                    outbox.revoke(device).await;
                }
                pen.state.written(group.len());
            }
            None
        });
        Self { changes, state, data_dir, stop, task }
    }

    /// Has `change` written after all that came before.
    pub(crate) async fn write(&self, change: SessionChange) {
        self.state.waits();
        // The writer ends only after the sender is gone.
        let _ = self.changes.send(change).await;
    }

    /// Waits until all is written, but no longer than `patience`, and less if the store takes none; then keeps the rest.
    pub(crate) async fn finish(self, patience: Duration) {
        let Self { changes, state, data_dir, stop, mut task } = self;
        drop(changes);
        let takes_none = state.away_since().is_some() || state.end().is_some();
        let patience = if takes_none { patience.min(STOP_PATIENCE_AWAY) } else { patience };
        if timeout(patience, &mut task).await.is_ok() {
            return;
        }
        let _ = stop.send(());
        let sealed = match timeout(STOP_PATIENCE_AWAY, &mut task).await {
            // All was written at the last moment.
            Ok(Ok(None)) => return,
            Ok(Ok(Some(sealed))) => sealed,
            _ => {
                task.abort();
                return log::sessions_lost(&"the writer does not stop", state.waiting());
            }
        };
        match unwritten::keep(&data_dir, &sealed) {
            Ok(()) => log::sessions_kept(state.waiting()),
            Err(error) => log::sessions_lost(&error, state.waiting()),
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

    /// Seals `group`, which may have been written after all, and what waits after it.
    fn seal(&self, group: &[SessionChange], mut waiting: mpsc::Receiver<SessionChange>) -> Vec<u8> {
        let mut after = Vec::new();
        while let Ok(next) = waiting.try_recv() {
            after.push(next);
        }
        self.recorder.seal_unwritten(group, &after)
    }

    fn note(&self, error: &StoreError, attempt: u32, wait: Duration) {
        let is_away = self.state.failed(Use::Writing, error);
        if !is_away && (attempt == 1 || wait == LONGEST_WAIT) {
            log::session_not_written(error, attempt);
        }
    }
}
