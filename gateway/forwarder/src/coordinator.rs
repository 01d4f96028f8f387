//! Everything that is not a packet's way: handshakes, timers, the conversation with control.

use std::{collections::HashMap, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::setpriority_process,
};
use tacit_messages::{
    DeviceId, DropReason, FromForwarder, PublicKey, ToForwarder, Totals,
    bounds::{Bucket, LEAVE_LIFETIME, TOTALS_INTERVAL},
    clock::Instant,
};

use crate::{
    endpoint::Endpoint,
    expected::Newcomer,
    handshakes::{Handshakes, Outcome},
    identity::{Identities, Identity},
    inbox::HandshakeMessage,
    link::{Gone, Link},
    lookups::Lookups,
    outbound,
    peer::Credentials,
    peers::Slot,
    session::REJECT_AFTER_TIME,
    sources::Sources,
    state::State,
    wiping,
    wireguard::Kind,
};

/// How often timers run; WireGuard's are whole seconds.
const TICK: Duration = Duration::from_millis(250);
const TICK_TIMESPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// Handshake messages per turn, about 10 ms of work.
const HANDSHAKES_PER_TURN: usize = 64;
/// Devices that are told of per tick while the gateway is left.
const MOVINGS_PER_TICK: usize = 4_096;
/// Workers come first when cores are scarce.
const NICENESS: i32 = 5;

/// The thread's state.
pub struct Coordinator<'a> {
    state: &'a State,
    identities: Identities,
    io: outbound::Io<'a>,
    link: Link,
    lookups: Lookups,
    sources: Sources,
    live: HashMap<PublicKey, Live>,
    keys: HashMap<DeviceId, PublicKey>,
    sessions: u64,
    former_key_sessions: u64,
    /// When control last said that the gateway is left.
    leave: Option<Instant>,
    movings: Bucket,
    last_tick: Instant,
    last_totals: Instant,
    /// Whether a device was dropped whose traces are still to be overwritten.
    forgot: bool,
    #[cfg(feature = "misbehave")]
    attempt: Option<String>,
    #[cfg(feature = "misbehave")]
    is_deaf: bool,
}

#[derive(Clone, Copy)]
struct Live {
    slot: Slot,
    device: DeviceId,
}

/// What a turn was.
enum Turn {
    /// Nothing out of the ordinary.
    Other,
    /// One that ended a second.
    OfASecond,
    /// The last: control said `Shutdown`.
    Last,
}

/// Gives the calling thread, which will be the coordinator's, a low priority.
pub fn give_way() {
    let _ = setpriority_process(None, NICENESS);
}

impl<'a> Coordinator<'a> {
    /// Makes the coordinator of a forwarder without peers; `io` is any worker's.
    #[must_use]
    pub fn new(state: &'a State, identities: Identities, io: outbound::Io<'a>, link: Link) -> Self {
        let now = Instant::now();
        Self {
            state,
            identities,
            io,
            link,
            lookups: Lookups::new(now),
            sources: Sources::default(),
            live: HashMap::new(),
            keys: HashMap::new(),
            sessions: 0,
            former_key_sessions: 0,
            leave: None,
            movings: Bucket::of_movings(state.pool.capacity(), now),
            last_tick: now,
            last_totals: now,
            forgot: false,
            #[cfg(feature = "misbehave")]
            attempt: crate::misbehaviour::attempt(),
            #[cfg(feature = "misbehave")]
            is_deaf: false,
        }
    }

    /// Works until control says `Shutdown`.
    ///
    /// # Errors
    /// [`Gone`] if control went without saying so.
    pub fn run(&mut self) -> Result<(), Gone> {
        self.link.send([FromForwarder::Ready])?;
        loop {
            match self.turn()? {
                Turn::Other => {}
                Turn::OfASecond => wiping::wipe_stack(),
                Turn::Last => return Ok(()),
            }
        }
    }

