//! Tells the other gateways that this one is alive, and completes the sessions of those that are not.

use std::{sync::Arc, time::Duration};

use tacit_accounts::{Store, StoreError, Turn};
use tacit_messages::{UnixSeconds, clock::Instant};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::store_state::{StoreState, Use};
use crate::log;

/// Between two notes in the store that the gateway is alive.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long the store may take for such a note, and how soon it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Between two looks for gateways that are silent, by any of those that are not.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// Notes now and then that the gateway is alive, and completes the sessions of those that are not.
pub(super) fn start(store: Store, state: Arc<StoreState>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut has_looked = false;
        loop {
            let (now, began) = (UnixSeconds::now(), Instant::now());
            let wait = match timeout(PATIENCE, store.alive(now)).await {
                Ok(Ok(())) => {
                    state.took(Instant::now().since(began));
                    state.answered(Use::Writing);
                    let looked = timeout(PATIENCE, look(&store, !has_looked, now)).await;
                    has_looked |= matches!(looked, Ok(Ok(_)));
                    match looked {
                        Ok(Ok(0)) => {}
                        Ok(Ok(rows)) => log::sessions_of_the_dead_closed(rows),
                        Ok(Err(error)) => log::alive_not_written(&error),
                        Err(_) => state.hangs(Use::Writing),
                    }
                    INTERVAL
                }
                Ok(Err(error)) if state.failed(Use::Writing, &error) => RETRY,
                Ok(Err(error)) => {
                    log::alive_not_written(&error);
                    INTERVAL
                }
                Err(_) => {
                    state.hangs(Use::Writing);
                    RETRY
                }
            };
            sleep(wait).await;
        }
    })
}

/// Completes the sessions of silent gateways if it is time, or at once, and returns how many.
async fn look(store: &Store, at_once: bool, now: UnixSeconds) -> Result<u64, StoreError> {
    // All gateways are looked through, which would be much if each of thousands did.
    let is_due = store.take_turn(Turn::LookForSilent, BETWEEN_LOOKS, now).await?;
    if at_once || is_due { store.close_sessions_of_the_dead(now).await } else { Ok(0) }
}
