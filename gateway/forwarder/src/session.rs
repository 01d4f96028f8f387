//! When a session begins, moves and ends. No IO; time is passed in.

use std::{net::IpAddr, time::Duration};

use tacit_messages::{ConnectingIp, bounds::ROAM_INTERVAL, clock::Instant};

/// Age after which a session key must not be used (REJECT_AFTER_TIME, WireGuard paper section 6.2); a device
/// that has not been heard for as long is forgotten.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);

/// What an authenticated packet changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session began.
    Began,
    /// The session ended with the packet before this one, and another began from a new address.
    Roamed {
        /// When the packet before came.
        last_seen: Instant,
    },
}

/// What is known of a device's session, in memory only.
#[derive(Debug)]
pub struct Session {
    last_seen: Instant,
    /// When the last handshake was answered; it keeps the device in memory, and is in no record.
    initiated: Instant,
    from: Option<From>,
}

#[derive(Debug)]
struct From {
    connecting_ip: ConnectingIp,
    roamed: Option<Instant>,
}

impl Session {
    /// No session yet; the first handshake message came at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { last_seen: now, initiated: now, from: None }
    }

    /// Whether the device has proved possession of its session keys.
    #[must_use]
    pub fn began(&self) -> bool {
        self.from.is_some()
    }

    /// When the last authenticated packet came.
    #[must_use]
    pub fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// Notes an authenticated handshake initiation: it may be a replay, so it begins and moves nothing.
    pub fn handshake(&mut self, now: Instant) {
        self.initiated = now;
    }

    /// Notes an authenticated packet that cannot be a replay. `may_roam` is asked before the session moves: if all
    /// devices together move more often than control may be told, this one stays where it was.
    pub fn authenticated(
        &mut self,
        source: IpAddr,
        now: Instant,
        may_roam: impl FnOnce() -> bool,
    ) -> Option<Change> {
        let last_seen = std::mem::replace(&mut self.last_seen, now);
        let Some(from) = &mut self.from else {
            self.from = Some(From { connecting_ip: ConnectingIp::new(source), roamed: None });
            return Some(Change::Began);
        };
        let flaps = from.roamed.is_some_and(|roamed| now.since(roamed) < ROAM_INTERVAL);
        if from.connecting_ip.is(source) || flaps {
            return None;
        }
        if !may_roam() {
            from.roamed = Some(now);
            return None;
        }
        *from = From { connecting_ip: ConnectingIp::new(source), roamed: Some(now) };
        Some(Change::Roamed { last_seen })
    }

    /// Whether the device has been silent for so long that it must be forgotten.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now.since(self.last_seen.max(self.initiated)) >= REJECT_AFTER_TIME
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn handshake_alone_begins_nothing() {
        let start = Instant::now();
        let mut session = Session::new(start);
        session.handshake(start + seconds(1));
        assert!(!session.began());
    }

    #[test]
    fn rekey_changes_nothing() {
        let start = Instant::now();
        let mut session = Session::new(start);
        assert_eq!(session.authenticated(ip(1), start, || true), Some(Change::Began));
        session.handshake(start + seconds(120));
        assert_eq!(session.authenticated(ip(1), start + seconds(120), || true), None);
    }

    #[test]
    fn roaming_ends_the_session_at_the_packet_before() {
        let start = Instant::now();
        let mut session = Session::new(start);
        session.authenticated(ip(1), start, || true);
        session.authenticated(ip(1), start + seconds(5), || true);
        let change = session.authenticated(ip(2), start + seconds(7), || true);
        assert_eq!(change, Some(Change::Roamed { last_seen: start + seconds(5) }));
    }

    #[test]
    fn session_stays_where_it_was_while_too_many_devices_move() {
        let start = Instant::now();
        let mut session = Session::new(start);
        session.authenticated(ip(1), start, || true);
        assert_eq!(session.authenticated(ip(2), start + seconds(1), || false), None);
        assert_eq!(session.authenticated(ip(2), start + seconds(2), || true), None);
        let change = session.authenticated(ip(2), start + seconds(11), || true);
        assert_eq!(change, Some(Change::Roamed { last_seen: start + seconds(2) }));
    }

    #[test]
    fn a_handshake_keeps_the_device_but_is_not_seen_in_the_record() {
        let start = Instant::now();
        let mut session = Session::new(start);
        session.authenticated(ip(1), start, || true);
        session.handshake(start + seconds(100));
        assert!(!session.is_over(start + REJECT_AFTER_TIME));
        assert_eq!(session.last_seen(), start);
    }

    #[test]
    fn a_silent_device_is_forgotten_after_180_seconds() {
        let start = Instant::now();
        let mut session = Session::new(start);
        session.authenticated(ip(1), start + seconds(20), || true);
        assert!(!session.is_over(start + seconds(199)));
        assert!(session.is_over(start + seconds(200)));
    }

    proptest! {
        #[test]
        fn flapping_makes_at_most_one_session_in_ten_seconds(
            steps in proptest::collection::vec((0u64..4_000, 1u8..4), 1..200),
        ) {
            let mut now = Instant::now();
            let mut session = Session::new(now);
            let mut roams = Vec::new();
            for (pause, from) in steps {
                now = now + Duration::from_millis(pause);
                if let Some(Change::Roamed { .. }) = session.authenticated(ip(from), now, || true) {
                    roams.push(now);
                }
            }
            prop_assert!(roams.windows(2).all(|pair| pair[1].since(pair[0]) >= ROAM_INTERVAL));
        }
    }
}