    /// Waits for something to do and does it.
    ///
    /// Not inlined, so that all it leaves on the stack lies below its caller, where it is wiped.
    #[inline(never)]
    fn turn(&mut self) -> Result<Turn, Gone> {
        self.wait();
        let now = Instant::now();
        while let Some(message) = self.receive()? {
            if message == ToForwarder::Shutdown {
                return self.shut_down(now).map(|()| Turn::Last);
            }
            self.hear(message, now);
        }
        let (handshakes, news) = self.state.inbox.take(HANDSHAKES_PER_TURN);
        #[cfg(feature = "misbehave")]
        let news = self.misbehave(news);
        self.link.send(news)?;
        for message in handshakes {
            self.handle(message, now)?;
        }
        if now.since(self.last_tick) >= TICK {
            self.last_tick = now;
            self.tick(now);
        }
        if now.since(self.last_totals) < TOTALS_INTERVAL {
            return Ok(Turn::Other);
        }
        self.last_totals = now;
        self.identities.reset_count();
        self.sources.new_second(now);
        self.link.send([FromForwarder::Totals(Box::new(self.totals()))])?;
        self.state.expected.new_second(now, |newcomer| self.has_come(newcomer));
        self.wipe();
        Ok(Turn::OfASecond)
    }

    /// Makes the attempt of a test build when the first session has begun.
    /// What control says, if it has said something.
    fn receive(&self) -> Result<Option<ToForwarder>, Gone> {
        #[cfg(feature = "misbehave")]
        if self.is_deaf {
            return Ok(None);
        }
        self.link.receive()
    }

    #[cfg(feature = "misbehave")]
    fn misbehave(&mut self, mut news: Vec<FromForwarder>) -> Vec<FromForwarder> {
        let begun = news.iter().find_map(|message| match message {
            FromForwarder::SessionBegan { device, .. } => Some(*device),
            _ => None,
        });
        if let Some(device) = begun
            && let Some(attempt) = self.attempt.take()
        {
            self.is_deaf = attempt == crate::misbehaviour::DEAF;
            news.extend(crate::misbehaviour::make(&attempt, device));
        }
        news
    }

    /// Waits for something to do, a tick at most.
    fn wait(&self) {
        let link_events =
            if self.link.has_unsent() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [
            PollFd::from_borrowed_fd(self.link.socket(), link_events),
            PollFd::from_borrowed_fd(self.state.inbox.wake(), PollFlags::IN),
        ];
        let busy = self.state.inbox.waiting() > 0;
        let timeout = if busy { Timespec { tv_sec: 0, tv_nsec: 0 } } else { TICK_TIMESPEC };
        let _ = poll(&mut fds, Some(&timeout));
        self.state.inbox.hush();
    }

