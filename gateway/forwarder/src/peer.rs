//! One live device: boringtun's tunnel with what Tacit keeps around it.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tacit_messages::{
    ConnectingIp, DeviceId, FromForwarder, PublicKey, SecretKey, UnixSeconds,
    bounds::{MOVING_AGAIN, MOVING_INTERVAL},
    clock::Instant,
};

use crate::{
    endpoint::Endpoint,
    expected::Newcomer,
    identity::KeyNumber,
    indices::Indices,
    macs::{Mac, MacKeys},
    peers::Slot,
    session::{Change, Session},
    tunnel::Tunnel,
    wireguard,
};

/// How long a device may take to prove that it is who began a handshake with another of the gateway's keys: as long as
/// two tries of a client (REKEY_TIMEOUT, WireGuard paper section 6.1).
const RIVAL_LIFETIME: Duration = Duration::from_secs(10);

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
    /// Its tunnel.
    pub tunnel: Tunnel,
    /// What takes the tunnel's place once the device has proved that it knows the gateway by another key now.
    rival: Option<Box<Rival>>,
    /// Where to send: the source of the last authenticated packet (WireGuard paper section 2.1).
    endpoint: Option<Endpoint>,
    session: Session,
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

/// A tunnel by another of the gateway's keys. Who began it has proved nothing yet: it may be a replay, which must not end
/// the tunnel that the device has.
struct Rival {
    tunnel: Tunnel,
    /// When an initiation was last authentic, which may be a replay.
    tried: Option<Instant>,
}

/// Which of a peer's tunnels has a receiver index, and boringtun's own number for it.
#[derive(Clone, Copy)]
pub struct Place {
    /// boringtun's own receiver index.
    pub local_index: u32,
    /// Whether it is the rival's.
    pub is_rivals: bool,
}

