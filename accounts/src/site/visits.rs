//! Who is logged in: in memory alone, until they log out, do nothing for half an hour, or the gateway ends (clause 6).

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tacit_messages::clock::Instant;

use crate::{
    Token, Visit,
    token::{self, hash},
};

/// A visit without a request for so long is over.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Visits at once, of all and of one account; the one without a request for longest makes room.
const MOST: usize = 20_000;
const MOST_OF_AN_ACCOUNT: usize = 10;

/// The visits that go on.
#[derive(Debug, Default)]
pub(super) struct Visits {
    all: Mutex<HashMap<Vec<u8>, Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    visit: Visit,
    seen: Instant,
}

impl Visits {
    /// Begins a visit and returns what its cookie carries.
    pub(super) fn begin(&self, visit: Visit, now: Instant) -> Token {
        let cookie = Token::generate();
        let key = key(&cookie);
        let mut all = self.all.lock();
        let of_account = |entry: &Entry| entry.visit.account == visit.account;
        if all.values().filter(|entry| of_account(entry)).count() >= MOST_OF_AN_ACCOUNT {
            remove_oldest(&mut all, of_account);
        }
        if all.len() >= MOST {
            remove_oldest(&mut all, |_| true);
        }
        all.insert(key, Entry { visit, seen: now });
        cookie
    }

    /// The visit of a cookie, which goes on.
    pub(super) fn find(&self, cookie: &Token, now: Instant) -> Option<Visit> {
        let key = key(cookie);
        let mut all = self.all.lock();
        let entry = all.get_mut(&key).filter(|entry| now.since(entry.seen) < IDLE)?;
        entry.seen = now;
        Some(entry.visit)
    }

    /// Ends the visit of a cookie.
    pub(super) fn end(&self, cookie: &Token) {
        let key = key(cookie);
        self.all.lock().remove(&key);
    }

    /// Forgets visits that are over.
    pub(super) fn forget_old(&self, now: Instant) {
        let mut all = self.all.lock();
        all.retain(|_, entry| now.since(entry.seen) < IDLE);
        all.shrink_to_fit();
    }
}

/// What every form of a visit carries, so that no other site can have one sent. It tells nothing of the cookie.
pub(super) fn form_token(cookie: &Token) -> String {
    token::text(&hash("tacit form", cookie.expose()))
}

/// The cookie itself is kept nowhere.
fn key(cookie: &Token) -> Vec<u8> {
    hash("tacit visit", cookie.expose())
}

fn remove_oldest(all: &mut HashMap<Vec<u8>, Entry>, among: impl Fn(&Entry) -> bool) {
    let oldest = all.iter().filter(|(_, entry)| among(entry)).min_by_key(|(_, entry)| entry.seen);
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        all.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccountId;

    fn visit(account: i64) -> Visit {
        Visit { account: AccountId(account), epoch: 0 }
    }

    #[test]
    fn visit_ends_after_thirty_idle_minutes_and_not_before() {
        let (visits, start) = (Visits::default(), Instant::now());
        let cookie = visits.begin(visit(1), start);
        let nearly = IDLE - Duration::from_secs(1);
        assert_eq!(visits.find(&cookie, start + nearly), Some(visit(1)));
        assert_eq!(visits.find(&cookie, start + nearly * 2), Some(visit(1)));
        assert_eq!(visits.find(&cookie, start + nearly * 2 + IDLE), None);
        visits.forget_old(start + nearly * 2 + IDLE);
        assert!(visits.all.lock().is_empty());
    }

    #[test]
    fn visit_ends_at_log_out_and_no_other_with_it() {
        let (visits, now) = (Visits::default(), Instant::now());
        let [first, second] = [visits.begin(visit(1), now), visits.begin(visit(1), now)];
        visits.end(&first);
        assert_eq!(visits.find(&first, now), None);
        assert_eq!(visits.find(&second, now), Some(visit(1)));
    }

    #[test]
    fn cookie_that_was_never_given_is_nobodys() {
        let (visits, now) = (Visits::default(), Instant::now());
        visits.begin(visit(1), now);
        for text in ["", "tacit", &"A".repeat(43)] {
            assert_eq!(visits.find(&Token::from(text), now), None);
        }
    }

    #[test]
    fn account_has_few_visits_and_the_oldest_goes() {
        let (visits, now) = (Visits::default(), Instant::now());
        let other = visits.begin(visit(2), now);
        let second = |n: usize| now + Duration::from_secs(n as u64);
        let cookies: Vec<_> =
            (0..=MOST_OF_AN_ACCOUNT).map(|n| visits.begin(visit(1), second(n))).collect();
        assert_eq!(visits.find(&cookies[0], now), None);
        assert!(cookies[1..].iter().all(|cookie| visits.find(cookie, now).is_some()));
        assert!(visits.find(&other, now).is_some());
    }

    #[test]
    fn form_token_is_of_its_visit_and_is_not_its_cookie() {
        let [one, other] = [Token::generate(), Token::generate()];
        assert_eq!(form_token(&one), form_token(&one));
        assert_ne!(form_token(&one), form_token(&other));
        assert_ne!(form_token(&one), one.expose());
    }
}
