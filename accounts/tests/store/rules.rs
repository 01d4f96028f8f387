use std::time::Duration;

use tacit_accounts::{
    AccountId, Reader, StoreError,
    rules::{Date, Draft, PublicationError, RulesError, RulesText, Summary},
};
use tacit_messages::UnixSeconds;

use crate::{Fixture, NOW, add_account, add_device, ip, later};

pub(crate) const DAY: u64 = 24 * 60 * 60;

/// A letter a second.
pub(crate) const PACE: Option<Duration> = Some(Duration::from_secs(1));

/// The begin of the day that is so many days after today.
pub(crate) fn in_days(days: u64) -> UnixSeconds {
    UnixSeconds(NOW.0 - NOW.0 % DAY + days * DAY)
}

pub(crate) fn draft(text: &str, effective_at: UnixSeconds, is_significant: bool) -> Draft {
    let text = RulesText::parse(text.as_bytes()).unwrap();
    Draft { text, summary: None, effective_at, is_significant }
}

/// A store with the default rules, and a customer.
async fn with_customer() -> (Fixture, AccountId) {
    let fixture = Fixture::new().await;
    fixture.store.publish_default_rules(NOW).await.unwrap();
    let account = add_account(&fixture.store, "ann@example.org").await;
    (fixture, account)
}

/// Sends all letters at `now`, without a mail server.
async fn send_letters(fixture: &Fixture, now: UnixSeconds) {
    let sql = format!("UPDATE letters SET state = 'sent', state_since = {}", now.0);
    fixture.execute(&sql).await;
}

