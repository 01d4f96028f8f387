//! One live device: boringtun's tunnel with what Tacit keeps around it.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use boringtun::{
    noise::{Tunn, rate_limiter::RateLimiter},
    x25519,
};
use rand_core::{OsRng, RngCore};
use tacit_messages::{
    ConnectingIp, DeviceId, FromForwarder, PublicKey, SecretKey, UnixSeconds,
    bounds::{MOVING_AGAIN, MOVING_INTERVAL},
    clock::Instant,
};

use crate::{
    endpoint::Endpoint,
    expected::Newcomer,
    indices::{Indices, Owner},
    macs::{Mac, MacKeys},
    peers::Slot,
    session::{Change, Session},
    wireguard,
};

/// boringtun keeps 8 sessions and counts initiations too; older local numbers have no session left.
const LOCAL_INDICES: usize = 32;

/// Who a device is, as control told it.
pub struct Credentials {
    /// Stands for the device in messages.
    pub device: DeviceId,
    /// Its WireGuard public key.
    pub public_key: PublicKey,
    /// The key shared with it alone.
    pub preshared_key: SecretKey,
    /// Its IPv4 tunnel address.
    pub tunnel_v4: Ipv4Addr,
    /// Its IPv6 tunnel address.
    pub tunnel_v6: Ipv6Addr,
}

/// A live device. Dropping it leaves no endpoint, key or counter.
pub struct Peer {
    device: DeviceId,
    slot: Slot,
    tunnel_v4: [u8; 4],
    tunnel_v6: [u8; 16],
    /// boringtun's state machine; its receiver indices are local, see [`Self::local_index`].
    pub tunn: Tunn,
    /// Where to send: the source of the last authenticated packet (WireGuard paper section 2.1).
    endpoint: Option<Endpoint>,
    session: Session,
    wire_indices: [WireIndex; LOCAL_INDICES],
    /// The upper 24 bits of boringtun's local indices.
    local_base: u32,
    mac_keys: MacKeys,
    cookie: Option<(Mac, Instant)>,
    last_mac1: Option<Mac>,
    /// Whether packets wait in boringtun for a session key.
    queued: bool,
    /// The receiver index of the last authenticated packet.
    heard_by: u32,
    /// The index that other gateways were last told of, and when.
    told: Option<(u32, Instant)>,
}

#[derive(Clone, Copy)]
struct WireIndex {
    wire: u32,
    drawn: Option<Instant>,
}

impl Peer {
    /// Makes a peer without a session, last heard of at `now`: at the first handshake message of a device, or before by
    /// another gateway.
    #[must_use]
    pub fn new(
        private_key: x25519::StaticSecret,
        limiter: Arc<RateLimiter>,
        slot: Slot,
        credentials: &Credentials,
        now: Instant,
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
        Self {
            device: credentials.device,
            slot,
            tunnel_v4: credentials.tunnel_v4.octets(),
            tunnel_v6: credentials.tunnel_v6.octets(),
            tunn,
            endpoint: None,
            session: Session::new(now),
            wire_indices: [WireIndex { wire: 0, drawn: None }; LOCAL_INDICES],
            local_base: local << 8,
            mac_keys: MacKeys::new(&credentials.public_key),
            cookie: None,
            last_mac1: None,
            queued: false,
            heard_by: 0,
            told: None,
        }
    }

