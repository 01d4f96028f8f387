//! Handshakes, apart from the workers: who is it, may they connect, what is the answer.

use boringtun::noise::{Packet, TunnResult, handshake::parse_handshake_anon};
use tacit_messages::{DropReason, PublicKey, clock::Instant};

use crate::{
    endpoint::Endpoint,
    expected::Newcomer,
    identity::{Identities, Identity},
    inbox::HandshakeMessage,
    lookups::Lookups,
    outbound,
    peer::Peer,
    peers::{PeerSlot, Slot},
    sources::Sources,
    state::State,
    wiping,
    wireguard::{self, COOKIE_REPLY_LEN, Kind},
};

/// Longest message that boringtun writes here: a handshake or a keepalive.
const REPLY_LEN: usize = 256;

/// What a handshake message comes to.
pub enum Outcome {
    /// Nothing further.
    Done,
    /// Send these bytes to where the message came from.
    Reply(Vec<u8>),
    /// Ask control whose key this is; the message waits.
    Ask(PublicKey),
    /// The message is dropped.
    Dropped(DropReason),
}

/// What handling a message needs.
pub struct Handshakes<'a> {
    /// The gateway's keys.
    pub identities: &'a Identities,
    /// Peers and indices.
    pub state: &'a State,
    /// The sockets, for packets that waited for a session key.
    pub io: outbound::Io<'a>,
    /// The time of this turn.
    pub now: Instant,
}

