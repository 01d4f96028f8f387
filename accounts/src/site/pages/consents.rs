//! To whom a customer agrees that what is held about them is disclosed.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use tacit_messages::UnixSeconds;

use super::{Done, account::password};
use crate::{
    Consent, Line, StoreError,
    site::{
        Site,
        answer::{Answer, Failure, Frame, page, refused, to},
        fields::Sent,
        visitor::Visitor,
        words::{Text, when},
    },
};

/// Consents that one customer may have: there is an end to what a form can fill the store with.
const MOST: usize = 50;

#[derive(Template)]
#[template(path = "consents.html")]
struct ConsentsPage<'a> {
    frame: Frame<'a>,
    done: Option<Text>,
    problem: Option<Text>,
    recipient: &'a str,
    consents: Vec<ConsentLine>,
}

struct ConsentLine {
    id: i64,
    recipient: String,
    given_at: String,
    withdrawn_at: Option<String>,
}

impl From<Consent> for ConsentLine {
    fn from(consent: Consent) -> Self {
        Self {
            id: consent.id,
            recipient: consent.recipient.expose().to_owned(),
            given_at: when(consent.given_at),
            withdrawn_at: consent.withdrawn_at.map(when),
        }
    }
}

impl<'a> ConsentsPage<'a> {
    async fn new(site: &'a Site, visitor: &Visitor) -> Result<Self, Failure> {
        let consents = site.store.consents(visitor.account).await?;
        Ok(Self {
            frame: Frame::new(site, Some(visitor)),
            done: None,
            problem: None,
            recipient: "",
            consents: consents.into_iter().map(ConsentLine::from).collect(),
        })
    }
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visitor: Visitor,
    Done(done): Done,
) -> Answer {
    page(&ConsentsPage { done, ..ConsentsPage::new(&site, &visitor).await? })
}

pub(super) async fn give(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    let recipient = fields.trimmed("recipient");
    let Some(problem) = try_to_give(&site, visitor, recipient, fields.text("password")).await?
    else {
        return Ok(to("/consents?done=consent"));
    };
    let consents = ConsentsPage::new(&site, visitor).await?;
    refused(&ConsentsPage { problem: Some(problem), recipient, ..consents })
}

/// Gives a consent, or says why not.
async fn try_to_give(
    site: &Site,
    visitor: &Visitor,
    recipient: &str,
    typed_password: &str,
) -> Result<Option<Text>, Failure> {
    let recipient = match Line::parse(recipient) {
        Ok(recipient) => recipient,
        Err(error) => return Ok(Some(site.words.recipient(error))),
    };
    if site.store.consents(visitor.account).await?.len() >= MOST {
        return Ok(Some(site.words.say("problem.too-many-consents")));
    }
    let checked = async {
        let password = password(typed_password)?;
        site.door.check_again(&site.store, visitor.account, &password).await
    };
    if let Err(error) = checked.await {
        return site.words.door(error).map(Some);
    }
    site.store.give_consent(visitor.account, &recipient, UnixSeconds::now()).await?;
    Ok(None)
}

pub(super) async fn withdraw(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    let Ok(consent) = fields.text("consent").parse() else { return Err(Failure::NotFound) };
    match site.store.withdraw_consent(visitor.account, consent, UnixSeconds::now()).await {
        Ok(()) => Ok(to("/consents?done=withdrawn")),
        Err(StoreError::NoConsent) => Err(Failure::NotFound),
        Err(error) => Err(error.into()),
    }
}
