//! The first page: what is kept and what is not, and what came of the last audit.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;

use crate::site::{
    Audited, Facts, Site,
    answer::{Answer, Frame, page},
    visitor::Anybody,
};

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    frame: Frame<'a>,
    facts: &'a Facts,
    audit: Option<Audited>,
}

pub(super) async fn show(State(site): State<Arc<Site>>, Anybody(visitor): Anybody) -> Answer {
    let frame = Frame::new(&site, visitor.as_ref());
    page(&Home { frame, facts: &site.facts, audit: site.surroundings.last_audit() })
}
