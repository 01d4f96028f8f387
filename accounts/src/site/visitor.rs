//! Somebody who is logged in, as the cookie says.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header::COOKIE, request::Parts},
};
use tacit_messages::clock::Instant;

use super::{Site, answer::Failure, visits::form_token};
use crate::{AccountId, Token};

/// The cookie's name. Browsers take one that begins so only over HTTPS, from this very host and for all of it.
const COOKIE_NAME: &str = "__Host-tacit";

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().copied().ok_or(Failure::Fault)
    }
}

/// Somebody who is logged in.
pub(super) struct Visitor {
    pub(super) account: AccountId,
    pub(super) form_token: String,
    cookie: Token,
}

impl Visitor {
    /// Who sent a request with these headers, if they are logged in.
    pub(super) async fn of(site: &Arc<Site>, headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let Some(cookie) = cookie(headers) else { return Ok(None) };
        let finding = Self::with(Arc::clone(site), cookie);
        site.control.spawn(finding).await.map_err(|_| Failure::Fault)?
    }

    /// Who has a cookie.
    async fn with(site: Arc<Site>, cookie: Token) -> Result<Option<Self>, Failure> {
        let Some(visit) = site.visits.find(&cookie, Instant::now()) else { return Ok(None) };
        if site.store.epoch(visit.account).await? != Some(visit.epoch) {
            site.visits.end(&cookie);
            return Ok(None);
        }
        Ok(Some(Self { account: visit.account, form_token: form_token(&cookie), cookie }))
    }

    /// Ends the visit.
    pub(super) fn leave(&self, site: &Site) {
        site.visits.end(&self.cookie);
    }
}

impl FromRequestParts<Arc<Site>> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Failure> {
        Self::of(site, &parts.headers).await?.ok_or(Failure::NotIn)
    }
}

/// Somebody who may be logged in.
pub(super) struct Anybody(pub(super) Option<Visitor>);

impl FromRequestParts<Arc<Site>> for Anybody {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Failure> {
        Ok(Self(Visitor::of(site, &parts.headers).await?))
    }
}

/// Ends the visit of these headers' cookie, if there is one.
pub(super) fn leave(site: &Site, headers: &HeaderMap) {
    if let Some(cookie) = cookie(headers) {
        site.visits.end(&cookie);
    }
}

/// The cookie of a visit that begins. It is gone when the browser closes: it has no date.
pub(super) fn set_cookie(cookie: &Token) -> HeaderValue {
    let text = format!("{COOKIE_NAME}={}; {ATTRIBUTES}", cookie.expose());
    let value = HeaderValue::from_str(&text).ok();
    value.map_or(CLEAR_COOKIE, |mut value| {
        value.set_sensitive(true);
        value
    })
}

const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// What takes the cookie out of the browser.
pub(super) const CLEAR_COOKIE: HeaderValue =
    HeaderValue::from_static("__Host-tacit=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");

fn cookie(headers: &HeaderMap) -> Option<Token> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| Token::from(value));
    let cookie = values.next()?;
    // A second one was put there by somebody else.
    values.next().is_none().then_some(cookie)
}

/// Whether two texts are the same, in a time that does not tell how much of them is.
pub(super) fn is_same(text: &str, other: &str) -> bool {
    let differences =
        text.bytes().zip(other.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
    text.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Option<String> {
        let headers =
            lines.iter().map(|line| (COOKIE, HeaderValue::from_str(line).unwrap())).collect();
        cookie(&headers).map(|cookie| cookie.expose().to_owned())
    }

    #[test]
    fn cookie_is_found_among_others() {
        assert_eq!(found(&["a=b; __Host-tacit=abc; c=d"]).as_deref(), Some("abc"));
        assert_eq!(found(&["a=b", "__Host-tacit=abc"]).as_deref(), Some("abc"));
        assert_eq!(found(&["__host-tacit=abc; x__Host-tacit=abc"]), None);
    }

    #[test]
    fn cookie_that_is_there_twice_is_none() {
        assert_eq!(found(&["__Host-tacit=abc; __Host-tacit=def"]), None);
    }

    #[test]
    fn clause_6_cookie_has_no_date_and_is_for_this_host_alone() {
        let set = set_cookie(&Token::from("abc"));
        let text = set.to_str().unwrap();
        assert_eq!(text, "__Host-tacit=abc; Path=/; Secure; HttpOnly; SameSite=Strict");
    }

    #[test]
    fn same_texts_are_the_same_and_no_others() {
        assert!(is_same("abc", "abc") && is_same("", ""));
        for (one, other) in [("abc", "abd"), ("abc", "ab"), ("", "a"), ("Abc", "abc")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }
}