impl Peer {
    /// Makes a peer without a session, last heard of at `now`: at the first handshake message of a device, or before by
    /// another gateway.
    #[must_use]
    pub fn new(tunnel: Tunnel, slot: Slot, credentials: &Credentials, now: Instant) -> Self {
        Self {
            device: credentials.device,
            slot,
            tunnel_v4: credentials.tunnel_v4.octets(),
            tunnel_v6: credentials.tunnel_v6.octets(),
            tunnel,
            rival: None,
            endpoint: None,
            session: Session::new(now),
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
        by_former_key: bool,
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
        let device = self.device;
        Some(FromForwarder::Moving { device, receiver_index, silent_seconds, by_former_key })
    }

    /// Notes an authenticated handshake initiation by one of the gateway's keys, which may be a replay. A rival refuses no replay of
    /// what came before it, so that keeps nobody in memory.
    pub fn initiated(&mut self, key: KeyNumber, now: Instant) {
        if self.tunnel.key() == key {
            self.session.handshake(now);
        } else if let Some(rival) = &mut self.rival {
            rival.tried = Some(now);
        }
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

    /// Where the receiver index `wire` belongs that the table has for `local`.
    #[must_use]
    pub fn place(&self, wire: u32, local: u8) -> Option<Place> {
        if self.tunnel.has_index(wire, local) {
            let local_index = self.tunnel.local_index(local);
            return Some(Place { local_index, is_rivals: false });
        }
        let rival = &self.rival.as_ref()?.tunnel;
        let local_index = rival.local_index(local);
        rival.has_index(wire, local).then_some(Place { local_index, is_rivals: true })
    }

    /// The tunnel that has a receiver index at `place`.
    pub fn tunnel_at(&mut self, place: Place) -> Option<&mut Tunnel> {
        if place.is_rivals {
            self.rival.as_mut().map(|rival| &mut rival.tunnel)
        } else {
            Some(&mut self.tunnel)
        }
    }

    /// The tunnel by one of the gateway's keys, if there is one.
    pub fn tunnel_by(&mut self, key: KeyNumber) -> Option<&mut Tunnel> {
        if self.tunnel.key() == key {
            return Some(&mut self.tunnel);
        }
        self.rival.as_mut().map(|rival| &mut rival.tunnel).filter(|tunnel| tunnel.key() == key)
    }

    /// Takes a tunnel by another of the gateway's keys, which replaces the present one if the device proves that it is the one
    /// who wants it.
    pub fn challenge(&mut self, tunnel: Tunnel, indices: &Indices) {
        self.drop_rival(indices);
        self.rival = Some(Box::new(Rival { tunnel, tried: None }));
    }

    /// Puts the rival in the tunnel's place: the device has proved that it uses that one.
    #[cold]
    pub fn change_key(&mut self, indices: &Indices) {
        let Some(rival) = self.rival.take() else { return };
        let mut former = std::mem::replace(&mut self.tunnel, rival.tunnel);
        former.release_all_indices(indices);
        self.queued = false;
    }

    /// Forgets a rival whose first initiation was not authentic: whoever sent it knows no more than the device's public key.
    pub fn drop_untried_rival(&mut self, indices: &Indices) {
        if self.rival.as_ref().is_some_and(|rival| rival.tried.is_none()) {
            self.drop_rival(indices);
        }
    }

    /// Forgets a rival that nobody has proved anything about for too long.
    pub fn drop_late_rival(&mut self, indices: &Indices, now: Instant) {
        let tried = self.rival.as_ref().and_then(|rival| rival.tried);
        if tried.is_some_and(|tried| now.since(tried) >= RIVAL_LIFETIME) {
            self.drop_rival(indices);
        }
    }

    /// Forgets the rival.
    pub fn drop_rival(&mut self, indices: &Indices) {
        if let Some(mut rival) = self.rival.take() {
            rival.tunnel.release_all_indices(indices);
        }
    }

    /// Gives a handshake message that boringtun made for the tunnel by `key` a random sender index, and macs that fit it.
    ///
    /// Returns whether it may be sent: not if no index is free.
    pub fn dress_handshake(
        &mut self,
        message: &mut [u8],
        key: KeyNumber,
        indices: &Indices,
        now: Instant,
    ) -> bool {
        let slot = self.slot;
        let tunnel = self.tunnel_by(key);
        if !tunnel.is_some_and(|tunnel| tunnel.draw_index(message, slot, indices, now)) {
            return false;
        }
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

    /// Frees all receiver indices, before the peer goes.
    pub fn release_all_indices(&mut self, indices: &Indices) {
        self.tunnel.release_all_indices(indices);
        self.drop_rival(indices);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;
    use crate::identity::Identities;

    fn credentials() -> Credentials {
        Credentials {
            device: DeviceId(7),
            public_key: [9; 32],
            preshared_key: SecretKey::new([2; 32]),
            tunnel_v4: Ipv4Addr::new(10, 66, 0, 2),
            tunnel_v6: Ipv6Addr::LOCALHOST,
        }
    }

    fn peer(now: Instant) -> Peer {
        *Identities::new(&SecretKey::new([1; 32])).current().peer(2, &credentials(), now)
    }

    #[test]
    fn initiation_to_another_key_which_may_be_a_replay_keeps_nobody_in_memory() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (mut peer, indices) = (peer(start), Indices::new(256));
        hear(&mut peer, 0x11, start);
        let mut keys = Identities::new(&SecretKey::new([1; 32]));
        keys.renew(&SecretKey::new([3; 32]));
        let (own, other) = (peer.tunnel.key(), keys.current().number());
        peer.challenge(keys.current().tunnel(&credentials()), &indices);
        peer.initiated(other, after(179));
        assert!(peer.session().is_over(after(180)));
        peer.drop_late_rival(&indices, after(188));
        assert!(peer.tunnel_by(other).is_some());
        peer.drop_late_rival(&indices, after(189));
        assert!(peer.tunnel_by(other).is_none());
        peer.initiated(own, after(179));
        assert!(!peer.session().is_over(after(180)));
    }

    #[test]
    fn rival_of_whoever_knows_no_more_than_the_public_key_goes_at_once() {
        let (mut peer, indices) = (peer(Instant::now()), Indices::new(256));
        let mut keys = Identities::new(&SecretKey::new([1; 32]));
        keys.renew(&SecretKey::new([3; 32]));
        let other = keys.current().number();
        peer.challenge(keys.current().tunnel(&credentials()), &indices);
        peer.drop_untried_rival(&indices);
        assert!(peer.tunnel_by(other).is_none());
        peer.challenge(keys.current().tunnel(&credentials()), &indices);
        peer.initiated(other, Instant::now());
        peer.drop_untried_rival(&indices);
        assert!(peer.tunnel_by(other).is_some());
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
        assert_eq!(peer.moving(start, false, || true), None, "it has no session");
        hear(&mut peer, 0x11, start);
        assert_eq!(peer.moving(start, false, || false), None, "too many others were told of");
        let moving = |receiver_index, silent_seconds| {
            let (device, by_former_key) = (DeviceId(7), false);
            Some(FromForwarder::Moving { device, receiver_index, silent_seconds, by_former_key })
        };
        assert_eq!(peer.moving(after(3), false, || true), moving(0x11, 3));
        assert_eq!(peer.moving(after(60), false, || true), None);
        hear(&mut peer, 0x22, after(60));
        assert_eq!(peer.moving(after(61), false, || true), moving(0x22, 1));
        hear(&mut peer, 0x33, after(62));
        assert_eq!(peer.moving(after(70), false, || true), None);
        assert_eq!(peer.moving(after(71), false, || true), moving(0x33, 9));
        assert_eq!(peer.moving(after(190), false, || true), None);
        assert_eq!(peer.moving(after(191), false, || true), moving(0x33, 129));
    }
}
