//! How many requests failed. Of none is anything else kept.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Errors {
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Errors {
    /// Counts an answer, if it is an error.
    pub(super) fn count(&self, status: u16) {
        match status {
            400..500 => self.refused.fetch_add(1, Ordering::Relaxed),
            500.. => self.failed.fetch_add(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// Requests that could not be answered as they were asked.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests at which the site itself failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
