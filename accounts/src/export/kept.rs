//! How long each thing of an export is kept.

use serde::Serialize;

use crate::pending::LINK_TIME;

const DAY: u64 = 24 * 60 * 60;

/// Days that an address which is not confirmed is there at most: while its link works, and until the purge, which comes
/// once a day.
const UNCONFIRMED: u32 = (LINK_TIME.as_secs() / DAY) as u32 + 1;

/// For how many days each list of an export is kept, by the list's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    sessions: u32,
    former_values: u32,
    disclosures: u32,
    seen_by_staff: u32,
    pub(crate) email_to_be_confirmed: u32,
    all_else: &'static str,
}

impl Kept {
    /// Of days that sessions are kept after their end, former values, and entries of the staff log and the disclosure
    /// register.
    #[must_use]
    pub const fn new(sessions: u32, archive: u32, records: u32) -> Self {
        Self {
            sessions,
            former_values: archive,
            disclosures: records,
            seen_by_staff: records,
            email_to_be_confirmed: UNCONFIRMED,
            all_else: "while there is the account",
        }
    }

    /// Each as people read it.
    pub(super) fn lines(self) -> [String; 5] {
        [
            format!("sessions: for {} days after their end", self.sessions),
            format!("former values: for {} days", self.former_values),
            format!(
                "disclosures, and what the staff looked at or changed: for {} days",
                self.disclosures
            ),
            format!(
                "an e-mail address that is not confirmed: for {} days",
                self.email_to_be_confirmed
            ),
            format!("all else: {}", self.all_else),
        ]
    }
}
