//! How long answers take, and what that tells of who is a customer: nothing.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use tacit_messages::clock::Instant;
use tacit_tests::{Lab, Visitor, clock::elapsed, visitor::Page};

use super::{PASSWORD, customer, letter, logged_in, start, visitor};

/// Pairs of tries, of a customer and of nobody in turn.
const PAIRS: usize = 32;
/// Customers, and others, so that none is tried so often that it has to wait.
const PEOPLE: usize = 8;
/// From so many standard deviations on two lists of times differ: by chance once in 10,000 runs.
const DIFFERENT: f64 = 3.9;

/// How many standard deviations the ranks of `one` are from what they would be if both lists were of one kind (Mann and
/// Whitney's test).
fn deviations(one: &[Duration], other: &[Duration]) -> f64 {
    let (count, others) = (one.len() as f64, other.len() as f64);
    let above = |time: &Duration| {
        let rank = |than: &Duration| match time.cmp(than) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        other.iter().map(rank).sum::<f64>()
    };
    let score: f64 = one.iter().map(above).sum();
    let spread = (count * others * (count + others + 1.0) / 12.0).sqrt();
    (score - count * others / 2.0).abs() / spread
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// Asserts that nobody can tell the times apart. Their ranks say that, and not how far medians are from each other: beside
/// other tests, a hash takes between 30 and 300 ms, and medians differ by half by chance.
fn assert_alike(known: &[Duration], unknown: &[Duration]) {
    let deviations = deviations(known, unknown);
    let medians = (median(known), median(unknown));
    assert!(deviations < DIFFERENT, "{deviations} deviations; medians {medians:?}");
}

#[test]
fn times_of_two_kinds_are_told_apart_and_of_one_kind_are_not() {
    let times = |from: u64, step: u64| -> Vec<_> {
        (0..PAIRS as u64).map(|n| Duration::from_micros(from + n * step % 97)).collect()
    };
    assert!(deviations(&times(1_000, 13), &times(1_100, 13)) > DIFFERENT);
    assert!(deviations(&times(1_000, 13), &times(1_000, 29)) < DIFFERENT / 2.0);
    // Less than a hash, and half of what they vary by.
    assert!(deviations(&times(1_000, 13), &times(1_048, 13)) > DIFFERENT);
}

/// An address of the network with this number, on the loopback interface.
fn network(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 1, u8::try_from(number).unwrap(), 1).into()
}

/// The time that something takes, and its answer.
fn timed(work: impl FnOnce() -> Page) -> (Duration, Page) {
    let began = Instant::now();
    let answer = work();
    (elapsed(began), answer)
}

#[test]
fn logging_in_takes_as_long_and_says_the_same_whether_or_not_there_is_such_a_customer() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    for number in 0..PEOPLE {
        customer(&lab, &gateway, &format!("c{number}@example.org"));
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Of a network of its own, so that none has to wait.
        let mut eve = visitor(&lab, &gateway).coming_from(network(pair / 10));
        let mut try_as = |email: &str| timed(|| eve.log_in(email, "not-the-password"));
        let person = |kind| format!("{kind}{}@example.org", pair % PEOPLE);
        let (somebody, nobody) = (person("c"), person("n"));
        let (first, second) = match pair % 2 {
            0 => (try_as(&somebody), try_as(&nobody)),
            _ => {
                let second = try_as(&nobody);
                (try_as(&somebody), second)
            }
        };
        let told = |page: &Page, email: &str| (page.status, page.body.replace(email, "?"));
        assert_eq!(told(&first.1, &somebody), told(&second.1, &nobody));
        assert!(first.1.body.contains("is wrong"), "{}", first.1.body);
        known.push(first.0);
        unknown.push(second.0);
    }
    assert_alike(&known, &unknown);
}

#[test]
fn registering_takes_as_long_and_says_the_same_whether_or_not_there_is_such_a_customer() {
    let lab = Lab::new(0);
    let (gateway, server) = start(&lab, &[]);
    for number in 0..PAIRS {
        gateway.add_account(&format!("c{number}@example.org"));
    }
    let register = |eve: &mut Visitor<'_>, email: &str| {
        let rest = [("again", PASSWORD), ("who", "of-age"), ("rules", "accepted")];
        let form = [&[("email", email), ("password", PASSWORD)], &rest[..]].concat();
        timed(|| eve.post("/register", &form))
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..PAIRS {
        let mut eve = visitor(&lab, &gateway).coming_from(network(number / 4));
        let mut try_as = |kind: &str| register(&mut eve, &format!("{kind}{number}@example.org"));
        let ((time, is), (other_time, is_not)) = match number % 2 {
            0 => (try_as("c"), try_as("n")),
            _ => {
                let is_not = try_as("n");
                (try_as("c"), is_not)
            }
        };
        assert_eq!((is.status, is.body), (200, is_not.body));
        known.push(time);
        unknown.push(other_time);
    }
    assert_alike(&known, &unknown);
    let told = letter(&server, "c1@example.org", 1);
    assert!(!told.text.contains("/confirm/"), "{}", told.text);
}

/// What the site says that it holds about a visitor, whatever address they asked for.
fn held(visitor: &mut Visitor<'_>, asked: &str) -> serde_json::Value {
    let body = visitor.get("/records.json").body.replace(asked, "?");
    let mut held: serde_json::Value = serde_json::from_str(&body).unwrap();
    held["made_at"].take();
    held
}

#[test]
fn changing_the_address_takes_as_long_and_says_the_same_whether_or_not_it_is_a_customers() {
    let lab = Lab::new(0);
    let (gateway, server) = start(&lab, &[]);
    for number in 0..PAIRS {
        gateway.add_account(&format!("c{number}@example.org"));
    }
    // So many that none asks for more changes than an account may.
    let mut askers: Vec<_> = (0..PAIRS / 2)
        .map(|number| {
            let email = format!("asker{number}@example.org");
            customer(&lab, &gateway, &email);
            logged_in(&lab, &gateway, &email)
        })
        .collect();
    let mut change = |kind: &str, number: usize| {
        let email = format!("{kind}{number}@example.org");
        let form = [("email", email.as_str()), ("password", PASSWORD)];
        let asker = &mut askers[number / 2];
        let (time, answer) = timed(|| asker.submit("/account", "/account/email", &form));
        (time, answer, held(asker, &email))
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..PAIRS {
        let [is, is_not] = match number % 2 {
            0 => ["c", "n"].map(|kind| change(kind, number)),
            _ => {
                let [is_not, is] = ["n", "c"].map(|kind| change(kind, number));
                [is, is_not]
            }
        };
        let told = |page: &Page| (page.status, page.header("location").map(str::to_owned));
        assert_eq!(told(&is.1), told(&is_not.1));
        assert_eq!(is.1.status, 303, "{}", is.1.body);
        assert_eq!(is.2, is_not.2);
        assert_eq!(is.2["email_to_be_confirmed"], "?");
        known.push(is.0);
        unknown.push(is_not.0);
    }
    assert_alike(&known, &unknown);
    assert!(!letter(&server, "c1@example.org", 1).text.contains("/confirm/"));
}
