//! What a page shows of everything: all that has bounds, and of what grows the latest.

use serde::Serialize;
use tacit_messages::UnixSeconds;

use super::{
    ConsentPart, DISCLOSING, DisclosurePart, FormerPart, OwnPart, RulesPart, SessionPart,
    StaffPart, parts::parts,
};
use crate::{AccountId, Store, StoreError};

/// The most sessions that are shown.
const SESSIONS: usize = 100;

/// The most of any other list.
const OTHERS: usize = 20;

/// The latest of a list, the last one first, and how many there are in all.
#[derive(Serialize)]
pub(crate) struct Latest<T> {
    pub(crate) shown: Vec<T>,
    pub(crate) count: u64,
}

/// What a customer is shown of what is held.
#[derive(Serialize)]
pub struct Excerpt {
    #[serde(flatten)]
    pub(crate) own: OwnPart,
    pub(crate) sessions: Latest<SessionPart>,
    pub(crate) former_values: Latest<FormerPart>,
    pub(crate) rules: Latest<RulesPart>,
    pub(crate) consents: Latest<ConsentPart>,
    pub(crate) disclosures: Latest<DisclosurePart>,
    pub(crate) seen_by_staff: Latest<StaffPart>,
}

impl<T> Latest<T> {
    fn of<U>((shown, count): (Vec<U>, u64)) -> Self
    where
        T: From<U>,
    {
        Self { shown: parts(shown), count }
    }

    /// The latest of a list that is there already, oldest first.
    fn among(mut all: Vec<T>) -> Self {
        let count = all.len() as u64;
        all.reverse();
        all.truncate(OTHERS);
        Self { shown: all, count }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there are more than are shown.
    pub(crate) fn has_more(&self) -> bool {
        self.count > self.shown.len() as u64
    }
}

impl Store {
    /// What a customer is shown of what is held about them: little, however much there is.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]
    pub async fn excerpt(
        &self,
        account: AccountId,
        now: UnixSeconds,
    ) -> Result<Excerpt, StoreError> {
        const MOST: i64 = OTHERS as i64;
        let mut own = self.own_part(account, None, now).await?;
        let rules = Latest::among(std::mem::take(&mut own.rules));
        let consents = Latest::among(std::mem::take(&mut own.consents));
        let looks = self.latest_staff_entries(account, DISCLOSING, MOST).await?;
        Ok(Excerpt {
            own,
            sessions: Latest::of(self.latest_sessions(account, SESSIONS as i64).await?),
            former_values: Latest::of(self.latest_archived(account, MOST).await?),
            rules,
            consents,
            disclosures: Latest::of(self.latest_disclosures_told(account, MOST, now).await?),
            seen_by_staff: Latest::of(looks),
        })
    }
}
