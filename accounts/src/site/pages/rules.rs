//! The privacy rules: those in force, those to come, and all former ones with what changed.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use tacit_messages::UnixSeconds;

use super::{
    InPath,
    rules_text::{Block, blocks},
};
use crate::{
    rules::{Calendar, Change, Date, Rules, RulesVersion, compare},
    site::{
        Site,
        answer::{Answer, Failure, Frame, page},
        visitor::Anybody,
    },
};

#[derive(Template)]
#[template(path = "rules_list.html")]
struct RulesList<'a> {
    frame: Frame<'a>,
    versions: Vec<Version>,
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage<'a> {
    frame: Frame<'a>,
    version: Version,
    blocks: Vec<Block>,
    changes: Vec<Change>,
}

/// A version as the pages show it.
struct Version {
    number: i64,
    effective: String,
    summary: String,
    state: &'static str,
}

impl Version {
    fn new(rules: &Rules, calendar: &Calendar, now: UnixSeconds) -> Self {
        Self {
            number: rules.version.number,
            effective: Date(rules.version.effective_at).to_string(),
            summary: rules.summary.as_str().to_owned(),
            state: state(rules.version, calendar, now),
        }
    }
}

/// What a version is at a time, by the name that languages have a word for.
fn state(version: RulesVersion, calendar: &Calendar, now: UnixSeconds) -> &'static str {
    if calendar.general(now) == Some(version) {
        "in-force"
    } else if version.begins() > now {
        "coming"
    } else {
        "former"
    }
}

pub(super) async fn list(State(site): State<Arc<Site>>, Anybody(visitor): Anybody) -> Answer {
    let (calendar, now) = (site.store.rules_calendar().await?, UnixSeconds::now());
    let mut versions = Vec::new();
    for version in calendar.versions().iter().rev() {
        let rules = site.store.rules(version.number).await?;
        versions.push(Version::new(&rules, &calendar, now));
    }
    page(&RulesList { frame: Frame::new(&site, visitor.as_ref()), versions })
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Anybody(visitor): Anybody,
    InPath(number): InPath,
) -> Answer {
    let (calendar, now) = (site.store.rules_calendar().await?, UnixSeconds::now());
    let number = match number.as_str() {
        "in-force" => calendar.general(now).map(|version| version.number),
        number => number.parse().ok(),
    };
    let rules = site.store.rules(number.ok_or(Failure::NotFound)?).await?;
    let former = match rules.version.number {
        ..=1 => None,
        number => Some(site.store.rules(number - 1).await?),
    };
    page(&RulesPage {
        frame: Frame::new(&site, visitor.as_ref()),
        version: Version::new(&rules, &calendar, now),
        blocks: blocks(rules.text.as_str()),
        changes: former.map(|former| compare(&former.text, &rules.text)).unwrap_or_default(),
    })
}
