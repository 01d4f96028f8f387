//! What a page answers: itself, another page to go to, or why not.

use std::sync::Arc;

use askama::Template;
use axum::{
    http::{
        StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;

use super::{
    Site, assets,
    visitor::Visitor,
    words::{Html, Text, Words},
};
use crate::{StoreError, rules::RulesError};

/// A page's answer.
pub(super) type Answer = Result<Response, Failure>;

/// Why a request is not answered as it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such page.
    NotFound,
    /// The page cannot be asked in this way.
    Method,
    /// Who is not logged in cannot have it.
    NotIn,
    /// It was sent from a page of another site.
    Foreign,
    /// It was sent from a page of another visit.
    Stale,
    /// It is not what a form of this site sends.
    NotUnderstood,
    /// It is larger than what a form of this site sends.
    TooLarge,
    /// It took too long to come.
    TooSlow,
    /// Others do the same already, and there is room for few.
    Busy,
    /// The store failed.
    Store(StoreError),
    /// The site failed.
    Fault,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<RulesError> for Failure {
    fn from(error: RulesError) -> Self {
        match error {
            RulesError::NoSuchVersion => Self::NotFound,
            RulesError::Store(error) => Self::Store(error),
            _ => Self::Fault,
        }
    }
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotIn => StatusCode::SEE_OTHER,
            Self::Foreign | Self::Stale => StatusCode::FORBIDDEN,
            Self::NotUnderstood => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The page that says so.
    pub(super) fn show(self, site: &Site) -> Response {
        if let Self::NotIn = self {
            return to("/log-in");
        }
        if let Self::Store(error) = &self {
            site.surroundings.store_failed(error);
        }
        let (title, text) = site.words.failure(&self);
        let page = FailurePage { frame: Frame::new(site, None), title, text };
        shown(self.status(), &page).unwrap_or_else(|_| self.status().into_response())
    }
}

/// Carried to the gate, which shows it: only there the site is known.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Carried(Arc::new(Mutex::new(Some(self)))));
        response
    }
}

/// A failure on its way; what is carried has to be cloneable.
#[derive(Clone)]
struct Carried(Arc<Mutex<Option<Failure>>>);

/// The failure that an answer carries.
pub(super) fn carried(response: &mut Response) -> Option<Failure> {
    let carried = response.extensions_mut().remove::<Carried>()?;
    carried.0.lock().take()
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    frame: Frame<'a>,
    title: Text,
    text: Text,
}

/// What every page shows around itself.
pub(super) struct Frame<'a> {
    /// The words of the page's language.
    pub(super) words: &'static Words,
    /// Where customers may ask.
    pub(super) contact: Option<&'a str>,
    /// What forms carry, if somebody is logged in.
    pub(super) token: Option<String>,
    /// Stands in the addresses of files.
    pub(super) version: &'static str,
}

impl<'a> Frame<'a> {
    pub(super) fn new(site: &'a Site, visitor: Option<&Visitor>) -> Self {
        Self {
            words: site.words,
            contact: site.facts.contact.as_ref().map(|contact| contact.as_str()),
            token: visitor.map(|visitor| visitor.form_token.clone()),
            version: &assets::VERSION,
        }
    }

    /// A text without tags.
    pub(super) fn say(&self, key: &str) -> Text {
        self.words.say(key)
    }

    /// A text with tags.
    pub(super) fn html(&self, key: &str) -> Html {
        self.words.html(key)
    }

    /// What the language calls something that the program knows by a name of its own.
    pub(super) fn name(&self, kind: &str, name: &str) -> Text {
        self.words.name(kind, name)
    }

    /// Whether somebody is logged in.
    pub(super) fn is_in(&self) -> bool {
        self.token.is_some()
    }

    /// What forms carry.
    pub(super) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Whether the contact is a page; else it is an e-mail address.
    pub(super) fn contact_is_page(&self) -> bool {
        self.contact.is_some_and(|contact| contact.starts_with("https://"))
    }
}

/// Answers with a page.
pub(super) fn page(template: &impl Template) -> Answer {
    shown(StatusCode::OK, template)
}

/// Answers with a page that says what is wrong with what was sent.
pub(super) fn refused(template: &impl Template) -> Answer {
    shown(StatusCode::UNPROCESSABLE_ENTITY, template)
}

/// Has the browser go to another page of this site.
pub(super) fn to(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response()
}

fn shown(status: StatusCode, template: &impl Template) -> Answer {
    let text = template.render().map_err(|_| Failure::Fault)?;
    Ok((status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response())
}
