//! Which unknown keys are asked about, and how often. No IO; time is passed in.

use std::{collections::HashMap, time::Duration};

use tacit_messages::{DropReason, PublicKey, bounds::LOOKUPS_PER_SECOND, clock::Instant};

use crate::{inbox::HandshakeMessage, wiping, wireguard::Kind};

/// How long an unknown key is remembered: a little less than the 5 s after which a client tries again.
pub const UNKNOWN_LIFETIME: Duration = Duration::from_secs(4);
/// How long a handshake waits for control's answer: when a client tries again after 5 s, control is asked again.
const WAITING_LIFETIME: Duration = Duration::from_millis(4_500);
const MAX_WAITING: usize = 4_096;
const MAX_UNKNOWN: usize = 16_384;

/// Keys that control was asked about.
pub struct Lookups {
    waiting: HashMap<PublicKey, Waiting>,
    unknown: HashMap<PublicKey, Instant>,
    budget: u32,
    refilled: Instant,
    /// Whether a key was removed whose traces are still to be overwritten.
    forgot: bool,
}

struct Waiting {
    message: HandshakeMessage,
    asked: Instant,
}

impl Lookups {
    /// Nobody was asked about yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            waiting: HashMap::new(),
            unknown: HashMap::new(),
            budget: LOOKUPS_PER_SECOND,
            refilled: now,
            forgot: false,
        }
    }

    /// Keeps `message`, whose key is not live, until control has answered; returns whether control must be asked.
    ///
    /// # Errors
    /// Why the message is dropped instead.
    pub fn wait(
        &mut self,
        public_key: PublicKey,
        message: HandshakeMessage,
        now: Instant,
    ) -> Result<bool, DropReason> {
        if self.unknown.get(&public_key).is_some_and(|since| now.since(*since) < UNKNOWN_LIFETIME) {
            return Err(DropReason::UnknownKey);
        }
        if let Some(waiting) = self.waiting.get_mut(&public_key)
            && now.since(waiting.asked) < WAITING_LIFETIME
        {
            // A client that tries again makes its former message worthless. But nobody has proved who sent a transport message,
            // and an initiation is the device's own.
            if message.kind != Kind::Transport || waiting.message.kind == Kind::Transport {
                waiting.message = message;
            }
            return Ok(false);
        }
        self.waiting.remove(&public_key);
        self.refill(now);
        if self.budget == 0 || self.waiting.len() >= MAX_WAITING {
            return Err(DropReason::LookupLimit);
        }
        self.budget -= 1;
        self.waiting.insert(public_key, Waiting { message, asked: now });
        Ok(true)
    }

    fn refill(&mut self, now: Instant) {
        if now.since(self.refilled) >= Duration::from_secs(1) {
            self.budget = LOOKUPS_PER_SECOND;
            self.refilled = now;
        }
    }

    /// Takes the message that waited for the answer about `public_key`.
    pub fn answered(&mut self, public_key: &PublicKey) -> Option<HandshakeMessage> {
        self.forgot = true;
        self.unknown.remove(public_key);
        self.waiting.remove(public_key).map(|waiting| waiting.message)
    }

    /// Remembers for a while that `public_key` is nobody's.
    pub fn unknown(&mut self, public_key: PublicKey, now: Instant) {
        self.forgot = true;
        self.waiting.remove(&public_key);
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(public_key, now);
        }
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Instant) {
        let before = self.waiting.len() + self.unknown.len();
        self.waiting.retain(|_, waiting| now.since(waiting.asked) < WAITING_LIFETIME);
        self.unknown.retain(|_, since| now.since(*since) < UNKNOWN_LIFETIME);
        self.forgot |= self.waiting.len() + self.unknown.len() < before;
    }

    /// Overwrites what is left of keys that were removed.
    pub fn wipe(&mut self) {
        if std::mem::take(&mut self.forgot) {
            wiping::rebuild(&mut self.waiting);
            wiping::rebuild(&mut self.unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn message(tag: u8) -> HandshakeMessage {
        message_of(Kind::Initiation, tag)
    }

    fn message_of(kind: Kind, tag: u8) -> HandshakeMessage {
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        HandshakeMessage::new(kind, source, &[tag; 148])
    }

    fn key(n: u32) -> PublicKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn control_is_asked_once_and_the_latest_message_waits() {
        let now = Instant::now();
        let mut lookups = Lookups::new(now);
        assert_eq!(lookups.wait(key(1), message(1), now), Ok(true));
        assert_eq!(lookups.wait(key(1), message(2), now), Ok(false));
        let waited = lookups.answered(&key(1)).expect("waiting");
        assert_eq!(waited.bytes()[0], 2);
    }

    #[test]
    fn transport_message_takes_no_initiations_place() {
        let now = Instant::now();
        let mut lookups = Lookups::new(now);
        let transport = |tag| message_of(Kind::Transport, tag);
        assert_eq!(lookups.wait(key(1), transport(1), now), Ok(true));
        assert_eq!(lookups.wait(key(1), message(2), now), Ok(false));
        assert_eq!(lookups.wait(key(1), transport(3), now), Ok(false));
        let waited = lookups.answered(&key(1)).expect("waiting");
        assert_eq!(waited.bytes()[0], 2);
    }

    #[test]
    fn control_is_asked_again_when_it_did_not_answer() {
        let now = Instant::now();
        let mut lookups = Lookups::new(now);
        assert_eq!(lookups.wait(key(1), message(1), now), Ok(true));
        assert_eq!(lookups.wait(key(1), message(2), now + Duration::from_secs(5)), Ok(true));
    }

    #[test]
    fn an_unknown_key_is_not_asked_about_again_for_a_while() {
        let now = Instant::now();
        let mut lookups = Lookups::new(now);
        assert_eq!(lookups.wait(key(1), message(1), now), Ok(true));
        lookups.unknown(key(1), now);
        assert_eq!(lookups.wait(key(1), message(1), now), Err(DropReason::UnknownKey));
        assert_eq!(lookups.wait(key(1), message(1), now + UNKNOWN_LIFETIME), Ok(true));
    }

    #[test]
    fn a_flood_of_keys_asks_a_bounded_number_of_times_a_second() {
        let start = Instant::now();
        let mut lookups = Lookups::new(start);
        let mut asked = 0;
        for n in 0..100_000u32 {
            let now = start + Duration::from_micros(u64::from(n) * 29);
            if lookups.wait(key(n), message(0), now) == Ok(true) {
                asked += 1;
                lookups.unknown(key(n), now);
            }
        }
        assert_eq!(asked, 3 * LOOKUPS_PER_SECOND);
    }

    #[test]
    fn nothing_is_kept_for_long() {
        let now = Instant::now();
        let mut lookups = Lookups::new(now);
        assert_eq!(lookups.wait(key(1), message(1), now), Ok(true));
        assert_eq!(lookups.wait(key(2), message(1), now), Ok(true));
        lookups.unknown(key(2), now);
        lookups.expire(now + WAITING_LIFETIME);
        assert!(lookups.waiting.is_empty() && lookups.unknown.is_empty());
    }
}
