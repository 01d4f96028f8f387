//! All that is held about a customer, for their eyes: as a page and to take along.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::IntoResponse,
};
use tacit_messages::UnixSeconds;

use crate::{
    Export, Reader,
    site::{
        Facts, Site,
        answer::{Answer, Frame, page},
        visitor::Visitor,
        words::readable,
    },
};

#[derive(Template)]
#[template(path = "records.html")]
struct Records<'a> {
    frame: Frame<'a>,
    facts: &'a Facts,
    held: Export,
}

impl Records<'_> {
    /// A time as the page shows it.
    fn at(&self, time: &str) -> String {
        readable(time)
    }
}

pub(super) async fn show(State(site): State<Arc<Site>>, visitor: Visitor) -> Answer {
    let held = site.store.export(visitor.account, Reader::Customer, UnixSeconds::now()).await?;
    page(&Records { frame: Frame::new(&site, Some(&visitor)), facts: &site.facts, held })
}

pub(super) async fn download(State(site): State<Arc<Site>>, visitor: Visitor) -> Answer {
    let held = site.store.export(visitor.account, Reader::Customer, UnixSeconds::now()).await?;
    let file = "attachment; filename=\"what-is-held-about-me.json\"";
    let headers = [(CONTENT_TYPE, "application/json"), (CONTENT_DISPOSITION, file)];
    Ok((headers, held.json().to_string()).into_response())
}