#[tokio::test]
async fn default_rules_are_the_first_and_published_once() {
    let (fixture, _) = with_customer().await;
    fixture.store.publish_default_rules(later(DAY)).await.unwrap();
    let calendar = fixture.store.rules_calendar().await.unwrap();
    assert_eq!(calendar.versions().len(), 1);
    assert_eq!(calendar.general(NOW).unwrap().number, 1);
    let rules = fixture.store.rules(1).await.unwrap();
    assert_eq!(rules.text.as_str(), tacit_accounts::rules::DEFAULT_RULES);
    assert!(fixture.store.letter_progress(NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn clause_11_significant_change_is_refused_until_the_last_letter_is_fourteen_days_old() {
    let (fixture, _) = with_customer().await;
    for number in 0..9 {
        add_account(&fixture.store, &format!("c{number}@example.org")).await;
    }
    // Ten letters of a tenth of a day each: the last one is sent in a day.
    let pace = Some(Duration::from_secs(DAY / 10));
    let refusal = fixture.store.publish_rules(&draft("new", in_days(15), true), pace, NOW).await;
    let Err(RulesError::Date(PublicationError::TooEarly { earliest })) = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!(earliest, in_days(16));
    assert_eq!(fixture.store.rules_calendar().await.unwrap().versions().len(), 1);
    let published = fixture.store.publish_rules(&draft("new", earliest, true), pace, NOW).await;
    assert_eq!(published.unwrap().version.number, 2);
    let progress = fixture.store.letter_progress(NOW).await.unwrap();
    assert_eq!((progress[0].version, progress[0].queued, progress[0].total()), (2, 10, 10));
}

#[tokio::test]
async fn clause_11_letters_that_wait_already_count_for_the_date() {
    let (fixture, _) = with_customer().await;
    let pace = Some(Duration::from_secs(DAY));
    fixture.store.publish_rules(&draft("two", in_days(16), true), pace, NOW).await.unwrap();
    let refusal = fixture.store.publish_rules(&draft("three", in_days(16), true), pace, NOW).await;
    assert!(
        matches!(refusal, Err(RulesError::Date(PublicationError::TooEarly { earliest })) if earliest == in_days(17))
    );
}

#[tokio::test]
async fn clause_11_change_cannot_be_told_without_mail_and_a_minor_one_need_not() {
    let (fixture, _) = with_customer().await;
    let refusal = fixture.store.publish_rules(&draft("new", in_days(60), true), None, NOW).await;
    assert!(matches!(refusal, Err(RulesError::NoMail)));
    let minor = fixture.store.publish_rules(&draft("new", in_days(0), false), None, NOW).await;
    assert_eq!(minor.unwrap().version.number, 2);
    let again = fixture.store.publish_rules(&draft("new", in_days(0), false), None, NOW).await;
    assert!(matches!(again, Err(RulesError::Unchanged)));
    let past = fixture.store.publish_rules(&draft("x", UnixSeconds(0), false), None, NOW).await;
    assert!(matches!(past, Err(RulesError::Date(PublicationError::Past { .. }))));
    assert!(matches!(fixture.store.rules(3).await, Err(RulesError::NoSuchVersion)));
}

#[tokio::test]
async fn clause_11_late_letter_makes_the_change_late_for_its_customer_alone() {
    let (fixture, ann) = with_customer().await;
    let ben = add_account(&fixture.store, "ben@example.org").await;
    fixture.store.publish_rules(&draft("new", in_days(20), true), PACE, NOW).await.unwrap();
    send_letters(&fixture, NOW).await;
    let sent = in_days(10);
    let sql = format!("UPDATE letters SET state_since = {} WHERE account_id = {ben}", sent.0);
    fixture.execute(&sql).await;
    let calendar = fixture.store.rules_calendar().await.unwrap();
    let number = |told, now| calendar.in_force(&told, now).unwrap().number;
    assert_eq!(number(fixture.store.told(ann).await.unwrap(), in_days(20)), 2);
    assert_eq!(number(fixture.store.told(ben).await.unwrap(), in_days(20)), 1);
    assert_eq!(number(fixture.store.told(ben).await.unwrap(), in_days(24)), 2);
    assert_eq!(fixture.store.letter_progress(in_days(20)).await.unwrap()[0].late, 1);
}

#[tokio::test]
async fn clause_11_who_joins_before_the_date_gets_the_letter_too() {
    let (fixture, _) = with_customer().await;
    fixture.store.publish_rules(&draft("new", in_days(20), true), PACE, NOW).await.unwrap();
    let between = crate::add_account_at(&fixture.store, "ben@example.org", in_days(10)).await;
    let after = crate::add_account_at(&fixture.store, "cleo@example.org", in_days(20)).await;
    assert_eq!(fixture.store.queue_missing_letters(in_days(10)).await.unwrap(), 1);
    assert_eq!(fixture.store.queue_missing_letters(in_days(30)).await.unwrap(), 0);
    send_letters(&fixture, in_days(10)).await;
    let calendar = fixture.store.rules_calendar().await.unwrap();
    let told = fixture.store.told(between).await.unwrap();
    assert_eq!(told.letters, [(2, in_days(10))]);
    assert_eq!(calendar.in_force(&told, in_days(23)).unwrap().number, 1);
    let told = fixture.store.told(after).await.unwrap();
    assert_eq!(calendar.in_force(&told, in_days(20)).unwrap().number, 2);
}

#[tokio::test]
async fn clause_11_first_use_after_the_date_is_acceptance_once_and_by_day_only() {
    let (fixture, ann) = with_customer().await;
    let ben = add_account(&fixture.store, "ben@example.org").await;
    let phone = add_device(&fixture.store, ann, "phone").await.unwrap().id;
    let other = add_device(&fixture.store, ben, "phone").await.unwrap().id;
    let cleo = add_account(&fixture.store, "cleo@example.org").await;
    let told_late = add_device(&fixture.store, cleo, "phone").await.unwrap().id;
    let began = |device, at| fixture.store.session_began(device, ip("192.0.2.7"), at);
    began(phone, later(60)).await.unwrap();
    fixture.store.publish_rules(&draft("new", in_days(20), true), PACE, later(61)).await.unwrap();
    send_letters(&fixture, later(61)).await;
    let sql = format!("UPDATE letters SET state = 'refused' WHERE account_id = {ben}");
    fixture.execute(&sql).await;
    let late = in_days(10);
    let sql = format!("UPDATE letters SET state_since = {} WHERE account_id = {cleo}", late.0);
    fixture.execute(&sql).await;
    for at in [in_days(22), UnixSeconds(in_days(24).0 - 1), in_days(24)] {
        began(told_late, at).await.unwrap();
    }
    let second = UnixSeconds(in_days(20).0 - 1);
    began(phone, second).await.unwrap();
    for (device, at) in [(phone, in_days(21)), (phone, in_days(22)), (other, in_days(22))] {
        began(device, UnixSeconds(at.0 + 12345)).await.unwrap();
    }
    assert_eq!(fixture.store.record_acceptances(in_days(30)).await.unwrap(), 5);
    assert_eq!(fixture.store.record_acceptances(in_days(30)).await.unwrap(), 0);
    let accepted = |account| {
        let store = fixture.store.clone();
        async move {
            let accepted = store.acceptances(account).await.unwrap();
            accepted.into_iter().map(|one| (one.version, one.accepted_on)).collect::<Vec<_>>()
        }
    };
    assert_eq!(accepted(ann).await, [(1, in_days(0)), (2, in_days(21))]);
    assert_eq!(accepted(ben).await, [(1, in_days(22))], "they were never told of the second");
    let after_fourteen_days = [(1, in_days(22)), (2, in_days(24))];
    assert_eq!(accepted(cleo).await, after_fourteen_days, "their letter was late");
    let export = fixture.store.export(ann, Reader::Customer, in_days(30)).await.unwrap();
    let line = "version 2, letter written 2026-09-21T14:14:21Z and sent 2026-09-21T14:14:21Z, \
                accepted by use on 2026-10-12";
    assert!(export.text().contains(line), "{}", *export.text());
    assert!(export.json().contains("\"accepted_on\": \"2026-10-12\""));
}

#[tokio::test]
async fn hostile_words_are_kept_as_they_are_and_change_nothing_else() {
    let (fixture, _) = with_customer().await;
    let text = "'); DROP TABLE rules; -- {summary} %s <script>\n";
    let summary = Summary::parse("'); DELETE FROM letters; --").unwrap();
    let draft = Draft { summary: Some(summary.clone()), ..draft(text, in_days(30), true) };
    fixture.store.publish_rules(&draft, PACE, NOW).await.unwrap();
    let rules = fixture.store.rules(2).await.unwrap();
    assert_eq!((rules.text.as_str(), rules.summary), (text, summary));
    assert_eq!(fixture.store.letter_progress(NOW).await.unwrap()[0].queued, 1);
    let settled =
        fixture.store.settle_letter("' OR '1'='1", tacit_accounts::post::Doubt::Arrived, NOW).await;
    assert!(matches!(settled, Err(StoreError::NoSuchLetter)));
}

#[test]
fn day_of_the_tests_is_one() {
    assert_eq!(Date(in_days(0)).to_string(), "2026-09-21");
}
