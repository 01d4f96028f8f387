//! An export that is read while it is written, so that little of it is in memory at once, however much there is.

use serde::Serialize;
use tacit_messages::UnixSeconds;

use super::{
    DISCLOSING, DisclosurePart, FIRST_SESSION, FormerPart, Kept, SessionPart, SessionPlace,
    StaffPart,
};
use crate::{AccountId, Store, StoreError};

/// How many things are read at a time.
const BATCH: u32 = 200;

/// The customer's export as JSON, in pieces.
pub struct Document {
    store: Store,
    account: AccountId,
    kept: Kept,
    now: UnixSeconds,
    next: Next,
    /// Whether the list that is being written has nothing yet.
    is_first: bool,
}

/// What comes next: each list that grows, after a place in it.
enum Next {
    Own,
    Sessions(SessionPlace),
    FormerValues(i64),
    Disclosures(u64),
    SeenByStaff(u64),
    End,
    Nothing,
}

impl Document {
    /// Everything that is held about an account, as [`Store::export`] has it for the customer.
    #[must_use]
    pub const fn new(store: Store, account: AccountId, kept: Kept, now: UnixSeconds) -> Self {
        Self { store, account, kept, now, next: Next::Own, is_first: true }
    }

    /// The next piece; none after the last.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], [`StoreError::Database`]; then the document is not whole.
    pub async fn piece(&mut self) -> Result<Option<String>, StoreError> {
        let piece = match self.next {
            Next::Own => self.own().await?,
            Next::Sessions(after) => self.sessions(after).await?,
            Next::FormerValues(after) => self.former_values(after).await?,
            Next::Disclosures(after) => self.disclosures(after).await?,
            Next::SeenByStaff(after) => self.seen_by_staff(after).await?,
            Next::End => {
                self.next = Next::Nothing;
                "\n  ]\n}\n".to_owned()
            }
            Next::Nothing => return Ok(None),
        };
        Ok(Some(piece))
    }

    async fn own(&mut self) -> Result<String, StoreError> {
        let own = self.store.own_part(self.account, Some(self.kept), self.now).await?;
        let text = json(serde_json::to_string_pretty(&own));
        self.next = Next::Sessions(FIRST_SESSION);
        // The lists that grow stand in the same object.
        let open = text.strip_suffix("\n}").unwrap_or(&text);
        Ok(format!("{open},\n  \"sessions\": ["))
    }

    async fn sessions(&mut self, after: SessionPlace) -> Result<String, StoreError> {
        let sessions = self.store.sessions_after(self.account, after, BATCH.into()).await?;
        let Some(last) = sessions.last() else {
            return Ok(self.begin("former_values", Next::FormerValues(0)));
        };
        self.next = Next::Sessions((last.began_at, last.id));
        Ok(self.items::<_, SessionPart>(sessions))
    }

    async fn former_values(&mut self, after: i64) -> Result<String, StoreError> {
        let values = self.store.archive_after(self.account, after, BATCH.into()).await?;
        let Some(last) = values.last() else {
            return Ok(self.begin("disclosures", Next::Disclosures(0)));
        };
        self.next = Next::FormerValues(last.id);
        Ok(self.items::<_, FormerPart>(values))
    }

    async fn disclosures(&mut self, after: u64) -> Result<String, StoreError> {
        let (account, batch) = (Some(self.account), BATCH.into());
        let mut disclosures = self.store.disclosures_after(account, after, batch).await?;
        let Some(last) = disclosures.last() else {
            return Ok(self.begin("seen_by_staff", Next::SeenByStaff(0)));
        };
        self.next = Next::Disclosures(last.number);
        disclosures.retain(|disclosure| disclosure.may_be_told(self.now));
        Ok(self.items::<_, DisclosurePart>(disclosures))
    }

    async fn seen_by_staff(&mut self, after: u64) -> Result<String, StoreError> {
        let mut entries = self.store.staff_log(Some(self.account), after, BATCH).await?;
        self.next = entries.last().map_or(Next::End, |last| Next::SeenByStaff(last.number));
        entries.retain(|entry| entry.verb != DISCLOSING);
        Ok(self.items::<_, StaffPart>(entries))
    }

    /// Ends the list that was being written and begins another.
    fn begin(&mut self, list: &str, next: Next) -> String {
        self.next = next;
        self.is_first = true;
        format!("\n  ],\n  \"{list}\": [")
    }

    /// Goes on with the list, a line each.
    fn items<T, P: From<T> + Serialize>(&mut self, things: Vec<T>) -> String {
        let mut text = String::new();
        for thing in things {
            text.push_str(if std::mem::take(&mut self.is_first) { "\n    " } else { ",\n    " });
            text.push_str(&json(serde_json::to_string(&P::from(thing))));
        }
        text
    }
}

fn json(text: serde_json::Result<String>) -> String {
    text.expect("texts and numbers are JSON")
}
