//! The first page: what is kept and what is not.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;

use crate::site::{
    Site,
    answer::{Answer, Frame, page},
    visitor::Anybody,
};

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    frame: Frame<'a>,
    facts: &'a crate::site::Facts,
}

pub(super) async fn show(State(site): State<Arc<Site>>, Anybody(visitor): Anybody) -> Answer {
    page(&Home { frame: Frame::new(&site, visitor.as_ref()), facts: &site.facts })
}
