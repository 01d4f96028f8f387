//! Times as people and programs read them: RFC 3339, UTC, whole seconds.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tacit_messages::UnixSeconds;

/// A time that is written as `2026-01-31T12:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Rfc3339(pub(crate) UnixSeconds);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).fmt(f)
    }
}

impl FromStr for Rfc3339 {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse::<Timestamp>()?.as_second();
        Ok(Self(UnixSeconds(u64::try_from(seconds).unwrap_or(0))))
    }
}

impl TryFrom<String> for Rfc3339 {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rfc3339> for String {
    fn from(time: Rfc3339) -> Self {
        time.to_string()
    }
}

impl From<UnixSeconds> for Rfc3339 {
    fn from(seconds: UnixSeconds) -> Self {
        Self(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_written_in_utc() {
        assert_eq!(Rfc3339(UnixSeconds(0)).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Rfc3339(UnixSeconds(1_772_323_199)).to_string(), "2026-02-28T23:59:59Z");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let time = Rfc3339(UnixSeconds(1_772_323_199));
        assert_eq!(time.to_string().parse::<Rfc3339>().unwrap(), time);
    }

    #[test]
    fn time_past_the_calendar_is_still_written() {
        assert_eq!(Rfc3339(UnixSeconds(u64::MAX)).to_string(), Timestamp::MAX.to_string());
    }
}
