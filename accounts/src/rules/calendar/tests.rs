use proptest::prelude::*;

use super::*;

fn day(number: u64) -> UnixSeconds {
    UnixSeconds(number * DAY)
}

fn significant(effective: u64, last_letter_at: Option<UnixSeconds>) -> Publication {
    Publication { effective_at: day(effective), is_significant: true, last_letter_at }
}

fn minor(effective: u64) -> Publication {
    Publication { effective_at: day(effective), is_significant: false, last_letter_at: None }
}

fn told(joined: UnixSeconds, letters: &[(i64, UnixSeconds)]) -> Told {
    Told { joined_at: joined, letters: letters.to_vec() }
}

/// Version 1 in force since day 0, and a significant version 2 published on day 100 for day 120.
fn calendar() -> Calendar {
    let mut calendar = Calendar::default();
    calendar.publish(minor(0), day(0)).unwrap();
    calendar.publish(significant(120, Some(day(100))), day(100)).unwrap();
    calendar
}

#[test]
fn clause_11_significant_change_less_than_fourteen_days_after_the_last_letter_is_refused() {
    let last_letter_at = UnixSeconds(day(100).0 + 1);
    let mut calendar = Calendar::default();
    let refusal = calendar.publish(significant(114, Some(last_letter_at)), day(100)).unwrap_err();
    assert_eq!(refusal, PublicationError::TooEarly { earliest: day(115) });
    assert!(refusal.to_string().ends_with("the earliest possible date is 1970-04-26"), "{refusal}");
    assert!(calendar.versions().is_empty());
    assert!(calendar.publish(significant(115, Some(last_letter_at)), day(100)).is_ok());
    assert!(calendar.publish(significant(116, Some(day(102))), day(102)).is_ok());
}

#[test]
fn clause_11_minor_change_may_be_of_today_and_not_of_yesterday() {
    let now = UnixSeconds(day(100).0 + 3600);
    let mut calendar = Calendar::default();
    let refusal = calendar.publish(minor(99), now);
    assert_eq!(refusal, Err(PublicationError::Past { earliest: day(100) }));
    let version = calendar.publish(minor(100), now).unwrap();
    assert_eq!(calendar.general(day(100)), None, "it was not published yet");
    assert_eq!(calendar.general(now), Some(version));
}

#[test]
fn version_cannot_take_effect_before_the_one_before_it() {
    let mut calendar = calendar();
    let refusal = calendar.publish(minor(119), day(101));
    assert_eq!(refusal, Err(PublicationError::BeforeFormer { former: day(120) }));
    assert_eq!(calendar.publish(minor(120), day(101)).unwrap().number, 3);
}

#[test]
fn clause_11_change_is_in_force_from_its_date_for_who_was_told_in_time() {
    let calendar = calendar();
    let customer = told(day(1), &[(2, day(106))]);
    assert_eq!(calendar.in_force(&customer, UnixSeconds(day(120).0 - 1)).unwrap().number, 1);
    assert_eq!(calendar.in_force(&customer, day(120)).unwrap().number, 2);
}

#[test]
fn clause_11_late_letter_keeps_the_former_rules_in_force_until_fourteen_days_after_it() {
    let calendar = calendar();
    let late = told(day(1), &[(2, day(107))]);
    assert_eq!(calendar.in_force(&late, UnixSeconds(day(121).0 - 1)).unwrap().number, 1);
    assert_eq!(calendar.in_force(&late, day(121)).unwrap().number, 2);
    let never = told(day(1), &[]);
    assert_eq!(calendar.in_force(&never, day(9999)).unwrap().number, 1);
}

#[test]
fn clause_11_minor_change_does_not_bring_an_untold_one_into_force() {
    let mut calendar = calendar();
    calendar.publish(minor(125), day(125)).unwrap();
    let never = told(day(1), &[]);
    assert_eq!(calendar.in_force(&never, day(200)).unwrap().number, 1);
    let late = told(day(1), &[(2, day(130))]);
    assert_eq!(calendar.in_force(&late, day(144)).unwrap().number, 3);
}

#[test]
fn who_joins_on_the_date_or_later_finds_it_in_force() {
    let calendar = calendar();
    let version = |joined, now| calendar.in_force(&told(joined, &[]), now).unwrap().number;
    assert_eq!(version(day(120), day(120)), 2);
    assert_eq!(version(day(119), day(120)), 1, "nobody told them");
    assert_eq!(calendar.general(day(119)).unwrap().number, 1);
    assert_eq!(calendar.coming(day(119)).len(), 1);
}

