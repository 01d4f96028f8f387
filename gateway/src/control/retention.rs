//! Removes once a day what is past its time. Of gateways that share a store one does, for all of them: it may write the
//! tables anew, for which the others wait.

use std::{sync::Arc, time::Duration};

use tacit_accounts::{PastItsTime, Store, StoreError, Turn};
use tacit_messages::UnixSeconds;
use tokio::{task::JoinHandle, time::interval};

use super::unwritten;
use crate::{
    config::{LiveSettings, Settings},
    log,
};

/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two purges at most.
pub(crate) const PURGE_INTERVAL: Duration = DAY;

/// Between two looks whether a purge is due, and how soon one that failed is tried again, also by another gateway.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60 * 60);

/// From one purge until the next is due: it is then found to be, and can fail once, within [`PURGE_INTERVAL`].
const UNTIL_NEXT: Duration = PURGE_INTERVAL.saturating_sub(BETWEEN_LOOKS.saturating_mul(2));

/// How long sessions are kept after their end.
pub(crate) fn keep_sessions(settings: &Settings) -> Duration {
    DAY * settings.keep_sessions
}

/// Purges when it is due, and what waits in this gateway's data directory each day.
pub(crate) fn start(store: Store, settings: Arc<LiveSettings>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut looks = interval(BETWEEN_LOOKS);
        loop {
            looks.tick().await;
            let settings = settings.now();
            let kept = keep_sessions(&settings);
            match purge_if_due(&store, kept, UnixSeconds::now()).await {
                Ok(None) => {}
                Ok(Some(removed)) if removed.is_nothing() => {}
                Ok(Some(removed)) => log::purged(removed.sessions),
                Err(error) => log::not_purged(&error),
            }
            if let Err(error) = unwritten::remove_past(&settings.data_dir, kept, UnixSeconds::now())
            {
                log::not_purged(&error);
            }
        }
    })
}

/// Purges if it is due and this gateway's turn.
async fn purge_if_due(
    store: &Store,
    kept: Duration,
    now: UnixSeconds,
) -> Result<Option<PastItsTime>, StoreError> {
    if !store.take_turn(Turn::Purge, BETWEEN_LOOKS, now).await? {
        return Ok(None);
    }
    let removed = store.purge(kept, now).await?;
    store.end_turn(Turn::Purge, now.plus(UNTIL_NEXT)).await?;
    Ok(Some(removed))
}
