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
    rules::{Calendar, Change, Date, Rules, compare},
    site::{
        Site,
        answer::{Answer, Failure, Frame, page},
        visitor::{Anybody, Visitor},
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
    /// Whether it is in force for others, and will be for this customer 14 days after their letter.
    is_late: bool,
}

/// The versions as one visitor finds them.
struct Seen {
    calendar: Calendar,
    /// The number of the version in force: for a customer, by what they were told and when (clause 11), and for anybody
    /// else as who joins now finds it.
    in_force: Option<i64>,
    now: UnixSeconds,
}

impl Seen {
    async fn by(site: &Site, visitor: Option<&Visitor>) -> Result<Self, Failure> {
        let (calendar, now) = (site.store.rules_calendar().await?, UnixSeconds::now());
        let in_force = match visitor {
            Some(visitor) => calendar.in_force(&site.store.told(visitor.account).await?, now),
            None => calendar.general(now),
        };
        Ok(Self { in_force: in_force.map(|version| version.number), calendar, now })
    }

    fn version(&self, rules: &Rules) -> Version {
        let state = self.state(rules.version.number);
        Version {
            number: rules.version.number,
            effective: Date(rules.version.effective_at).to_string(),
            summary: rules.summary.as_str().to_owned(),
            state,
            is_late: state == COMING && rules.version.begins() <= self.now,
        }
    }

    /// What a version is, by the name that languages have a word for.
    fn state(&self, number: i64) -> &'static str {
        match self.in_force {
            Some(in_force) if number == in_force => "in-force",
            Some(in_force) if number < in_force => "former",
            _ => COMING,
        }
    }
}

const COMING: &str = "coming";

pub(super) async fn list(State(site): State<Arc<Site>>, Anybody(visitor): Anybody) -> Answer {
    let seen = Seen::by(&site, visitor.as_ref()).await?;
    let mut versions = Vec::new();
    for version in seen.calendar.versions().iter().rev() {
        versions.push(seen.version(&site.store.rules(version.number).await?));
    }
    page(&RulesList { frame: Frame::new(&site, visitor.as_ref()), versions })
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Anybody(visitor): Anybody,
    InPath(number): InPath,
) -> Answer {
    let seen = Seen::by(&site, visitor.as_ref()).await?;
    let number = match number.as_str() {
        "in-force" => seen.in_force,
        number => number.parse().ok(),
    };
    let rules = site.store.rules(number.ok_or(Failure::NotFound)?).await?;
    let former = match rules.version.number {
        ..=1 => None,
        number => Some(site.store.rules(number - 1).await?),
    };
    page(&RulesPage {
        frame: Frame::new(&site, visitor.as_ref()),
        version: seen.version(&rules),
        blocks: blocks(rules.text.as_str()),
        changes: former.map(|former| compare(&former.text, &rules.text)).unwrap_or_default(),
    })
}
