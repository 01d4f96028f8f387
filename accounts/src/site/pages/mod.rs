//! The pages, and where each is.

mod account;
mod consents;
mod devices;
mod home;
mod log_in;
mod records;
mod register;
mod rules;
mod rules_text;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request, State},
    http::request::Parts,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use super::{
    Site,
    answer::{Answer, Failure, Frame, page},
    assets,
    visitor::Anybody,
    words::Text,
};

/// All addresses of the site. What needs nothing of the store is answered by whoever serves the connection.
pub(super) fn router(site: &Arc<Site>) -> Router {
    let with_store = Router::new()
        .route("/register", post(register::send))
        .route("/confirm/{token}", post(register::confirm))
        .route("/log-in", post(log_in::send))
        .route("/log-out", post(log_in::leave))
        .route("/account", get(account::show))
        .route("/account/code", post(account::redeem))
        .route("/account/email", post(account::change_email))
        .route("/account/password", post(account::change_password))
        .route("/account/cancel", post(account::cancel))
        .route("/devices", get(devices::show).post(devices::add))
        .route("/devices/rename", post(devices::rename))
        .route("/devices/remove", post(devices::remove))
        .route("/records", get(records::show))
        .route("/records.json", get(records::download))
        .route("/consents", get(consents::show).post(consents::give))
        .route("/consents/withdraw", post(consents::withdraw))
        .route("/rules", get(rules::list))
        .route("/rules/{number}", get(rules::show))
        .layer(from_fn_with_state(Arc::clone(site), among_control));
    Router::new()
        .route("/", get(home::show))
        .route("/contact", get(contact))
        .route("/register", get(register::show))
        .route("/confirm/{token}", get(register::ask))
        .route("/log-in", get(log_in::show))
        .route("/assets/{name}", get(assets::show))
        .merge(with_store)
        .fallback(async || Failure::NotFound)
        .method_not_allowed_fallback(async || Failure::Method)
        .with_state(Arc::clone(site))
}

/// Has a page answer among control's own tasks. What is begun is carried on, whether or not somebody waits for it: a
/// change must not be left half done.
async fn among_control(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let answered = site.control.spawn(next.run(request)).await;
    answered.unwrap_or_else(|_| Failure::Fault.into_response())
}

/// What the last step did, as the address of the page that comes after it says. Whatever else stands there means nothing.
struct Done(Option<Text>);

impl FromRequestParts<Arc<Site>> for Done {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(query.strip_prefix("done=").and_then(|step| site.words.done(step))))
    }
}

/// The variable part of an address. What is no text names nothing.
pub(super) struct InPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(part)| Self(part)).map_err(|_| Failure::NotFound)
    }
}

#[derive(askama::Template)]
#[template(path = "contact.html")]
struct Contact<'a> {
    frame: Frame<'a>,
}

async fn contact(State(site): State<Arc<Site>>, Anybody(visitor): Anybody) -> Answer {
    page(&Contact { frame: Frame::new(&site, visitor.as_ref()) })
}
