//! Requests about the two hash-chained lists: the staff log and the disclosure register.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_accounts::{
    AccountSelector, Basis as StoredBasis, Chain, DataKind, Deed, Disclosure as StoredDisclosure,
    DisclosureRequest, End, Line, Verdict,
};
use tacit_messages::UnixSeconds;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    Request, Role,
    people::find_number,
    requests,
    server::{Answer, Caller, Refused},
};
use crate::{control::Gateway, log, rfc3339::Rfc3339};

/// The most entries that are answered at once; a verb asks again for those that follow.
pub(crate) const PAGE: u32 = 10_000;

requests! {
    /// Lists up to [`PAGE`] entries of the staff log that follow the one numbered `after`.
    ListStaffLog { account: Option<String>, after: u64 } "/staff/log" -> Vec<StaffEntry>;
    /// Looks whether staff log and disclosure register are what was written.
    VerifyRecords { noted: Option<String>, noted_disclosures: Option<String> }
        "/staff/verify" -> Vec<VerifiedRecord>;
    /// Discloses what is held about an account.
    MakeDisclosure {
        account: String, basis: Basis, reference: String, recipient: String, secret_until: Option<Rfc3339>
    } "/disclosure/make" by Legal -> DisclosureWithContent;
    /// Lists disclosures.
    ListDisclosures { account: Option<String> } "/disclosure/list" by Legal -> Vec<Disclosure>;
}

/// An entry of the staff log.
#[derive(Deserialize, Serialize)]
pub(crate) struct StaffEntry {
    /// Its number.
    pub(crate) number: u64,
    /// When it was.
    pub(crate) at: Rfc3339,
    /// The Unix user's number.
    pub(crate) uid: u32,
    /// What was done.
    pub(crate) verb: String,
    /// The account; none if it was all of them or none.
    pub(crate) account: Option<i64>,
    /// What kinds of data were looked at or changed.
    pub(crate) data: String,
}

/// What a hash-chained list was found to be.
#[derive(Deserialize, Serialize)]
pub(crate) struct VerifiedRecord {
    /// Which list.
    pub(crate) list: String,
    /// What is wrong with it, first of all; none if nothing is.
    pub(crate) fault: Option<String>,
    /// Its end, to be noted elsewhere; none if it has a fault.
    pub(crate) end: Option<String>,
    /// How many entries were removed because their time was over; none if it has a fault.
    pub(crate) removed: Option<u64>,
}

/// What allows a disclosure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Basis {
    /// The customer agreed to this recipient, and has not withdrawn that.
    Consent,
    /// An order that is lawful and followed its procedure.
    LawfulOrder,
    /// The customer broke the terms.
    TermsBreach,
}

/// A disclosure.
#[derive(Deserialize, Serialize)]
pub(crate) struct Disclosure {
    /// Its number in the register.
    pub(crate) number: u64,
    /// When it was made.
    pub(crate) at: Rfc3339,
    /// The number of the Unix user who made it.
    pub(crate) uid: u32,
    /// About which account.
    pub(crate) account: i64,
    /// What allowed it.
    pub(crate) basis: Basis,
    /// The order's or case's reference.
    pub(crate) reference: String,
    /// Who received it.
    pub(crate) recipient: String,
    /// Until when the customer must not be told; none if they may.
    pub(crate) secret_until: Option<Rfc3339>,
    /// SHA-256 of the file that left.
    pub(crate) sha256: String,
}

/// A disclosure and what leaves.
#[derive(Deserialize, Serialize)]
pub(crate) struct DisclosureWithContent {
    /// The entry in the register.
    pub(crate) disclosure: Disclosure,
    /// The file.
    pub(crate) content: Content,
}

/// What leaves, wiped when dropped.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct Content(pub(crate) String);

