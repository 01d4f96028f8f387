//! The account: its services, and what its customer may change or end.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::header::SET_COOKIE, response::Response};
use tacit_messages::UnixSeconds;

use super::{Done, log_in};
use crate::{
    Account, AccountSelector, Code, DoorError, EmailAddress, Password, Service,
    site::{
        Site,
        answer::{Answer, Failure, Frame, page, refused, to},
        fields::Sent,
        visitor::{CLEAR_COOKIE, Visitor},
        words::{Text, when},
    },
};

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    frame: Frame<'a>,
    done: Option<Text>,
    problem: Option<Text>,
    account: Account,
    services: Vec<ServiceLine>,
    keep_archive: u32,
    refused: Option<Form<'a>>,
}

/// A form that was refused, with what was typed into it, to be there again; passwords are typed anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form<'a> {
    Code(&'a str),
    Email(&'a str),
    Password,
    Cancellation,
}

struct ServiceLine {
    name: String,
    is_running: bool,
    ends_at: Option<String>,
}

impl ServiceLine {
    fn new(service: Service, now: UnixSeconds) -> Self {
        Self {
            is_running: service.is_running(now),
            ends_at: service.ends_at.map(when),
            name: service.name.to_string(),
        }
    }
}

impl<'a> AccountPage<'a> {
    async fn new(site: &'a Site, visitor: &Visitor) -> Result<Self, Failure> {
        let account = site.store.account(&AccountSelector::Id(visitor.account)).await?;
        let (services, now) = (site.store.services(visitor.account).await?, UnixSeconds::now());
        Ok(Self {
            frame: Frame::new(site, Some(visitor)),
            done: None,
            problem: None,
            account,
            services: services.into_iter().map(|line| ServiceLine::new(line, now)).collect(),
            keep_archive: site.facts.keep_archive,
            refused: None,
        })
    }

    fn code(&self) -> &str {
        if let Some(Form::Code(code)) = self.refused { code } else { "" }
    }

    fn new_email(&self) -> &str {
        if let Some(Form::Email(email)) = self.refused { email } else { "" }
    }

    fn is_changing_email(&self) -> bool {
        matches!(self.refused, Some(Form::Email(_)))
    }

    fn is_changing_password(&self) -> bool {
        self.refused == Some(Form::Password)
    }

    fn is_cancelling(&self) -> bool {
        self.refused == Some(Form::Cancellation)
    }
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visitor: Visitor,
    Done(done): Done,
) -> Answer {
    page(&AccountPage { done, ..AccountPage::new(&site, &visitor).await? })
}

/// Shows the page again with what is wrong with one of its forms.
async fn wrong(site: &Site, visitor: &Visitor, form: Form<'_>, problem: Text) -> Answer {
    refused(&AccountPage {
        problem: Some(problem),
        refused: Some(form),
        ..AccountPage::new(site, visitor).await?
    })
}

pub(super) async fn redeem(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    let form = Form::Code(fields.trimmed("code"));
    let code: Code = match fields.trimmed("code").parse() {
        Ok(code) => code,
        Err(error) => return wrong(&site, visitor, form, site.words.code(error)).await,
    };
    match site.store.redeem_code(visitor.account, &code, UnixSeconds::now()).await {
        Ok(_) => Ok(to("/account?done=code")),
        Err(error) => wrong(&site, visitor, form, site.words.store(error)?).await,
    }
}

pub(super) async fn change_email(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    if !site.facts.sends_letters {
        return Err(Failure::NotFound);
    }
    let form = Form::Email(fields.trimmed("email"));
    let email = match EmailAddress::parse(fields.trimmed("email")) {
        Ok(email) => email,
        Err(error) => return wrong(&site, visitor, form, site.words.email(error)).await,
    };
    let changed = async {
        let password = password(fields.text("password"))?;
        site.door.change_email(&site.store, visitor.account, &password, &email).await
    };
    match changed.await {
        Ok(_) => {
            site.surroundings.letters_queued();
            Ok(to("/account?done=email"))
        }
        Err(error) => wrong(&site, visitor, form, site.words.door(error)?).await,
    }
}

pub(super) async fn change_password(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    let form = Form::Password;
    let new = match Password::new(fields.text("new")) {
        Ok(new) if fields.text("new") == fields.text("again") => new,
        Ok(_) => {
            return wrong(&site, visitor, form, site.words.say("problem.passwords-differ")).await;
        }
        Err(error) => return wrong(&site, visitor, form, site.words.password(&error)).await,
    };
    let account = site.store.account(&AccountSelector::Id(visitor.account)).await?;
    let changed = async {
        let present = password(fields.text("password"))?;
        site.door
            .change_password(&site.store, visitor.account, &present, &new, &account.email)
            .await
    };
    match changed.await {
        Ok((visit, _)) => {
            site.surroundings.letters_queued();
            visitor.leave(&site);
            Ok(log_in::begin(&site, visit, "/account?done=password"))
        }
        Err(error) => wrong(&site, visitor, form, site.words.door(error)?).await,
    }
}

#[derive(Template)]
#[template(path = "cancelled.html")]
struct CancelledPage<'a> {
    frame: Frame<'a>,
    keep_archive: u32,
}

pub(super) async fn cancel(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    let form = Form::Cancellation;
    if fields.text("sure") != "yes" {
        return wrong(&site, visitor, form, site.words.say("problem.not-sure")).await;
    }
    let cancelled = async {
        let password = password(fields.text("password"))?;
        site.door.cancel(&site.store, visitor.account, &password).await
    };
    match cancelled.await {
        Ok(cancelled) => {
            site.surroundings.disconnect(&cancelled.devices).await;
            site.surroundings.letters_queued();
            visitor.leave(&site);
            let keep_archive = site.facts.keep_archive;
            let frame = Frame::new(&site, None);
            page(&CancelledPage { frame, keep_archive }).map(without_cookie)
        }
        Err(error) => wrong(&site, visitor, form, site.words.door(error)?).await,
    }
}

fn without_cookie(mut response: Response) -> Response {
    response.headers_mut().insert(SET_COOKIE, CLEAR_COOKIE);
    response
}

/// What was typed as the present password; what cannot be one is a wrong one.
pub(super) fn password(text: &str) -> Result<Password, DoorError> {
    Password::new(text).map_err(|_| DoorError::Wrong)
}