    fn handshakes(&self, now: Instant) -> Handshakes<'_> {
        Handshakes { identities: &self.identities, state: self.state, io: self.io, now }
    }

    fn hear(&mut self, message: ToForwarder, now: Instant) {
        match message {
            ToForwarder::Device { public_key, device, preshared_key, tunnel_v4, tunnel_v6 } => {
                let credentials =
                    Credentials { device, public_key, preshared_key, tunnel_v4, tunnel_v6 };
                wiping::wipe_stack();
                self.admit(&credentials, now);
            }
            ToForwarder::Unknown { public_key } => self.lookups.unknown(public_key, now),
            ToForwarder::Revoked { device } => self.drop_device(device, now),
            ToForwarder::Leave => self.leave = Some(now),
            ToForwarder::Expect { public_key, receiver_index, silent_seconds, by_former_key } => {
                let silence = Duration::from_secs(silent_seconds.into());
                let last_seen = now.minus(silence);
                let newcomer = Newcomer { public_key, last_seen, by_former_key };
                if silence < REJECT_AFTER_TIME && !self.has_come(&newcomer) {
                    self.state.expected.expect(receiver_index, newcomer);
                }
            }
            ToForwarder::Identity { private_key } => {
                if !self.identities.know(&private_key) {
                    self.retire(now);
                    self.identities.renew(&private_key);
                }
            }
            ToForwarder::Retire => self.retire(now),
            ToForwarder::Shutdown => {}
        }
    }

    /// Forgets the gateway's former key, and drops whoever uses it.
    fn retire(&mut self, now: Instant) {
        let Some(former) = self.identities.retire() else { return };
        let mut cut_off = Vec::new();
        for live in self.live.values() {
            let Some(mut held) = self.state.peers.slot(live.slot).map(|slot| slot.lock()) else {
                continue;
            };
            let Some(peer) = held.as_deref_mut() else { continue };
            if peer.tunnel.key() == former {
                cut_off.push(live.device);
            } else if peer.tunnel_by(former).is_some() {
                peer.drop_rival(&self.state.indices);
            }
        }
        for device in cut_off {
            self.drop_device(device, now);
        }
    }

    /// Lets a device in, and answers the handshake that waited for it, or begins one with a device that was expected.
    ///
    /// Not inlined, so that the peer is made on the part of the stack that was wiped.
    #[inline(never)]
    fn admit(&mut self, credentials: &Credentials, now: Instant) {
        let Some(message) = self.lookups.answered(&credentials.public_key) else { return };
        let newcomer = self.handshakes(now).newcomer(&message);
        if newcomer.is_none() && message.kind == Kind::Transport {
            return;
        }
        let slot = self.state.pool.slot_v4(credentials.tunnel_v4);
        let Some(slot) =
            slot.filter(|slot| self.state.pool.slot_v6(credentials.tunnel_v6) == Some(*slot))
        else {
            return;
        };
        if newcomer.is_none() && self.answer_rival(slot, credentials, &message, now) {
            return;
        }
        let identity = match newcomer {
            Some(newcomer) => self.identities.either(newcomer.by_former_key),
            None => Some(self.identities.meant(message.bytes())),
        };
        // Expected by a key that was retired since.
        let Some(key) = identity.map(Identity::number) else { return };
        if !self.state.may_begin_session(now) {
            return self.state.coordinator_counters().dropped(DropReason::LookupLimit);
        }
        self.drop_device(credentials.device, now);
        self.drop_slot(slot, now);
        // What nobody has proved keeps no device in memory longer than it would have been elsewhere.
        let last_seen = newcomer.map_or(now, |newcomer| newcomer.last_seen);
        let Some(identity) = self.identities.numbered(key) else { return };
        self.state.peers.insert(slot, identity.peer(slot, credentials, last_seen));
        self.live.insert(credentials.public_key, Live { slot, device: credentials.device });
        self.keys.insert(credentials.device, credentials.public_key);
        let endpoint = message.endpoint;
        let handshakes = self.handshakes(now);
        let outcome = match newcomer {
            Some(newcomer) => handshakes.initiate(slot, &newcomer),
            None => handshakes.respond(slot, &message),
        };
        if let Some(outcome) = outcome {
            self.conclude(outcome, endpoint);
        }
    }

    /// Answers a live device that means another of the gateway's keys than the one of its tunnel; returns whether it is such.
    fn answer_rival(
        &self,
        slot: Slot,
        credentials: &Credentials,
        message: &HandshakeMessage,
        now: Instant,
    ) -> bool {
        let is_live = self
            .live
            .get(&credentials.public_key)
            .is_some_and(|live| live.slot == slot && live.device == credentials.device);
        if !is_live {
            return false;
        }
        let meant = self.identities.meant(message.bytes());
        if let Some(peer) = self.state.peers.slot(slot).map(|slot| slot.lock()).as_mut()
            && let Some(peer) = peer.as_deref_mut()
            && peer.tunnel_by(meant.number()).is_none()
        {
            peer.challenge(meant.tunnel(credentials), &self.state.indices);
        }
        if let Some(outcome) = self.handshakes(now).respond(slot, message) {
            self.conclude(outcome, message.endpoint);
        }
        true
    }

    fn handle(&mut self, message: HandshakeMessage, now: Instant) -> Result<(), Gone> {
        let endpoint = message.endpoint;
        let handshakes =
            Handshakes { identities: &self.identities, state: self.state, io: self.io, now };
        let live = |key: &PublicKey| self.live.get(key).map(|live| live.slot);
        let outcome = handshakes.handle(message, live, &mut self.lookups, &mut self.sources);
        if let Outcome::Ask(public_key) = outcome {
            if self.link.is_behind() {
                self.state.coordinator_counters().dropped(DropReason::LookupLimit);
                return Ok(());
            }
            return self.link.send([FromForwarder::WhoIs { public_key }]);
        }
        self.conclude(outcome, endpoint);
        Ok(())
    }

    fn conclude(&self, outcome: Outcome, endpoint: Endpoint) {
        match outcome {
            Outcome::Reply(reply) => self.io.send(endpoint, &reply),
            Outcome::Dropped(reason) => self.state.coordinator_counters().dropped(reason),
            Outcome::Done | Outcome::Ask(_) => {}
        }
    }

    /// Whether a device that was expected is live here.
    fn has_come(&self, newcomer: &Newcomer) -> bool {
        let slot =
            self.live.get(&newcomer.public_key).and_then(|live| self.state.peers.slot(live.slot));
        slot.is_some_and(|slot| slot.lock().as_ref().is_some_and(|peer| peer.has_come(newcomer)))
    }

    /// Runs the timers of every live device, forgets those that have been silent for too long, and tells of the others
    /// if the gateway is left.
    fn tick(&mut self, now: Instant) {
        wiping::wipe_stack();
        self.lookups.expire(now);
        let (mut sessions, mut former_key_sessions) = (0, 0);
        let mut silent = Vec::new();
        let is_left = self.leave.is_some_and(|said| now.since(said) < LEAVE_LIFETIME);
        let room = if is_left && !self.link.is_behind() { MOVINGS_PER_TICK } else { 0 };
        let mut moving = Vec::new();
        let handshakes =
            Handshakes { identities: &self.identities, state: self.state, io: self.io, now };
        for live in self.live.values() {
            let Some(mut held) = self.state.peers.slot(live.slot).map(|slot| slot.lock()) else {
                continue;
            };
            let Some(peer) = held.as_deref_mut() else { continue };
            if peer.session().is_over(now) {
                silent.push(live.device);
                continue;
            }
            let by_former_key = self.identities.is_former(peer.tunnel.key());
            sessions += u64::from(peer.session().began());
            former_key_sessions += u64::from(peer.session().began() && by_former_key);
            handshakes.tick(peer);
            if moving.len() < room {
                moving.extend(peer.moving(now, by_former_key, || self.movings.take(now)));
            }
        }
        if !moving.is_empty() {
            self.state.tell(moving);
        }
        self.sessions = sessions;
        self.former_key_sessions = former_key_sessions;
        for device in silent {
            self.drop_device(device, now);
        }
    }

    fn drop_device(&mut self, device: DeviceId, now: Instant) {
        let Some(public_key) = self.keys.remove(&device) else { return };
        self.forgot = true;
        if let Some(live) = self.live.remove(&public_key) {
            self.empty_slot(live.slot, now);
        }
    }

    /// Drops whoever is in `slot`: the store gave its addresses to another device.
    fn drop_slot(&mut self, slot: Slot, now: Instant) {
        let held = self
            .state
            .peers
            .slot(slot)
            .and_then(|slot| slot.lock().as_ref().map(|peer| peer.device()));
        if let Some(device) = held {
            self.drop_device(device, now);
        }
    }

    fn empty_slot(&self, slot: Slot, now: Instant) {
        let Some(mut held) = self.state.peers.slot(slot).map(|slot| slot.lock()) else { return };
        if let Some(mut peer) = held.take() {
            self.handshakes(now).end(&mut peer);
        }
    }

    /// Overwrites what devices and messages that are gone left in tables and queues.
    fn wipe(&mut self) {
        if std::mem::take(&mut self.forgot) {
            wiping::rebuild(&mut self.live);
            wiping::rebuild(&mut self.keys);
        }
        self.lookups.wipe();
        self.sources.wipe();
        self.state.inbox.wipe();
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals {
            sessions: self.sessions,
            handshakes_waiting: self.state.inbox.waiting() as u64,
            former_key_sessions: self.former_key_sessions,
            ..Totals::default()
        };
        self.state.counters.iter().for_each(|counters| counters.add_to(&mut totals));
        totals
    }

    /// Ends every session and tells control all that is left to tell.
    fn shut_down(&mut self, now: Instant) -> Result<(), Gone> {
        let devices: Vec<DeviceId> = self.keys.keys().copied().collect();
        for device in devices {
            self.drop_device(device, now);
        }
        let (_, news) = self.state.inbox.take(0);
        self.link.send(news)?;
        self.link.send([FromForwarder::Totals(Box::new(self.totals()))])?;
        self.link.finish()
    }
}
