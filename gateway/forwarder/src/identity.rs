//! The gateway's own keys: the one that client configs are given, and for a while the one before it.

use std::sync::Arc;

use boringtun::{noise::rate_limiter::RateLimiter, x25519};
use tacit_messages::{SecretKey, clock::Instant};

use crate::{
    macs::MacKeys,
    peer::{Credentials, Peer},
    peers::Slot,
    sources::COOKIE_THRESHOLD,
    tunnel::Tunnel,
};

/// Tells the gateway's keys apart, for as long as the forwarder lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNumber(u32);

/// One key of the gateway, and what follows from it.
pub struct Identity {
    number: KeyNumber,
    pub(crate) private_key: x25519::StaticSecret,
    pub(crate) public_key: x25519::PublicKey,
    pub(crate) own_macs: MacKeys,
    /// Checks macs and counts handshakes of everybody, once, before anything else.
    pub(crate) front: RateLimiter,
    /// boringtun checks again in each tunnel; this one never limits.
    unlimited: Arc<RateLimiter>,
}

impl Identity {
    fn new(private_key: &SecretKey, number: KeyNumber) -> Self {
        let private_key = x25519::StaticSecret::from(*private_key.expose());
        let public_key = x25519::PublicKey::from(&private_key);
        Self {
            number,
            own_macs: MacKeys::new(public_key.as_bytes()),
            front: RateLimiter::new(&public_key, COOKIE_THRESHOLD),
            unlimited: Arc::new(RateLimiter::new(&public_key, u64::MAX)),
            private_key,
            public_key,
        }
    }

    /// Tells the key from others.
    #[must_use]
    pub fn number(&self) -> KeyNumber {
        self.number
    }

    /// Makes a tunnel to a device by this key.
    #[must_use]
    pub fn tunnel(&self, credentials: &Credentials) -> Tunnel {
        let limiter = Arc::clone(&self.unlimited);
        Tunnel::new(self.private_key.clone(), self.number, limiter, credentials)
    }

    /// Makes the peer of a device that control has named, last heard of at `now`.
    #[must_use]
    pub fn peer(&self, slot: Slot, credentials: &Credentials, now: Instant) -> Box<Peer> {
        Box::new(Peer::new(self.tunnel(credentials), slot, credentials, now))
    }
}

/// The keys that are answered.
pub struct Identities {
    current: Box<Identity>,
    former: Option<Box<Identity>>,
}

impl Identities {
    /// Takes the gateway's private key.
    #[must_use]
    pub fn new(private_key: &SecretKey) -> Self {
        let current = Box::new(Identity::new(private_key, KeyNumber(0)));
        Self { current, former: None }
    }

    /// The key in client configs.
    #[must_use]
    pub fn current(&self) -> &Identity {
        &self.current
    }

    /// The key that a handshake message is meant for, by its mac1 (WireGuard paper section 5.4.4); the current one if it is for
    /// neither.
    #[must_use]
    pub fn meant(&self, message: &[u8]) -> &Identity {
        match &self.former {
            Some(former) if former.own_macs.fit(message) => former,
            _ => &self.current,
        }
    }

    /// The key of that number, if it is still answered.
    #[must_use]
    pub fn numbered(&self, number: KeyNumber) -> Option<&Identity> {
        let keys = [Some(&self.current), self.former.as_ref()];
        keys.into_iter().flatten().find(|key| key.number == number).map(Box::as_ref)
    }

    /// The former key, or the current one.
    #[must_use]
    pub fn either(&self, is_former: bool) -> Option<&Identity> {
        if is_former { self.former.as_deref() } else { Some(&self.current) }
    }

    /// Whether the key of that number is the former one.
    #[must_use]
    pub fn is_former(&self, number: KeyNumber) -> bool {
        self.former.as_ref().is_some_and(|former| former.number == number)
    }

    /// Whether `private_key` is answered already.
    #[must_use]
    pub fn know(&self, private_key: &SecretKey) -> bool {
        let keys = [Some(&self.current), self.former.as_ref()];
        keys.into_iter().flatten().any(|key| key.private_key.as_bytes() == private_key.expose())
    }

    /// Makes `private_key` the current key, and the one that was it the former.
    pub fn renew(&mut self, private_key: &SecretKey) {
        let number = KeyNumber(self.current.number.0.wrapping_add(1));
        let current = Box::new(Identity::new(private_key, number));
        self.former = Some(std::mem::replace(&mut self.current, current));
    }

    /// Forgets the former key; returns its number if there was one.
    pub fn retire(&mut self) -> Option<KeyNumber> {
        self.former.take().map(|former| former.number)
    }

    /// Begins a new second of counting handshakes.
    pub fn reset_count(&self) {
        self.current.front.reset_count();
        if let Some(former) = &self.former {
            former.front.reset_count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::new([n; 32])
    }

    /// An initiation to the key, as far as its mac1 tells.
    fn message_to(key: &SecretKey) -> [u8; 148] {
        let mut message = [7; 148];
        Identity::new(key, KeyNumber(0)).own_macs.seal(&mut message, None);
        message
    }

    #[test]
    fn message_is_for_the_key_that_its_mac_tells_until_that_is_retired() {
        let mut keys = Identities::new(&key(1));
        let former = keys.current().number();
        keys.renew(&key(2));
        let current = keys.current().number();
        let meant = |keys: &Identities, n| keys.meant(&message_to(&key(n))).number();
        assert_eq!([meant(&keys, 1), meant(&keys, 2), meant(&keys, 3)], [former, current, current]);
        assert!(keys.know(&key(1)) && keys.know(&key(2)) && !keys.know(&key(3)));
        assert!(keys.is_former(former) && !keys.is_former(current));
        assert_eq!(keys.retire(), Some(former));
        assert_eq!(meant(&keys, 1), current);
        assert!(keys.numbered(former).is_none() && !keys.know(&key(1)));
        assert_eq!(keys.retire(), None);
    }

    #[test]
    fn two_keys_are_answered_at_most() {
        let mut keys = Identities::new(&key(1));
        let first = keys.current().number();
        keys.renew(&key(2));
        keys.renew(&key(3));
        assert!(keys.numbered(first).is_none() && !keys.know(&key(1)));
        assert!(keys.know(&key(2)) && keys.know(&key(3)));
    }
}
