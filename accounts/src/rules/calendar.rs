//! When rules may come into effect, and which are in force for a customer: clause 11 as arithmetic.
//!
//! A significant change takes effect for a customer no earlier than 14 days after the letter that told them of it was
//! sent, whatever date was published. Who joins on its date or later finds it in force.

use std::time::Duration;

use tacit_messages::UnixSeconds;

/// The least time between the letter and the change that it tells of (clause 11).
pub const NOTICE_PERIOD: Duration = Duration::from_secs(14 * DAY);

/// The same for statements of the store, in seconds.
pub(crate) const NOTICE_SECONDS: i64 = NOTICE_PERIOD.as_secs().cast_signed();

/// A day, in seconds. Dates are days of UTC.
const DAY: u64 = 24 * 60 * 60;

/// A published version of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesVersion {
    /// Its number, counted from 1.
    pub number: i64,
    /// When it was published.
    pub published_at: UnixSeconds,
    /// The begin of the day on which it takes effect.
    pub effective_at: UnixSeconds,
    /// Whether customers must be told of it by letter.
    pub is_significant: bool,
}

/// What is wanted of a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The begin of the day on which it is to take effect.
    pub effective_at: UnixSeconds,
    /// Whether customers must be told of it by letter.
    pub is_significant: bool,
    /// When the last customer's letter can be sent; `None` if there is no customer to tell.
    pub last_letter_at: Option<UnixSeconds>,
}

/// Why a version cannot take effect on a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicationError {
    /// Fewer than 14 days after the last letter.
    #[error(
        "customers must be told of a significant change at least 14 days before, and the last letter cannot be sent earlier; \
         the earliest possible date is {}", Date(*.earliest)
    )]
    TooEarly {
        /// The first day that would do.
        earliest: UnixSeconds,
    },
    /// The day is over.
    #[error("rules cannot take effect in the past; the earliest possible date is {}", Date(*.earliest))]
    Past {
        /// The first day that would do.
        earliest: UnixSeconds,
    },
    /// A former version takes effect later.
    #[error("a former version takes effect on {0}; the next one cannot be earlier", Date(*.former))]
    BeforeFormer {
        /// The day of the former version.
        former: UnixSeconds,
    },
}

/// A day as it is written: `2026-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub UnixSeconds);

/// What a customer was told, and since when there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// When the account was made, and the rules of that day agreed to.
    pub joined_at: UnixSeconds,
    /// Numbers of significant versions, and when their letters were sent.
    pub letters: Vec<(i64, UnixSeconds)>,
}

/// All versions, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    versions: Vec<RulesVersion>,
}

impl Calendar {
    /// A calendar of `versions` in any order.
    #[must_use]
    pub fn new(mut versions: Vec<RulesVersion>) -> Self {
        versions.sort_by_key(|version| version.number);
        Self { versions }
    }

    /// All versions, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[RulesVersion] {
        &self.versions
    }

    /// Puts a new version at the end.
    ///
    /// # Errors
    /// [`PublicationError`] with the earliest date that would do; then the calendar stays as it was.
    pub fn publish(
        &mut self,
        wanted: Publication,
        now: UnixSeconds,
    ) -> Result<RulesVersion, PublicationError> {
        self.check(wanted, now)?;
        let version = RulesVersion {
            number: self.versions.last().map_or(1, |former| former.number + 1),
            published_at: now,
            effective_at: wanted.effective_at,
            is_significant: wanted.is_significant,
        };
        self.versions.push(version);
        Ok(version)
    }

    fn check(&self, wanted: Publication, now: UnixSeconds) -> Result<(), PublicationError> {
        let today = day_of(now);
        let former = self.versions.last().map_or(UnixSeconds(0), |former| former.effective_at);
        let told = wanted.last_letter_at.filter(|_| wanted.is_significant);
        let after_notice = told.map_or(UnixSeconds(0), |last| day_from(last.plus(NOTICE_PERIOD)));
        let earliest = today.max(former).max(after_notice);
        if wanted.effective_at < today {
            Err(PublicationError::Past { earliest })
        } else if wanted.effective_at < after_notice {
            Err(PublicationError::TooEarly { earliest })
        } else if wanted.effective_at < former {
            Err(PublicationError::BeforeFormer { former })
        } else {
            Ok(())
        }
    }

    /// The version that those who join at `now` find in force.
    #[must_use]
    pub fn general(&self, now: UnixSeconds) -> Option<RulesVersion> {
        self.versions.iter().rev().find(|version| version.begins() <= now).copied()
    }

    /// The versions that are not in force for those who join at `now`, but will be.
    #[must_use]
    pub fn coming(&self, now: UnixSeconds) -> Vec<RulesVersion> {
        self.versions.iter().filter(|version| version.begins() > now).copied().collect()
    }

    /// The version in force for a customer at `now`.
    #[must_use]
    pub fn in_force(&self, told: &Told, now: UnixSeconds) -> Option<RulesVersion> {
        let versions = self.versions.iter().rev();
        let is_in_force = |version: &&RulesVersion| {
            self.in_force_since(**version, told).is_some_and(|since| since <= now)
        };
        versions.into_iter().find(is_in_force).copied()
    }

    /// When a version comes into force for a customer; `None` as long as a letter that must be sent before is not.
    ///
    /// Its text has the changes of all before it too, so their letters count as well.
    #[must_use]
    pub fn in_force_since(&self, version: RulesVersion, told: &Told) -> Option<UnixSeconds> {
        let mut since = version.begins().max(told.joined_at);
        for change in &self.versions {
            if change.number > version.number || !change.must_be_told_to(told.joined_at) {
                continue;
            }
            let sent = told.letters.iter().filter(|(number, _)| *number == change.number);
            let sent_at = sent.map(|(_, sent_at)| *sent_at).min()?;
            since = since.max(sent_at.plus(NOTICE_PERIOD));
        }
        Some(since)
    }
}

impl RulesVersion {
    /// When it takes effect for whoever need not be told before.
    #[must_use]
    pub fn begins(self) -> UnixSeconds {
        self.effective_at.max(self.published_at)
    }

    /// Whether a customer who joined at `joined_at` must have a letter before it takes effect for them.
    #[must_use]
    pub fn must_be_told_to(self, joined_at: UnixSeconds) -> bool {
        self.is_significant && joined_at < self.begins()
    }

    /// The last moment at which a letter is in time for the date.
    #[must_use]
    pub fn letters_until(self) -> UnixSeconds {
        self.effective_at.minus(NOTICE_PERIOD)
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        time.to_zoned(jiff::tz::TimeZone::UTC).date().fmt(f)
    }
}

/// Why a text is not a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a date is a day from 1970 on, as in 2026-01-31")]
pub struct DateError;

impl std::str::FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        // The library takes more forms than people expect.
        let is_plain =
            text.len() == 10 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
        let date: jiff::civil::Date = text.parse().ok().filter(|_| is_plain).ok_or(DateError)?;
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| DateError)?;
        let seconds = u64::try_from(midnight.timestamp().as_second()).map_err(|_| DateError)?;
        Ok(Self(UnixSeconds(seconds)))
    }
}

/// The begin of the day of a time.
#[must_use]
pub fn day_of(time: UnixSeconds) -> UnixSeconds {
    UnixSeconds(time.0 - time.0 % DAY)
}

/// The begin of the first day that is not before a time.
fn day_from(time: UnixSeconds) -> UnixSeconds {
    UnixSeconds(time.0.div_ceil(DAY).saturating_mul(DAY))
}

#[cfg(test)]
mod tests;
