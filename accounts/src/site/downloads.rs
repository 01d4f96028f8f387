//! Who downloads everything that is held about them: no account twice at once, and two read of the store at once.
//!
//! Whoever does not read what was asked for holds the turn of their own account, and a piece in memory, until the connection
//! ends; nobody else waits for them.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{AcquireError, Notify, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::answer::Failure;
use crate::AccountId;

/// How many read of the store at once.
const READING: usize = 2;

/// How long somebody waits for their turn before they are told to try again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The downloads that go on.
#[derive(Debug)]
pub(super) struct Downloads {
    accounts: Mutex<HashSet<AccountId>>,
    freed: Notify,
    reading: Semaphore,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { accounts: Mutex::default(), freed: Notify::new(), reading: Semaphore::new(READING) }
    }
}

/// An account's turn to download, free again when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    downloads: Arc<Downloads>,
    account: AccountId,
}

impl Downloads {
    /// An account's turn, once it has one.
    pub(super) async fn take(self: &Arc<Self>, account: AccountId) -> Result<Turn, Failure> {
        timeout(PATIENCE, self.wait(account)).await.map_err(|_| Failure::Busy)
    }

    async fn wait(self: &Arc<Self>, account: AccountId) -> Turn {
        loop {
            let mut freed = pin!(self.freed.notified());
            // Before the look, so that what is freed after it is noticed.
            freed.as_mut().enable();
            if self.begin(account) {
                return Turn { downloads: Arc::clone(self), account };
            }
            freed.await;
        }
    }

    fn begin(&self, account: AccountId) -> bool {
        self.accounts.lock().insert(account)
    }
}

impl Turn {
    /// Waits until the next piece may be read.
    pub(super) async fn to_read(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.downloads.reading.acquire().await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.downloads.accounts.lock().remove(&self.account);
        self.downloads.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ANN: AccountId = AccountId(1);
    const BOB: AccountId = AccountId(2);
    const EVE: AccountId = AccountId(3);

    #[test]
    fn account_downloads_once_at_a_time_and_two_read_in_all() {
        let downloads = Arc::new(Downloads::default());
        let take = |account| downloads.wait(account).now_or_never();
        let anns = take(ANN).unwrap();
        assert!(take(ANN).is_none());
        let [bobs, eves] = [BOB, EVE].map(|account| take(account).unwrap());
        let first = anns.to_read().now_or_never().unwrap();
        let _second = bobs.to_read().now_or_never().unwrap();
        assert!(eves.to_read().now_or_never().is_none());
        drop(first);
        assert!(eves.to_read().now_or_never().is_some());
        drop(anns);
        assert!(take(ANN).is_some());
    }

    #[tokio::test]
    async fn who_waits_has_the_turn_as_soon_as_it_is_free() {
        let downloads = Arc::new(Downloads::default());
        let former = downloads.wait(ANN).await;
        let mut waiting = pin!(downloads.take(ANN));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(former);
        assert!(waiting.now_or_never().is_some_and(|turn| turn.is_ok()));
    }
}
