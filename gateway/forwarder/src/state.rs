//! What all threads of the forwarder share.

use parking_lot::Mutex;
use tacit_messages::{FromForwarder, bounds::Bucket, clock::Instant};

use crate::{
    counters::Counters,
    destination::Destinations,
    expected::Expected,
    inbox::{HandshakeMessage, Inbox},
    indices::Indices,
    peers::Peers,
    settings::{Pool, Settings},
};

/// Peers, indices and rules; the workers read them, the coordinator changes them.
pub struct State {
    /// The tunnel networks.
    pub pool: Pool,
    /// Live devices.
    pub peers: Peers,
    /// Receiver indices.
    pub indices: Indices,
    /// Devices on their way here from another gateway.
    pub expected: Expected,
    /// Where devices may send to.
    pub destinations: Destinations,
    /// MTU of the TUN device in bytes.
    pub mtu: usize,
    /// What workers leave for the coordinator.
    pub inbox: Inbox,
    /// One set per worker, then the coordinator's.
    pub counters: Box<[Counters]>,
    /// Sessions of all devices that may begin.
    sessions: Mutex<Bucket>,
}

impl State {
    /// Makes the state of a forwarder without peers.
    ///
    /// # Errors
    /// What the kernel said to an eventfd.
    pub fn new(settings: &Settings) -> std::io::Result<Self> {
        let pool = Pool::new(settings);
        Ok(Self {
            pool,
            peers: Peers::new(pool.capacity()),
            indices: Indices::new(pool.capacity()),
            expected: Expected::default(),
            destinations: Destinations::new(settings),
            mtu: usize::from(settings.mtu),
            inbox: Inbox::new()?,
            counters: (0..=settings.workers).map(|_| Counters::default()).collect(),
            sessions: Mutex::new(Bucket::of_sessions(pool.capacity(), Instant::now())),
        })
    }

    /// The coordinator's own counters.
    #[must_use]
    pub fn coordinator_counters(&self) -> &Counters {
        &self.counters[self.counters.len() - 1]
    }

    /// Counts the begin of a session, if control may be told of one more.
    pub fn may_begin_session(&self, now: Instant) -> bool {
        self.sessions.lock().take(now)
    }

    /// Leaves messages for control.
    pub fn tell(&self, messages: impl IntoIterator<Item = FromForwarder>) {
        self.inbox.tell(messages);
    }

    /// Leaves handshake messages for the coordinator; returns how many there was no room for.
    pub fn hand_over(&self, messages: &mut Vec<HandshakeMessage>) -> u64 {
        self.inbox.hand_over(messages)
    }
}
