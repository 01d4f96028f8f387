//! Requests about an account's life, and what is answered.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_accounts::{
    AccountId, AccountSelector, Code, DataKind, Deed, EmailAddress, Kept, Password, Reader,
    Service as StoredService, ServiceName, Term as StoredTerm, codes::MAX_DAYS,
};
use tacit_messages::UnixSeconds;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    Request,
    answers::find,
    requests,
    server::{Answer, Caller, Refused},
};
use crate::{control::Gateway, log, rfc3339::Rfc3339};

/// The most codes that are made at once.
const MOST_CODES: u32 = 1000;

requests! {
    /// Gives an account a service.
    GrantService { account: String, service: Option<String>, term: Term } "/account/grant" -> Service;
    /// Changes an account's e-mail address.
    ChangeEmail { account: String, email: String } "/account/email" -> Changed;
    /// Changes an account's password.
    SetPassword { account: String, password: PasswordText } "/account/password" -> Changed;
    /// Cancels an account.
    CancelAccount { account: String } "/account/cancel" -> Cancelled;
    /// Asks for all that is held about an account's customer.
    ExportAccount { account: String } "/account/export" -> Exported;
    /// Makes activation codes.
    MakeCodes { service: String, days: u32, count: u32 } "/code/make" -> Codes;
    /// Lists the activation codes that nobody has redeemed.
    ListCodes {} "/code/list" -> Vec<UnusedCode>;
}

/// For how long a service is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Term {
    /// Days after its end, or from now on if it does not run.
    MoreDays(u32),
    /// Days from now on.
    DaysFromNow(u32),
    /// Without end.
    WithoutEnd,
}

/// A service of an account.
#[derive(Deserialize, Serialize)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: String,
    /// When it ends; none is never.
    pub(crate) ends_at: Option<Rfc3339>,
}

/// A consent of a customer to a disclosure.
#[derive(Deserialize, Serialize)]
pub(crate) struct Consent {
    /// To whom.
    pub(crate) recipient: String,
    /// When it was given.
    pub(crate) given_at: Rfc3339,
    /// When it was withdrawn; none while it holds.
    pub(crate) withdrawn_at: Option<Rfc3339>,
}

/// An account of which something was changed.
#[derive(Deserialize, Serialize)]
pub(crate) struct Changed {
    /// Its number.
    pub(crate) account: i64,
}

/// An account that was cancelled.
#[derive(Deserialize, Serialize)]
pub(crate) struct Cancelled {
    /// Its number.
    pub(crate) account: i64,
    /// How many devices were disconnected and removed.
    pub(crate) devices: usize,
}

/// All that is held about a customer, wiped when dropped.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Exported {
    /// For programs.
    pub(crate) json: String,
    /// For people.
    pub(crate) text: String,
}

/// A password as text, wiped when dropped.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct PasswordText(pub(crate) String);

/// New activation codes, wiped when dropped.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct Codes(pub(crate) Vec<String>);

/// An activation code that nobody has redeemed.
#[derive(Deserialize, Serialize)]
pub(crate) struct UnusedCode {
    /// Its number.
    pub(crate) id: i64,
    /// The service that it switches on.
    pub(crate) service: String,
    /// For how many days.
    pub(crate) days: u32,
    /// When it was made.
    pub(crate) made_at: Rfc3339,
}

impl Answer for GrantService {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Service, Refused> {
        let account = find(&gateway.store, &self.account).await?;
        let service = match self.service {
            Some(name) => name.parse().map_err(Refused::request)?,
            None => ServiceName::default(),
        };
        let term = match self.term {
            Term::MoreDays(days) => StoredTerm::MoreDays(check_days(days)?),
            Term::DaysFromNow(days) => StoredTerm::DaysFromNow(check_days(days)?),
            Term::WithoutEnd => StoredTerm::WithoutEnd,
        };
        let store = gateway.store.for_staff(caller.uid);
        let granted = store.grant(account.id, &service, term, UnixSeconds::now()).await?;
        log::changed("service granted", caller.uid);
        Ok(granted.into())
    }
}

