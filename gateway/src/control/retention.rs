//! Removes once a day what is past its time.

use std::{sync::Arc, time::Duration};

use tacit_accounts::Store;
use tacit_messages::UnixSeconds;
use tokio::{task::JoinHandle, time::interval};

use super::unwritten;
use crate::{
    config::{LiveSettings, Settings},
    log,
};

/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two purges.
pub(crate) const PURGE_INTERVAL: Duration = DAY;

/// How long sessions are kept after their end.
pub(crate) fn keep_sessions(settings: &Settings) -> Duration {
    DAY * settings.keep_sessions
}

/// Purges now and each day.
pub(crate) fn start(store: Store, settings: Arc<LiveSettings>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut days = interval(PURGE_INTERVAL);
        loop {
            days.tick().await;
            let settings = settings.now();
            match store.purge(keep_sessions(&settings), UnixSeconds::now()).await {
                Ok(removed) if removed.is_nothing() => {}
                Ok(removed) => log::purged(removed.sessions),
                Err(error) => log::not_purged(&error),
            }
            let (data_dir, kept) = (&settings.data_dir, keep_sessions(&settings));
            if let Err(error) = unwritten::remove_past(data_dir, kept, UnixSeconds::now()) {
                log::not_purged(&error);
            }
        }
    })
}
