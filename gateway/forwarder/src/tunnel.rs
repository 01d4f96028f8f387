//! boringtun's tunnel to a device, by one of the gateway's keys, under receiver indices that are random.

use std::sync::Arc;

use boringtun::{
    noise::{Tunn, rate_limiter::RateLimiter},
    x25519,
};
use rand_core::{OsRng, RngCore};
use tacit_messages::clock::Instant;

use crate::{
    identity::KeyNumber,
    indices::{Indices, Owner},
    peer::Credentials,
    peers::Slot,
    session::REJECT_AFTER_TIME,
    wireguard,
};

/// boringtun keeps 8 sessions and counts initiations too; older local numbers have no session left.
const LOCAL_INDICES: usize = 32;

/// The tunnel. Dropping it leaves no key.
pub struct Tunnel {
    /// boringtun's state machine; its receiver indices are local, see [`Self::local_index`].
    pub tunn: Tunn,
    key: KeyNumber,
    wire_indices: [WireIndex; LOCAL_INDICES],
    /// The upper 24 bits of boringtun's local indices.
    local_base: u32,
}

#[derive(Clone, Copy)]
struct WireIndex {
    wire: u32,
    drawn: Option<Instant>,
}

impl Tunnel {
    /// Makes a tunnel without a session to a device, by the gateway's key `private_key`, whose number is `key`.
    #[must_use]
    pub fn new(
        private_key: x25519::StaticSecret,
        key: KeyNumber,
        limiter: Arc<RateLimiter>,
        credentials: &Credentials,
    ) -> Self {
        let local = OsRng.next_u32() >> 8;
        let tunn = Tunn::new(
            private_key,
            x25519::PublicKey::from(credentials.public_key),
            Some(*credentials.preshared_key.expose()),
            None,
            local,
            Some(limiter),
        );
        let wire_indices = [WireIndex { wire: 0, drawn: None }; LOCAL_INDICES];
        Self { tunn, key, wire_indices, local_base: local << 8 }
    }

    /// By which of the gateway's keys it is.
    #[must_use]
    pub fn key(&self) -> KeyNumber {
        self.key
    }

    /// Whether `wire` is this tunnel's index for `local`: a table entry may be older than the tunnel.
    #[must_use]
    pub fn has_index(&self, wire: u32, local: u8) -> bool {
        let index = self.wire_indices[local as usize % LOCAL_INDICES];
        index.wire == wire && index.drawn.is_some()
    }

    /// boringtun's own receiver index for `local`.
    #[must_use]
    pub fn local_index(&self, local: u8) -> u32 {
        self.local_base | u32::from(local)
    }

    /// Gives a handshake message that boringtun made a random sender index that leads to `slot`; its macs no longer fit.
    ///
    /// Returns whether an index was free.
    pub fn draw_index(
        &mut self,
        message: &mut [u8],
        slot: Slot,
        indices: &Indices,
        now: Instant,
    ) -> bool {
        let local = wireguard::sender_index(message) as u8;
        let Some(wire) = indices.draw(Owner { slot, local }) else { return false };
        let place = &mut self.wire_indices[local as usize % LOCAL_INDICES];
        let former = std::mem::replace(place, WireIndex { wire, drawn: Some(now) });
        if former.drawn.is_some() {
            indices.release(former.wire);
        }
        wireguard::set_sender_index(message, wire);
        true
    }

    /// Frees receiver indices whose session keys are too old to be used.
    pub fn release_expired_indices(&mut self, indices: &Indices, now: Instant) {
        let lifetime = REJECT_AFTER_TIME + wireguard::REKEY_ATTEMPT_TIME;
        self.release_indices(indices, |drawn| now.since(drawn) >= lifetime);
    }

    /// Frees all receiver indices, before the tunnel goes.
    pub fn release_all_indices(&mut self, indices: &Indices) {
        self.release_indices(indices, |_| true);
    }

    fn release_indices(&mut self, indices: &Indices, expired: impl Fn(Instant) -> bool) {
        for index in &mut self.wire_indices {
            if index.drawn.is_some_and(&expired) {
                indices.release(index.wire);
                index.drawn = None;
            }
        }
    }
}
