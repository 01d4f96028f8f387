//! Tells the other gateways that this one is alive, and completes the sessions of those that are not.

use std::{sync::Arc, time::Duration};

use tacit_accounts::Store;
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

/// Notes now and then that the gateway is alive, and completes the sessions of those that are not.
pub(super) fn start(store: Store, state: Arc<StoreState>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (now, began) = (UnixSeconds::now(), Instant::now());
            let wait = match timeout(PATIENCE, store.alive(now)).await {
                Ok(Ok(())) => {
                    state.took(Instant::now().since(began));
                    state.answered(Use::Writing);
                    close_sessions_of_the_dead(&store, now).await;
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

async fn close_sessions_of_the_dead(store: &Store, now: UnixSeconds) {
    match store.close_sessions_of_the_dead(now).await {
        Ok(0) => {}
        Ok(rows) => log::sessions_of_the_dead_closed(rows),
        Err(error) => log::alive_not_written(&error),
    }
}
