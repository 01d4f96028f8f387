//! Changes the data key: makes a new one, seals everything anew with it, then removes the former one.
//!
//! The file has both keys until nothing is sealed with the former. Whatever ends this process meanwhile, the next start
//! finds both and carries on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tacit_accounts::{Progress, Store, StoreError};
use tacit_keys::{DataKeyError, KeyId};
use tacit_messages::UnixSeconds;
use tokio::{sync::Mutex as Turn, time::sleep};

use super::data_key;
use crate::log;

/// How long after a first failure sealing anew is tried again; after each further one twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// The longest wait: each try may write the whole store anew.
const LAST_RETRY: Duration = Duration::from_secs(640);

/// Why the data key was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// One thing at a time.
    #[error("the data key is being changed already; `tacit key show` shows how far that is")]
    UnderWay,
    /// The running gateway can write in its data directory only.
    #[error(
        "the data key {} is outside the data directory, where the running gateway cannot change it; stop the gateway, move \
         the key to {}, start it without --data-key, rotate, and move the key back", .path.display(), .inside.display()
    )]
    OutOfReach {
        /// Where the key is.
        path: PathBuf,
        /// Where it could be changed.
        inside: PathBuf,
    },
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] DataKeyError),
    /// The store did not take the new key.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a change of the data key is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RotationStatus {
    /// The key that new values are sealed with.
    pub(crate) key: KeyId,
    /// Whether there are values of a former key.
    pub(crate) is_under_way: bool,
    /// Values that are sealed with the new key.
    pub(crate) done: u64,
    /// Values in all; 0 if nothing is being changed.
    pub(crate) total: u64,
    /// Whether the last try failed; it is tried again.
    pub(crate) has_failed: bool,
}

/// Whoever changes the data key.
#[derive(Debug)]
pub(crate) struct KeyRotation {
    path: PathBuf,
    data_dir: PathBuf,
    store: Store,
    progress: Arc<Progress>,
    has_failed: Mutex<bool>,
    turn: Turn<()>,
}

impl KeyRotation {
    /// Carries on with what was cut short, if anything was.
    pub(crate) fn start(path: PathBuf, data_dir: PathBuf, store: Store) -> Arc<Self> {
        let rotation = Arc::new(Self {
            path,
            data_dir,
            store,
            progress: Arc::default(),
            has_failed: Mutex::default(),
            turn: Turn::default(),
        });
        if rotation.is_under_way() {
            tokio::spawn(Arc::clone(&rotation).finish());
        }
        rotation
    }

    /// Makes a new key and begins to seal everything with it.
    ///
    /// # Errors
    /// [`RotationError`]; then the former key stays in use.
    pub(crate) async fn rotate(self: &Arc<Self>) -> Result<(), RotationError> {
        let turn = self.turn.lock().await;
        if self.is_under_way() {
            return Err(RotationError::UnderWay);
        }
        if self.path.parent() != Some(&self.data_dir) {
            let inside = data_key::in_directory(&self.data_dir);
            return Err(RotationError::OutOfReach { path: self.path.clone(), inside });
        }
        // They would go on sealing with the former key.
        self.store.check_alone(UnixSeconds::now()).await?;
        let keys = self.store.data_keys().with_new();
        keys.save(&self.path)?;
        let used = self.store.use_data_keys(keys).await;
        drop(turn);
        // Also if the server's answer was lost.
        if self.is_under_way() {
            tokio::spawn(Arc::clone(self).finish());
        }
        Ok(used?)
    }

    /// How it is going.
    pub(crate) fn status(&self) -> RotationStatus {
        let is_under_way = self.is_under_way();
        let (done, total) = if is_under_way { self.progress.counts() } else { (0, 0) };
        RotationStatus {
            key: self.store.data_keys().current().id(),
            is_under_way,
            done,
            total,
            has_failed: *self.has_failed.lock(),
        }
    }

    fn is_under_way(&self) -> bool {
        self.store.data_keys().has_former()
    }

    /// Seals everything with the current key, then removes the former ones, trying until that is done.
    async fn finish(self: Arc<Self>) {
        let mut wait = FIRST_RETRY;
        loop {
            let outcome = self.try_finish().await;
            *self.has_failed.lock() = outcome.is_err();
            match outcome {
                Ok(()) => return log::data_key_changed(),
                Err(error) => log::data_key_not_changed(&error, wait),
            }
            sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    async fn try_finish(&self) -> Result<(), RotationError> {
        self.store.use_data_keys((*self.store.data_keys()).clone()).await?;
        self.store.seal_anew(&self.progress).await?;
        let keys = self.store.data_keys().without_former();
        keys.save(&self.path)?;
        self.store.use_data_keys(keys).await?;
        Ok(())
    }
}
