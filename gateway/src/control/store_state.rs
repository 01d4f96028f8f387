//! Whether the store can be reached. The operator is told once when it goes away, and once when it is back.

use std::{
    fmt::Display,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tacit_accounts::StoreError;
use tacit_messages::UnixSeconds;
use tokio::sync::Notify;

use crate::log;

/// What the store is asked for. A file that somebody else has locked can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To tell something.
    Reading,
    /// To keep something.
    Writing,
}

/// What control knows of the store.
#[derive(Debug, Default)]
pub(crate) struct StoreState {
    fails: Mutex<Fails>,
    waiting: AtomicUsize,
    /// Of the last small change, in microseconds.
    latency: AtomicU64,
    /// Why the gateway must end, once it must.
    end: OnceLock<String>,
    ends: Notify,
}

/// Since when each use fails.
#[derive(Debug, Default)]
struct Fails {
    reading: Option<UnixSeconds>,
    writing: Option<UnixSeconds>,
}

impl Fails {
    fn of(&mut self, what: Use) -> &mut Option<UnixSeconds> {
        match what {
            Use::Reading => &mut self.reading,
            Use::Writing => &mut self.writing,
        }
    }

    fn since(&self) -> Option<UnixSeconds> {
        self.reading.into_iter().chain(self.writing).min()
    }
}

impl StoreState {
    /// Notes that the store did as it was asked.
    pub(crate) fn answered(&self, what: Use) {
        let mut fails = self.fails.lock();
        let Some(since) = fails.since() else { return };
        *fails.of(what) = None;
        if fails.since().is_none() {
            let seconds = UnixSeconds::now().0.saturating_sub(since.0);
            log::store_back(Duration::from_secs(seconds), self.waiting());
        }
    }

    /// Notes a failure; returns whether it tells that the store is away.
    pub(crate) fn failed(&self, what: Use, error: &StoreError) -> bool {
        if error.is_away() {
            self.is_away(what, error);
        }
        if what == Use::Writing && error.ends_gateway() && self.end.set(error.to_string()).is_ok() {
            log::gateway_ends(error);
            self.ends.notify_one();
        }
        error.is_away()
    }

    /// Waits until the gateway must end, because others went on without it.
    pub(crate) async fn ends(&self) {
        self.ends.notified().await;
    }

    /// Why the gateway must end; `None` if it must not.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.get().map(String::as_str)
    }

    /// Notes that the store takes too long.
    pub(crate) fn hangs(&self, what: Use) {
        self.is_away(what, &"it takes too long");
    }

    fn is_away(&self, what: Use, why: &dyn Display) {
        let mut fails = self.fails.lock();
        if fails.since().is_none() {
            log::store_away(why);
        }
        fails.of(what).get_or_insert_with(UnixSeconds::now);
    }

    /// Since when it has been away; `None` if it is there.
    pub(crate) fn away_since(&self) -> Option<UnixSeconds> {
        self.fails.lock().since()
    }

    /// Notes how long the store took for a small change.
    pub(crate) fn took(&self, time: Duration) {
        self.latency.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long the store took for the last small change that was timed.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency.load(Ordering::Relaxed))
    }

    /// How many changes of sessions wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes that a change of sessions waits.
    pub(crate) fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that changes of sessions wait no more.
    pub(crate) fn written(&self, changes: usize) {
        self.waiting.fetch_sub(changes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_is_away_from_its_first_failure_until_it_answers() {
        let state = StoreState::default();
        assert!(!state.failed(Use::Reading, &StoreError::NoSuchDevice));
        assert_eq!(state.away_since(), None);
        state.hangs(Use::Reading);
        let since = state.away_since();
        assert!(since.is_some());
        state.hangs(Use::Reading);
        assert_eq!(state.away_since(), since);
        state.answered(Use::Reading);
        assert_eq!(state.away_since(), None);
    }

    #[tokio::test]
    async fn gateway_ends_once_others_went_on_without_it() {
        let state = StoreState::default();
        state.failed(Use::Writing, &StoreError::NoSuchDevice);
        state.failed(Use::Reading, &StoreError::WrongDataKey);
        assert_eq!(state.end(), None);
        state.failed(Use::Writing, &StoreError::GatewayReplaced);
        state.failed(Use::Writing, &StoreError::WrongDataKey);
        state.ends().await;
        assert_eq!(state.end(), Some(&*StoreError::GatewayReplaced.to_string()));
        assert_eq!(state.away_since(), None);
    }

    #[test]
    fn store_that_can_be_read_only_is_away() {
        let state = StoreState::default();
        state.hangs(Use::Writing);
        state.answered(Use::Reading);
        assert!(state.away_since().is_some());
        state.answered(Use::Writing);
        assert_eq!(state.away_since(), None);
    }
}