impl Handshakes<'_> {
    /// Handles one message; `live` finds a live device by its key.
    pub fn handle(
        &self,
        mut message: HandshakeMessage,
        live: impl Fn(&PublicKey) -> Option<Slot>,
        lookups: &mut Lookups,
        sources: &mut Sources,
    ) -> Outcome {
        match message.kind {
            Kind::CookieReply => return self.take_cookie(&message),
            Kind::Transport => return self.welcome(message, live, lookups),
            Kind::Initiation | Kind::Response => {}
        }
        let mut cookie_reply = [0; COOKIE_REPLY_LEN];
        let source = message.endpoint.ip();
        let identity = self.identities.meant(message.bytes());
        let packet = identity.front.verify_packet(Some(source), message.bytes(), &mut cookie_reply);
        let is_former = self.identities.is_former(identity.number());
        if packet.is_ok() && sources.count(is_former) && !sources.allow(source, self.now) {
            return Outcome::Dropped(DropReason::UnderLoad);
        }
        let key = match packet {
            Ok(Packet::HandshakeInit(initiation)) => {
                let Identity { private_key, public_key, .. } = identity;
                match parse_handshake_anon(private_key, public_key, &initiation) {
                    Ok(half) => half.peer_static_public,
                    Err(_) => return Outcome::Dropped(DropReason::HandshakeRejected),
                }
            }
            Ok(_) => return self.finish(&mut message),
            Err(TunnResult::WriteToNetwork(reply)) => {
                sources.count(is_former);
                self.state.coordinator_counters().dropped(DropReason::UnderLoad);
                return Outcome::Reply(reply.to_vec());
            }
            Err(_) => return Outcome::Dropped(DropReason::InvalidMac),
        };
        if let Some(slot) = live(&key)
            && let Some(outcome) = self.respond(slot, &message)
        {
            return outcome;
        }
        match lookups.wait(key, message, self.now) {
            Ok(true) => Outcome::Ask(key),
            Ok(false) => Outcome::Done,
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    /// Shakes hands with a device that is expected, once control has said who it is.
    fn welcome(
        &self,
        message: HandshakeMessage,
        live: impl Fn(&PublicKey) -> Option<Slot>,
        lookups: &mut Lookups,
    ) -> Outcome {
        let Some(newcomer) = self.newcomer(&message) else { return Outcome::Done };
        if let Some(slot) = live(&newcomer.public_key)
            && let Some(outcome) = self.initiate(slot, &newcomer)
        {
            return outcome;
        }
        match lookups.wait(newcomer.public_key, message, self.now) {
            Ok(true) => Outcome::Ask(newcomer.public_key),
            Ok(false) => Outcome::Done,
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    /// The device that a transport message is of, if it is still expected.
    #[must_use]
    pub fn newcomer(&self, message: &HandshakeMessage) -> Option<Newcomer> {
        let is_transport = message.kind == Kind::Transport;
        let index = wireguard::receiver_index(message.bytes());
        is_transport.then(|| self.state.expected.newcomer(index)).flatten()
    }

    /// Begins a handshake with the device in `slot`, unless it has been heard of here since it was elsewhere; not at all if
    /// nobody has proved to be it here and its tunnel is by another key: then control has to say once more who it is.
    pub fn initiate(&self, slot: Slot, newcomer: &Newcomer) -> Option<Outcome> {
        let Some(mut held) = self.state.peers.slot(slot).map(PeerSlot::lock) else {
            return Some(Outcome::Done);
        };
        let Some(peer) = held.as_deref_mut().filter(|peer| !peer.has_come(newcomer)) else {
            return Some(Outcome::Done);
        };
        let is_former = self.identities.is_former(peer.tunnel.key());
        if is_former != newcomer.by_former_key {
            return peer.session().began().then_some(Outcome::Done);
        }
        let mut buffer = [0; REPLY_LEN];
        wiping::wipe_stack();
        let TunnResult::WriteToNetwork(initiation) =
            peer.tunnel.tunn.format_handshake_initiation(&mut buffer, true)
        else {
            return Some(Outcome::Dropped(DropReason::HandshakeRejected));
        };
        let key = peer.tunnel.key();
        if !peer.dress_handshake(initiation, key, &self.state.indices, self.now) {
            return Some(Outcome::Dropped(DropReason::HandshakeRejected));
        }
        Some(Outcome::Reply(initiation.to_vec()))
    }

    /// Answers the initiation of the live device in `slot`; not at all if it has no tunnel by the key that is meant: then control
    /// has to say once more who it is.
    pub fn respond(&self, slot: Slot, message: &HandshakeMessage) -> Option<Outcome> {
        let Some(mut held) = self.state.peers.slot(slot).map(PeerSlot::lock) else {
            return Some(Outcome::Dropped(DropReason::UnknownKey));
        };
        let Some(peer) = held.as_deref_mut() else {
            return Some(Outcome::Dropped(DropReason::UnknownKey));
        };
        let key = self.identities.meant(message.bytes()).number();
        let tunnel = peer.tunnel_by(key)?;
        let mut buffer = [0; REPLY_LEN];
        wiping::wipe_stack();
        let TunnResult::WriteToNetwork(response) =
            tunnel.tunn.decapsulate(None, message.bytes(), &mut buffer)
        else {
            peer.drop_untried_rival(&self.state.indices);
            return Some(Outcome::Dropped(DropReason::HandshakeRejected));
        };
        peer.initiated(key, self.now);
        if !peer.dress_handshake(response, key, &self.state.indices, self.now) {
            return Some(Outcome::Dropped(DropReason::HandshakeRejected));
        }
        self.state.coordinator_counters().handshake();
        Some(Outcome::Reply(response.to_vec()))
    }

    /// Takes the response to an initiation of ours. It cannot be a replay: it answers our fresh key.
    fn finish(&self, message: &mut HandshakeMessage) -> Outcome {
        let endpoint = message.endpoint;
        let wire_index = wireguard::response_receiver_index(message.bytes());
        let finished = self.with_index(wire_index, |peer, local_index| {
            let Some(identity) = self.identities.numbered(peer.tunnel.key()) else {
                return Outcome::Dropped(DropReason::HandshakeRejected);
            };
            wireguard::set_response_receiver_index(message.bytes_mut(), local_index);
            identity.own_macs.seal(message.bytes_mut(), None);
            let mut buffer = [0; REPLY_LEN];
            wiping::wipe_stack();
            match peer.tunnel.tunn.decapsulate(None, message.bytes(), &mut buffer) {
                TunnResult::WriteToNetwork(keepalive) => {
                    let keepalive = keepalive.to_vec();
                    self.confirmed(peer, endpoint, wire_index);
                    Outcome::Reply(keepalive)
                }
                _ => Outcome::Dropped(DropReason::HandshakeRejected),
            }
        });
        finished.unwrap_or(Outcome::Dropped(DropReason::UnknownIndex))
    }

    fn confirmed(&self, peer: &mut Peer, endpoint: Endpoint, wire_index: u32) {
        self.state.coordinator_counters().handshake();
        let may_roam = || self.state.may_begin_session(self.now);
        if let Some(news) = peer.authenticated(endpoint, wire_index, self.now, may_roam) {
            self.state.tell(news);
        }
        if let Some(socket) = self.io.socket(endpoint) {
            outbound::send_queued(peer, socket);
        }
    }

    /// A cookie reply moves no endpoint: it proves nothing but that somebody saw our message.
    fn take_cookie(&self, message: &HandshakeMessage) -> Outcome {
        let Some(reply) = message.bytes().first_chunk::<COOKIE_REPLY_LEN>() else {
            return Outcome::Dropped(DropReason::Malformed);
        };
        let taken = self.with_index(wireguard::receiver_index(reply), |peer, _| {
            peer.take_cookie(reply, self.now)
        });
        match taken {
            Some(true) => Outcome::Done,
            Some(false) => Outcome::Dropped(DropReason::HandshakeRejected),
            None => Outcome::Dropped(DropReason::UnknownIndex),
        }
    }

    /// Does something to the peer that has the receiver index, told its local index. A rival begins no handshake, so what
    /// answers one is not for it.
    fn with_index<T>(&self, wire_index: u32, act: impl FnOnce(&mut Peer, u32) -> T) -> Option<T> {
        let owner = self.state.indices.owner(wire_index)?;
        let mut held = self.state.peers.slot(owner.slot)?.lock();
        let peer = held.as_deref_mut()?;
        let place = peer.place(wire_index, owner.local).filter(|place| !place.is_rivals)?;
        Some(act(peer, place.local_index))
    }

    /// Lets the timers of the peer in `slot` run (section 6.1): rekeys and keepalives.
    pub fn tick(&self, peer: &mut Peer) {
        peer.drop_late_rival(&self.state.indices, self.now);
        peer.tunnel.release_expired_indices(&self.state.indices, self.now);
        let mut buffer = [0; REPLY_LEN];
        let TunnResult::WriteToNetwork(message) = peer.tunnel.tunn.update_timers(&mut buffer)
        else {
            return;
        };
        wiping::wipe_stack();
        let Some(endpoint) = peer.endpoint() else { return };
        let is_initiation = Kind::of(message) == Some(Kind::Initiation);
        let key = peer.tunnel.key();
        if is_initiation && !peer.dress_handshake(message, key, &self.state.indices, self.now) {
            return;
        }
        self.io.send(endpoint, message);
    }

    /// Ends the session of `peer`, which is about to be dropped, and frees its indices.
    pub fn end(&self, peer: &mut Peer) {
        self.state.tell(peer.end(self.now));
        peer.release_all_indices(&self.state.indices);
    }
}