    /// Whether packets wait in boringtun for a session key.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.queued
    }

    /// Notes that a packet waits in boringtun for a session key.
    pub fn note_queued(&mut self) {
        self.queued = true;
    }

    /// Notes that nothing waits any longer.
    pub fn clear_queued(&mut self) {
        self.queued = false;
    }

    /// Stands for the device in messages.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Where datagrams to the device go, once it has a session.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    /// The device's session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether an IP packet's source address is the device's own (cryptokey routing, section 3).
    ///
    /// The packet must hold a whole IP header.
    #[must_use]
    pub fn owns_source(&self, packet: &[u8]) -> bool {
        if packet[0] >> 4 == 4 {
            packet[12..16] == self.tunnel_v4
        } else {
            packet[8..24] == self.tunnel_v6
        }
    }

    /// Notes an authenticated packet that cannot be a replay, by the index that it bore: moves the endpoint and
    /// returns what control must hear. `may_roam` is that of [`Session::authenticated`].
    pub fn authenticated(
        &mut self,
        endpoint: Endpoint,
        wire_index: u32,
        now: Instant,
        may_roam: impl FnOnce() -> bool,
    ) -> Option<Vec<FromForwarder>> {
        self.endpoint = Some(endpoint);
        self.heard_by = wire_index;
        let change = self.session.authenticated(endpoint.ip(), now, may_roam)?;
        let began = FromForwarder::SessionBegan {
            device: self.device,
            connecting_ip: ConnectingIp::new(endpoint.ip()),
            at: UnixSeconds::now(),
        };
        Some(match change {
            Change::Began => vec![began],
            Change::Roamed { last_seen } => vec![self.ended(last_seen, now), began],
        })
    }

    /// What other gateways are to be told of a device that is about to move to one of them, if that is new to them or
    /// so long ago that they forget it, and if `may_tell`.
    pub fn moving(
        &mut self,
        now: Instant,
        may_tell: impl FnOnce() -> bool,
    ) -> Option<FromForwarder> {
        let receiver_index = self.heard_by;
        let is_due = self.told.is_none_or(|(told, at)| {
            let interval = if told == receiver_index { MOVING_AGAIN } else { MOVING_INTERVAL };
            now.since(at) >= interval
        });
        if !self.session.began() || !is_due || !may_tell() {
            return None;
        }
        self.told = Some((receiver_index, now));
        let silence = now.since(self.session.last_seen()).as_secs();
        let silent_seconds = u8::try_from(silence).unwrap_or(u8::MAX);
        Some(FromForwarder::Moving { device: self.device, receiver_index, silent_seconds })
    }

    /// Notes an authenticated handshake initiation, which may be a replay.
    pub fn initiated(&mut self, now: Instant) {
        self.session.handshake(now);
    }

    /// Whether a device that is expected has come: it was heard of here later than elsewhere.
    #[must_use]
    pub fn has_come(&self, newcomer: &Newcomer) -> bool {
        self.session.began() && self.session.last_seen() > newcomer.last_seen
    }

    /// The message that ends the device's session, if it has one.
    #[must_use]
    pub fn end(&self, now: Instant) -> Option<FromForwarder> {
        self.session.began().then(|| self.ended(self.session.last_seen(), now))
    }

    fn ended(&self, last_seen: Instant, now: Instant) -> FromForwarder {
        let last_seen_at = UnixSeconds::now().minus(now.since(last_seen));
        FromForwarder::SessionEnded { device: self.device, last_seen_at }
    }

    /// Whether `wire` is this peer's index for `local`: a table entry may be older than the peer.
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

    /// Gives a handshake message that boringtun made a random sender index, and macs that fit it.
    ///
    /// Returns whether it may be sent: not if no index is free.
    pub fn dress_handshake(&mut self, message: &mut [u8], indices: &Indices, now: Instant) -> bool {
        let local = wireguard::sender_index(message) as u8;
        let Some(wire) = indices.draw(Owner { slot: self.slot, local }) else { return false };
        let place = &mut self.wire_indices[local as usize % LOCAL_INDICES];
        let former = std::mem::replace(place, WireIndex { wire, drawn: Some(now) });
        if former.drawn.is_some() {
            indices.release(former.wire);
        }
        wireguard::set_sender_index(message, wire);
        let cookie =
            self.cookie.filter(|(_, since)| now.since(*since) < wireguard::COOKIE_LIFETIME);
        self.cookie = cookie;
        self.last_mac1 =
            Some(self.mac_keys.seal(message, cookie.as_ref().map(|(cookie, _)| cookie)));
        true
    }

    /// Takes a cookie for the next handshake message; the endpoint stays. Returns whether it was authentic.
    pub fn take_cookie(&mut self, reply: &[u8; wireguard::COOKIE_REPLY_LEN], now: Instant) -> bool {
        let cookie = self.last_mac1.and_then(|mac1| self.mac_keys.open_cookie(reply, &mac1));
        let Some(cookie) = cookie else { return false };
        self.cookie = Some((cookie, now));
        true
    }

    /// Frees receiver indices whose session keys are too old to be used.
    pub fn release_expired_indices(&mut self, indices: &Indices, now: Instant) {
        let lifetime = crate::session::REJECT_AFTER_TIME + wireguard::REKEY_ATTEMPT_TIME;
        self.release_indices(indices, |drawn| now.since(drawn) >= lifetime);
    }

    /// Frees all receiver indices, before the peer goes.
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

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;

    fn peer(now: Instant) -> Peer {
        let credentials = Credentials {
            device: DeviceId(7),
            public_key: [9; 32],
            preshared_key: SecretKey::new([2; 32]),
            tunnel_v4: Ipv4Addr::new(10, 66, 0, 2),
            tunnel_v6: Ipv6Addr::LOCALHOST,
        };
        let key = x25519::StaticSecret::from([1; 32]);
        let limiter = Arc::new(RateLimiter::new(&x25519::PublicKey::from(&key), u64::MAX));
        Peer::new(key, limiter, 2, &credentials, now)
    }

    /// A device that is heard by an index.
    fn hear(peer: &mut Peer, index: u32, now: Instant) {
        let source = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 4711));
        peer.authenticated(source.into(), index, now, || true);
    }

    #[test]
    fn device_is_told_of_once_and_again_when_its_index_is_another_or_others_forget_it() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut peer = peer(start);
        assert_eq!(peer.moving(start, || true), None, "it has no session");
        hear(&mut peer, 0x11, start);
        assert_eq!(peer.moving(start, || false), None, "too many others were told of");
        let moving = |receiver_index, silent_seconds| {
            Some(FromForwarder::Moving { device: DeviceId(7), receiver_index, silent_seconds })
        };
        assert_eq!(peer.moving(after(3), || true), moving(0x11, 3));
        assert_eq!(peer.moving(after(60), || true), None);
        hear(&mut peer, 0x22, after(60));
        assert_eq!(peer.moving(after(61), || true), moving(0x22, 1));
        hear(&mut peer, 0x33, after(62));
        assert_eq!(peer.moving(after(70), || true), None);
        assert_eq!(peer.moving(after(71), || true), moving(0x33, 9));
        assert_eq!(peer.moving(after(190), || true), None);
        assert_eq!(peer.moving(after(191), || true), moving(0x33, 129));
    }
}
