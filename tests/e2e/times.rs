//! Times as the command line prints them.

use serde_json::Value;
use tacit_messages::UnixSeconds;

/// Reads an RFC 3339 UTC time such as `2026-01-31T12:00:00Z`.
pub(crate) fn seconds(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    let text = text.strip_suffix('Z').unwrap_or_else(|| panic!("not UTC: {text}"));
    let numbers: Vec<u64> =
        text.split(['-', 'T', ':']).map(|number| number.parse().unwrap()).collect();
    let [year, month, day, hour, minute, second] = numbers[..] else {
        panic!("not a time: {text}")
    };
    days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
}

/// Asserts that a printed time lies between two others, one second either way.
pub(crate) fn assert_between(value: &Value, from: UnixSeconds, to: UnixSeconds) {
    let at = seconds(value);
    assert!((from.0 - 1..=to.0 + 1).contains(&at), "{value} is not in {}..{}", from.0, to.0);
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + lengths.iter().take(month as usize - 1).sum::<u64>() + day - 1
}

#[test]
fn times_are_read_right() {
    assert_eq!(seconds(&Value::from("2026-11-23T01:46:40Z")), 1_795_398_400);
    assert_eq!(seconds(&Value::from("2000-02-29T00:00:00Z")), 951_782_400);
}