#[test]
fn date_is_written_and_read_in_one_form() {
    let date: Date = "2026-02-28".parse().unwrap();
    assert_eq!((date.0, date.to_string()), (UnixSeconds(1_772_236_800), "2026-02-28".into()));
    for wrong in
        ["", "2026-2-28", "2026-02-30", "20260228", "1969-12-31", "2026-02-28T10:00", "28.02.2026"]
    {
        assert!(wrong.parse::<Date>().is_err(), "{wrong}");
    }
}

/// What happens to one customer's rules, at times that may also go back.
#[derive(Clone, Debug)]
enum Event {
    /// A version is wanted for so many days after now, with the letters out by so many seconds after now.
    Publish { in_days: u64, is_significant: bool, letters_take: Option<u64> },
    /// The letter of a version is sent, or fails and is tried again some other time.
    Letter { version: usize, is_sent: bool },
    /// The clock moves, and now and then back.
    Clock { seconds: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..40u64, any::<bool>(), prop::option::of(0..3 * DAY)).prop_map(
            |(in_days, is_significant, letters_take)| Event::Publish {
                in_days,
                is_significant,
                letters_take
            }
        ),
        (0..6usize, any::<bool>())
            .prop_map(|(version, is_sent)| Event::Letter { version, is_sent }),
        (-2 * i64::try_from(DAY).unwrap()..20 * i64::try_from(DAY).unwrap())
            .prop_map(|seconds| Event::Clock { seconds }),
    ]
}

/// The reference: what was published when, and when its letter went out, as a list. Nothing is computed ahead.
#[derive(Debug, Default)]
struct Model {
    published: Vec<(RulesVersion, Option<UnixSeconds>)>,
}

impl Model {
    /// Whether it would break the promise to apply this version to somebody who joined at `joined`.
    fn may_apply(&self, upto: usize, joined: UnixSeconds, now: UnixSeconds) -> bool {
        let (version, _) = self.published[upto];
        if now < version.effective_at || now < version.published_at || now < joined {
            return false;
        }
        self.published[..=upto].iter().all(|(change, letter)| {
            let found_it = joined >= change.effective_at && joined >= change.published_at;
            let told_in_time = letter.is_some_and(|sent| now.0 >= sent.0 + 14 * DAY);
            !change.is_significant || found_it || told_in_time
        })
    }

    fn in_force(&self, joined: UnixSeconds, now: UnixSeconds) -> Option<i64> {
        let upto =
            (0..self.published.len()).rev().find(|upto| self.may_apply(*upto, joined, now))?;
        Some(self.published[upto].0.number)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn clause_11_no_significant_change_is_in_force_before_fourteen_days_after_the_letter(
        joined in 0..400 * DAY,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let (mut calendar, mut model) = (Calendar::default(), Model::default());
        let (mut now, joined) = (day(200), UnixSeconds(joined));
        for event in events {
            match event {
                Event::Publish { in_days, is_significant, letters_take } => {
                    let effective_at = UnixSeconds(day_of(now).0 + in_days * DAY);
                    let last_letter_at = letters_take.map(|seconds| UnixSeconds(now.0 + seconds));
                    let wanted = Publication { effective_at, is_significant, last_letter_at };
                    match calendar.publish(wanted, now) {
                        Ok(version) => {
                            let last = last_letter_at.filter(|_| is_significant);
                            prop_assert!(last.is_none_or(|last| effective_at.0 >= last.0 + 14 * DAY));
                            model.published.push((version, None));
                        }
                        Err(PublicationError::Past { earliest }
                            | PublicationError::TooEarly { earliest }
                            | PublicationError::BeforeFormer { former: earliest }) => {
                            prop_assert!(earliest > effective_at);
                            let mut another = calendar.clone();
                            let wanted = Publication { effective_at: earliest, ..wanted };
                            prop_assert!(another.publish(wanted, now).is_ok(), "the earliest date is refused too");
                        }
                    }
                }
                Event::Letter { version, is_sent } => {
                    let letter = model.published.get_mut(version).filter(|_| is_sent);
                    if let Some((_, sent @ None)) = letter {
                        *sent = Some(now);
                    }
                }
                Event::Clock { seconds } => now = UnixSeconds(now.0.saturating_add_signed(seconds)),
            }
            let letters = model.published.iter().filter_map(|(version, sent)| Some((version.number, (*sent)?)));
            let told = Told { joined_at: joined, letters: letters.collect() };
            let in_force = calendar.in_force(&told, now).map(|version| version.number);
            prop_assert_eq!(in_force, model.in_force(joined, now));
            if let Some(number) = in_force {
                for (version, sent) in model.published.iter().filter(|(version, _)| version.number <= number) {
                    let found_it = joined >= version.begins();
                    let told = sent.is_some_and(|sent| sent.plus(NOTICE_PERIOD) <= now);
                    prop_assert!(!version.is_significant || found_it || told);
                }
            }
        }
    }
}
