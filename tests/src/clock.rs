//! Waiting with a limit.

use std::{thread, time::Duration};

use tacit_messages::clock::Instant;

/// Asks `condition` every 50 ms until it gives a value, at most for `limit`.
pub fn wait_for<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now().since(start) > limit {
            return None;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within `limit`; the message names `what`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    assert!(
        wait_for(limit, || condition().then_some(())).is_some(),
        "waited {limit:?} in vain: {what}"
    );
}

/// The time since `start`.
#[must_use]
pub fn elapsed(start: Instant) -> Duration {
    Instant::now().since(start)
}