impl Answer for ChangeEmail {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Changed, Refused> {
        let account = find(&gateway.store, &self.account).await?.id;
        let email: EmailAddress = self.email.parse().map_err(Refused::request)?;
        let store = gateway.store.for_staff(caller.uid);
        store.change_email(account, &email, UnixSeconds::now()).await?;
        gateway.post.wake();
        log::changed("e-mail address changed", caller.uid);
        Ok(Changed { account: account.0 })
    }
}

impl Answer for SetPassword {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Changed, Refused> {
        let account = find(&gateway.store, &self.account).await?;
        let password = Password::new(&self.password.0).map_err(Refused::request)?;
        password.check_strength(&[account.email.expose()]).map_err(Refused::request)?;
        let hashed = gateway.door.hasher().hash(&password).await.map_err(Refused::request)?;
        let store = gateway.store.for_staff(caller.uid);
        store.set_password(account.id, &hashed, UnixSeconds::now()).await?;
        gateway.post.wake();
        log::changed("password changed", caller.uid);
        Ok(Changed { account: account.id.0 })
    }
}

impl Answer for CancelAccount {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Cancelled, Refused> {
        let account = find(&gateway.store, &self.account).await?.id;
        let store = gateway.store.for_staff(caller.uid);
        let cancelled = store.cancel_account(account, UnixSeconds::now()).await?;
        gateway.disconnect(&cancelled.devices).await;
        gateway.post.wake();
        log::changed("account cancelled", caller.uid);
        Ok(Cancelled { account: account.0, devices: cancelled.devices.len() })
    }
}

impl Answer for ExportAccount {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Exported, Refused> {
        let now = UnixSeconds::now();
        let account = find_number(&gateway, &self.account).await?;
        let settings = gateway.settings.now();
        let kept = Kept::new(settings.keep_sessions, settings.keep_archive, settings.keep_records);
        let export = gateway.store.export(account, Reader::Customer, now).await?.with_kept(kept);
        gateway.note_look(&caller, Deed::on(account, "account export", DataKind::ALL)).await?;
        Ok(Exported { json: export.json().to_string(), text: export.text().to_string() })
    }
}

impl Answer for MakeCodes {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Codes, Refused> {
        let service: ServiceName = self.service.parse().map_err(Refused::request)?;
        let days = check_days(self.days)?;
        if !(1..=MOST_CODES).contains(&self.count) {
            return Err(Refused::request(format!("make 1 to {MOST_CODES} codes at once")));
        }
        let store = gateway.store.for_staff(caller.uid);
        let codes = store.make_codes(self.count, &service, days, UnixSeconds::now()).await?;
        log::changed("activation codes made", caller.uid);
        Ok(Codes(codes.iter().map(|code: &Code| code.expose().to_string()).collect()))
    }
}

impl Answer for ListCodes {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        _caller: Caller,
    ) -> Result<Vec<UnusedCode>, Refused> {
        let codes = gateway.store.unused_codes().await?.into_iter();
        Ok(codes
            .map(|code| UnusedCode {
                id: code.id,
                service: code.service.to_string(),
                days: code.days,
                made_at: code.made_at.into(),
            })
            .collect())
    }
}

/// The number of an account, which may be cancelled if it is named by number.
pub(super) async fn find_number(gateway: &Gateway, account: &str) -> Result<AccountId, Refused> {
    match account.parse().map_err(Refused::request)? {
        AccountSelector::Id(id) => Ok(id),
        selector @ AccountSelector::Email(_) => Ok(gateway.store.account(&selector).await?.id),
    }
}

fn check_days(days: u32) -> Result<u32, Refused> {
    if (1..=MAX_DAYS).contains(&days) {
        Ok(days)
    } else {
        Err(Refused::request(format!("a service is given for 1 to {MAX_DAYS} days")))
    }
}

impl From<StoredService> for Service {
    fn from(service: StoredService) -> Self {
        Self { name: service.name.to_string(), ends_at: service.ends_at.map(Into::into) }
    }
}

impl From<tacit_accounts::Consent> for Consent {
    fn from(consent: tacit_accounts::Consent) -> Self {
        Self {
            recipient: consent.recipient.expose().into(),
            given_at: consent.given_at.into(),
            withdrawn_at: consent.withdrawn_at.map(Into::into),
        }
    }
}