impl Answer for ListStaffLog {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<Vec<StaffEntry>, Refused> {
        let account = match &self.account {
            Some(account) => Some(find_number(&gateway, account).await?),
            None => None,
        };
        // By a number there is nothing of a customer's to see.
        if let (Some(id), Some(AccountSelector::Email(_))) =
            (account, self.account.as_deref().and_then(|account| account.parse().ok()))
        {
            gateway.note_look(&caller, Deed::on(id, "staff log", &[DataKind::Email])).await?;
        }
        let entries = gateway.store.staff_log(account, self.after, PAGE).await?;
        Ok(entries
            .into_iter()
            .map(|entry| StaffEntry {
                number: entry.number,
                at: entry.at.into(),
                uid: entry.uid,
                verb: entry.verb,
                account: entry.account.map(|account| account.0),
                data: entry.data,
            })
            .collect())
    }
}

impl Answer for VerifyRecords {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        _caller: Caller,
    ) -> Result<Vec<VerifiedRecord>, Refused> {
        let read = |noted: Option<String>| noted.map(|text| text.parse::<End>()).transpose();
        let noted = read(self.noted).map_err(Refused::request)?;
        let noted_disclosures = read(self.noted_disclosures).map_err(Refused::request)?;
        let staff_log = gateway.store.verify_staff_log(noted).await?;
        let disclosures = gateway.store.verify_disclosures(noted_disclosures).await?;
        Ok(vec![verified(Chain::StaffLog, staff_log), verified(Chain::Disclosures, disclosures)])
    }
}

impl Answer for MakeDisclosure {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<DisclosureWithContent, Refused> {
        let now = UnixSeconds::now();
        if self.secret_until.is_some_and(|until| until.0 <= now) {
            return Err(Refused::request(
                "--secret-until is in the past; leave it out or name a later date",
            ));
        }
        let request = DisclosureRequest {
            account: find_number(&gateway, &self.account).await?,
            basis: match self.basis {
                Basis::Consent => StoredBasis::Consent,
                Basis::LawfulOrder => StoredBasis::LawfulOrder,
                Basis::TermsBreach => StoredBasis::TermsBreach,
            },
            reference: self.reference.parse::<Line>().map_err(Refused::request)?,
            recipient: self.recipient.parse::<Line>().map_err(Refused::request)?,
            secret_until: self.secret_until.map(|until| until.0),
        };
        let store = gateway.store.for_staff(caller.uid);
        let (disclosure, content) = store.disclose(&request, now).await?;
        log::changed("disclosure made", caller.uid);
        let (disclosure, content) = (disclosure.into(), Content(content.to_string()));
        Ok(DisclosureWithContent { disclosure, content })
    }
}

impl Answer for ListDisclosures {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<Vec<Disclosure>, Refused> {
        let account = match &self.account {
            Some(account) => Some(find_number(&gateway, account).await?),
            None => None,
        };
        let disclosures = gateway.store.disclosures(account).await?;
        let data = &[DataKind::Disclosures];
        gateway.note_look(&caller, Deed { verb: "disclosure list", account, data }).await?;
        Ok(disclosures.into_iter().map(Into::into).collect())
    }
}

fn verified(chain: Chain, verdict: Verdict) -> VerifiedRecord {
    let list = chain.name().to_owned();
    match verdict {
        Ok(whole) => VerifiedRecord {
            list,
            fault: None,
            end: Some(whole.end.to_string()),
            removed: Some(whole.removed),
        },
        Err(fault) => {
            VerifiedRecord { list, fault: Some(fault.to_string()), end: None, removed: None }
        }
    }
}

impl From<StoredDisclosure> for Disclosure {
    fn from(disclosure: StoredDisclosure) -> Self {
        Self {
            number: disclosure.number,
            at: disclosure.at.into(),
            uid: disclosure.uid,
            account: disclosure.account.0,
            basis: match disclosure.basis {
                StoredBasis::Consent => Basis::Consent,
                StoredBasis::LawfulOrder => Basis::LawfulOrder,
                StoredBasis::TermsBreach => Basis::TermsBreach,
            },
            reference: disclosure.reference.expose().into(),
            recipient: disclosure.recipient.expose().into(),
            secret_until: disclosure.secret_until.map(Into::into),
            sha256: disclosure.content_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}
