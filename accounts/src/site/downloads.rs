//! Who downloads everything that is held about them: two at once, and no account twice.
//!
//! Whoever does not read what was asked for holds a turn, and not memory, until the connection ends.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::answer::Failure;
use crate::AccountId;

/// Downloads at once.
const MOST: usize = 2;

/// How long somebody waits for a turn before they are told to try again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The downloads that go on.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    accounts: Mutex<HashSet<AccountId>>,
    freed: Notify,
}

/// A turn to download, another's when dropped.
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
        let mut accounts = self.accounts.lock();
        accounts.len() < MOST && accounts.insert(account)
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
    fn account_downloads_once_at_a_time_and_two_do_in_all() {
        let downloads = Arc::new(Downloads::default());
        let take = |account| downloads.wait(account).now_or_never();
        let anns = take(ANN).unwrap();
        assert!(take(ANN).is_none());
        let _bobs = take(BOB).unwrap();
        assert!(take(EVE).is_none());
        drop(anns);
        assert!(take(EVE).is_some());
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
