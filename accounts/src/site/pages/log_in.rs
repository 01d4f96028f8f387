//! Logging in and out.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, header::SET_COOKIE},
    response::Response,
};
use tacit_messages::clock::Instant;

use crate::{
    DoorError, EmailAddress, Password, PasswordError, Visit,
    site::{
        Site,
        answer::{Answer, Frame, page, refused, to},
        fields::{Fields, Sent},
        visitor::{self, CLEAR_COOKIE, Peer, set_cookie},
        words::Text,
    },
};

#[derive(Template)]
#[template(path = "log_in.html")]
struct LogIn<'a> {
    frame: Frame<'a>,
    problem: Option<Text>,
    email: &'a str,
}

pub(super) async fn show(State(site): State<Arc<Site>>) -> Answer {
    page(&LogIn { frame: Frame::new(&site, None), problem: None, email: "" })
}

pub(super) async fn send(
    State(site): State<Arc<Site>>,
    peer: Peer,
    headers: HeaderMap,
    fields: Fields,
) -> Answer {
    let email = fields.trimmed("email");
    let problem = match try_to_log_in(&site, email, fields.text("password"), peer).await {
        Ok(visit) => {
            visitor::leave(&site, &headers);
            return Ok(begin(&site, visit, "/account"));
        }
        Err(DoorError::Wrong) => site.words.say("problem.wrong"),
        Err(error) => site.words.door(error)?,
    };
    refused(&LogIn { frame: Frame::new(&site, None), problem: Some(problem), email })
}

async fn try_to_log_in(
    site: &Site,
    email: &str,
    password: &str,
    Peer(from): Peer,
) -> Result<Visit, DoorError> {
    let email = address(email)?;
    let password = Password::new(password).map_err(|error| match error {
        PasswordError::Length => DoorError::Wrong,
        error => error.into(),
    })?;
    site.door.log_in(&site.store, &email, &password, from).await
}

/// Whose address was typed, also if it would not be taken today.
fn address(text: &str) -> Result<EmailAddress, DoorError> {
    EmailAddress::read(text).map_err(|_| DoorError::Wrong)
}

/// Begins a visit, always with a new cookie, and goes to a page.
pub(super) fn begin(site: &Site, visit: Visit, path: &'static str) -> Response {
    let cookie = site.visits.begin(visit, Instant::now());
    let mut response = to(path);
    response.headers_mut().insert(SET_COOKIE, set_cookie(&cookie));
    response
}

pub(super) async fn leave(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    sent.visitor.leave(&site);
    Ok(gone("/"))
}

/// Takes the cookie out of the browser and goes to a page.
fn gone(path: &'static str) -> Response {
    let mut response = to(path);
    response.headers_mut().insert(SET_COOKIE, CLEAR_COOKIE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customer_whose_address_would_not_be_taken_today_can_log_in_with_it() {
        let text = "\u{430}nn@example.org";
        assert!(EmailAddress::parse(text).is_err());
        assert_eq!(address(text).unwrap().expose(), text);
        assert!(matches!(address("ann"), Err(DoorError::Wrong)));
    }
}
