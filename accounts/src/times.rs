//! Times as the store keeps them: seconds since 1970.

use jiff::Timestamp;
use tacit_messages::UnixSeconds;

pub(crate) fn time_column(time: UnixSeconds) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

pub(crate) fn read_time(column: i64) -> UnixSeconds {
    UnixSeconds(u64::try_from(column).unwrap_or(0))
}

/// A time as people and programs read it: RFC 3339, UTC, whole seconds.
pub(crate) fn rfc3339(time: UnixSeconds) -> String {
    Timestamp::from_second(time_column(time)).unwrap_or(Timestamp::MAX).to_string()
}
