//! The calendar of the rules as the store keeps it: random publications, letters that fail and go out, uses and clocks.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use sqlx::AnyConnection;
use tacit_accounts::rules::{RulesError, RulesVersion};
use tacit_messages::{DeviceId, UnixSeconds};

use crate::{
    Fixture, NOW, ON, On, add_account_at, add_device, ip,
    rules::{DAY, draft},
};

/// How many are tried: each makes a database.
const CASES: u32 = match ON {
    On::Sqlite => 60,
    On::Postgres => 3,
};

/// What becomes of a letter.
const STATES: [&str; 5] = ["queued", "sending", "doubtful", "refused", "sent"];

#[derive(Clone, Debug)]
enum Event {
    /// A version is wanted for so many days after now.
    Publish { in_days: u64, is_significant: bool },
    /// A version's letter fails, or goes out.
    Letter { version: i64, state: &'static str },
    /// The clock moves, and now and then back.
    Clock { seconds: i64 },
    /// The customer connects.
    Use,
}

fn event() -> impl Strategy<Value = Event> {
    let day = DAY.cast_signed();
    prop_oneof![
        2 => (10..30u64, any::<bool>())
            .prop_map(|(in_days, is_significant)| Event::Publish { in_days, is_significant }),
        3 => (2..6i64, prop::sample::select(&STATES[..]))
            .prop_map(|(version, state)| Event::Letter { version, state }),
        1 => (-2 * day..20 * day).prop_map(|seconds| Event::Clock { seconds }),
        1 => prop::sample::select(vec![13 * day, 14 * day - 1, 14 * day])
            .prop_map(|seconds| Event::Clock { seconds }),
        2 => Just(Event::Use),
    ]
}

/// The reference: what was published, when its letter went out, and when the customer connected.
struct Model {
    joined_at: UnixSeconds,
    versions: Vec<RulesVersion>,
    letters: BTreeMap<i64, UnixSeconds>,
    uses: Vec<UnixSeconds>,
}

impl Model {
    /// The latest version that may apply to the customer then, without breaking the promise.
    fn in_force(&self, now: UnixSeconds) -> Option<i64> {
        let has_begun = |version: &RulesVersion, at: UnixSeconds| {
            at >= version.effective_at && at >= version.published_at
        };
        let may_apply = |upto: &usize| {
            has_begun(&self.versions[*upto], now)
                && now >= self.joined_at
                && self.versions[..=*upto].iter().all(|change| {
                    let letter = self.letters.get(&change.number);
                    !change.is_significant
                        || has_begun(change, self.joined_at)
                        || letter.is_some_and(|sent| now.0 >= sent.0 + 14 * DAY)
                })
        };
        let upto = (0..self.versions.len()).rev().find(may_apply)?;
        Some(self.versions[upto].number)
    }

    /// On which day use accepted each version.
    fn accepted(&self) -> BTreeMap<i64, UnixSeconds> {
        let mut accepted = BTreeMap::new();
        let mut uses = self.uses.clone();
        uses.sort();
        for used in uses {
            if let Some(version) = self.in_force(used) {
                accepted.entry(version).or_insert(UnixSeconds(used.0 - used.0 % DAY));
            }
        }
        accepted
    }
}

/// A customer of a store, and what is expected of it.
struct Scene {
    fixture: Fixture,
    database: AnyConnection,
    device: DeviceId,
    model: Model,
    now: UnixSeconds,
}

impl Scene {
    async fn happen(&mut self, event: Event) {
        let store = &self.fixture.store;
        match event {
            Event::Publish { in_days, is_significant } => {
                let effective_at = UnixSeconds(self.now.0 - self.now.0 % DAY + in_days * DAY);
                let text = format!("version after {}", self.model.versions.len());
                let draft = draft(&text, effective_at, is_significant);
                match store.publish_rules(&draft, Some(Duration::ZERO), self.now).await {
                    Ok(rules) => self.model.versions.push(rules.version),
                    Err(RulesError::Date(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Event::Letter { version, state } => {
                store.queue_missing_letters(self.now).await.unwrap();
                let sql = "UPDATE letters SET state = $1, state_since = $2
                     WHERE rules_version = $3 AND state != 'sent'";
                let changed = sqlx::query(sql)
                    .bind(state)
                    .bind(self.now.0.cast_signed())
                    .bind(version)
                    .execute(&mut self.database)
                    .await
                    .unwrap();
                if state == "sent" && changed.rows_affected() == 1 {
                    self.model.letters.insert(version, self.now);
                }
            }
            Event::Clock { seconds } => {
                self.now = UnixSeconds(self.now.0.saturating_add_signed(seconds));
            }
            Event::Use if self.now >= self.model.joined_at => {
                store.session_began(self.device, ip("192.0.2.7"), self.now).await.unwrap();
                self.model.uses.push(self.now);
            }
            Event::Use => {}
        }
    }
}

async fn follow(joined_after: u64, events: Vec<Event>) -> Result<(), TestCaseError> {
    let fixture = Fixture::new().await;
    let store = fixture.store.clone();
    store.publish_default_rules(NOW).await.unwrap();
    let versions = store.rules_calendar().await.unwrap().versions().to_vec();
    let joined_at = UnixSeconds(NOW.0 + joined_after);
    let account = add_account_at(&store, "ann@example.org", joined_at).await;
    let device = add_device(&store, account, "phone").await.unwrap().id;
    let database = fixture.database().await;
    let model = Model { joined_at, versions, letters: BTreeMap::new(), uses: Vec::new() };
    let mut scene = Scene { fixture, database, device, model, now: NOW };
    for event in events {
        scene.happen(event).await;
        let told = store.told(account).await.unwrap();
        let sent = scene.model.letters.iter().map(|(version, at)| (*version, *at));
        prop_assert_eq!(&told.letters, &sent.collect::<Vec<_>>());
        let calendar = store.rules_calendar().await.unwrap();
        let in_force = calendar.in_force(&told, scene.now).map(|version| version.number);
        prop_assert_eq!(in_force, scene.model.in_force(scene.now));
    }
    store.record_acceptances(UnixSeconds(scene.now.0 + 1000 * DAY)).await.unwrap();
    let accepted = store.acceptances(account).await.unwrap().into_iter();
    let accepted: BTreeMap<_, _> = accepted.map(|one| (one.version, one.accepted_on)).collect();
    prop_assert_eq!(accepted, scene.model.accepted());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clause_11_store_has_in_force_and_accepted_what_letters_and_uses_say(
        joined_after in 0..40 * DAY,
        events in prop::collection::vec(event(), 20..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(joined_after, events))?;
    }
}
