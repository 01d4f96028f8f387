//! Registering, and the links of letters that confirm an address.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use tacit_messages::UnixSeconds;

use super::InPath;
use crate::{
    Confirmation, EmailAddress, Password, StoreError, Token,
    site::{
        Site,
        answer::{Answer, Failure, Frame, page, refused},
        fields::Fields,
        visitor::Peer,
        words::{Text, Words},
    },
};

#[derive(Template)]
#[template(path = "register.html")]
struct Register<'a> {
    frame: Frame<'a>,
    sends_letters: bool,
    problem: Option<Text>,
    email: &'a str,
    who: &'a str,
}

#[derive(Template)]
#[template(path = "letter_sent.html")]
struct LetterSent<'a> {
    frame: Frame<'a>,
}

pub(super) async fn show(State(site): State<Arc<Site>>) -> Answer {
    page(&Register::new(&site, "", "", None))
}

impl<'a> Register<'a> {
    fn new(site: &'a Site, email: &'a str, who: &'a str, problem: Option<Text>) -> Self {
        let sends_letters = site.facts.sends_letters;
        Self { frame: Frame::new(site, None), sends_letters, problem, email, who }
    }
}

pub(super) async fn send(State(site): State<Arc<Site>>, peer: Peer, fields: Fields) -> Answer {
    match try_to_register(&site, peer, &fields).await? {
        Ok(()) => page(&LetterSent { frame: Frame::new(&site, None) }),
        Err(problem) => {
            let (email, who) = (fields.trimmed("email"), fields.text("who"));
            refused(&Register::new(&site, email, who, Some(problem)))
        }
    }
}

async fn try_to_register(
    site: &Site,
    Peer(from): Peer,
    fields: &Fields,
) -> Result<Result<(), Text>, Failure> {
    if !site.facts.sends_letters {
        return Err(Failure::NotFound);
    }
    let (email, password, who) = match read(fields, site.words) {
        Ok(read) => read,
        Err(problem) => return Ok(Err(problem)),
    };
    match site.door.register(&site.store, &email, &password, who, from).await {
        Ok(_) => {
            site.surroundings.letters_queued();
            Ok(Ok(()))
        }
        Err(error) => site.words.door(error).map(Err),
    }
}

fn read(
    fields: &Fields,
    words: &'static Words,
) -> Result<(EmailAddress, Password, Confirmation), Text> {
    let email = EmailAddress::parse(fields.trimmed("email"));
    let email = email.map_err(|error| words.email(error))?;
    let password = Password::new(fields.text("password"));
    let password = password.map_err(|error| words.password(&error))?;
    if fields.text("password") != fields.text("again") {
        return Err(words.say("problem.passwords-differ"));
    }
    let who = [Confirmation::OfAge, Confirmation::ResponsibleAdult]
        .into_iter()
        .find(|who| who.as_str() == fields.text("who"))
        .ok_or_else(|| words.say("problem.who-is-missing"))?;
    if fields.text("rules") != "accepted" {
        return Err(words.say("problem.rules-are-missing"));
    }
    Ok((email, password, who))
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm<'a> {
    frame: Frame<'a>,
    state: Progress,
}

/// How far a confirmation is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Asked,
    Registered,
    Changed,
    NoSuchLink,
}

/// Asks to press a button: mail programs follow links by themselves.
pub(super) async fn ask(State(site): State<Arc<Site>>) -> Answer {
    page(&Confirm { frame: Frame::new(&site, None), state: Progress::Asked })
}

pub(super) async fn confirm(State(site): State<Arc<Site>>, InPath(token): InPath) -> Answer {
    let state = follow(&site, &Token::from(token.as_str())).await?;
    let confirmed = Confirm { frame: Frame::new(&site, None), state };
    if state == Progress::NoSuchLink { refused(&confirmed) } else { page(&confirmed) }
}

async fn follow(site: &Site, token: &Token) -> Result<Progress, Failure> {
    let now = UnixSeconds::now();
    match site.store.confirm_registration(token, now).await {
        Ok(_) => return Ok(Progress::Registered),
        Err(StoreError::EmailTaken) => return Ok(Progress::NoSuchLink),
        Err(StoreError::NoSuchLink) => {}
        Err(error) => return Err(error.into()),
    }
    match site.store.confirm_email_change(token, now).await {
        Ok(_) => {
            site.surroundings.letters_queued();
            Ok(Progress::Changed)
        }
        Err(StoreError::NoSuchLink | StoreError::EmailTaken | StoreError::NoSuchAccount) => {
            Ok(Progress::NoSuchLink)
        }
        Err(error) => Err(error.into()),
    }
}
