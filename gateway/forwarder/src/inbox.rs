//! What the workers leave for the coordinator: handshake messages, in bounded number, and news for control.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use tacit_messages::FromForwarder;

use crate::{
    endpoint::Endpoint,
    wireguard::{INITIATION_LEN, Kind},
};

/// Handshake messages that can wait. More are dropped: whoever sent them tries again after 5 s.
pub const MAX_WAITING: usize = 2_048;

/// A handshake message or cookie reply, or the head of a transport message of a device that is expected, and where it
/// came from.
#[derive(Clone)]
pub struct HandshakeMessage {
    /// Which of the four it is.
    pub kind: Kind,
    /// Where it came from.
    pub endpoint: Endpoint,
    bytes: [u8; INITIATION_LEN],
    len: usize,
}

impl HandshakeMessage {
    /// Copies `datagram`, of a transport message as much as an initiation is long.
    #[must_use]
    pub fn new(kind: Kind, endpoint: impl Into<Endpoint>, datagram: &[u8]) -> Self {
        let mut bytes = [0; INITIATION_LEN];
        let len = datagram.len().min(INITIATION_LEN);
        bytes[..len].copy_from_slice(&datagram[..len]);
        Self { kind, endpoint: endpoint.into(), bytes, len }
    }

    /// The message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The message, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

/// The inbox: the workers fill it, the coordinator empties it.
pub struct Inbox {
    contents: Mutex<Contents>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Contents {
    handshakes: VecDeque<HandshakeMessage>,
    news: Vec<FromForwarder>,
}

impl Inbox {
    /// Makes an empty inbox.
    ///
    /// # Errors
    /// What the kernel said to an eventfd.
    pub fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { contents: Mutex::default(), wake })
    }

    /// Becomes readable when something was left.
    #[must_use]
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Leaves news for control.
    pub fn tell(&self, news: impl IntoIterator<Item = FromForwarder>) {
        self.contents.lock().news.extend(news);
        self.ring();
    }

    /// Moves handshake messages in; returns how many there was no room for.
    pub fn hand_over(&self, messages: &mut Vec<HandshakeMessage>) -> u64 {
        let was_empty;
        let dropped;
        {
            let mut contents = self.contents.lock();
            was_empty = contents.handshakes.is_empty();
            let room = (MAX_WAITING - contents.handshakes.len()).min(messages.len());
            dropped = messages.len() - room;
            contents.handshakes.extend(messages.drain(..room));
        }
        messages.clear();
        if was_empty {
            self.ring();
        }
        dropped as u64
    }

    /// Takes up to `most` handshake messages and all news.
    #[must_use]
    pub fn take(&self, most: usize) -> (Vec<HandshakeMessage>, Vec<FromForwarder>) {
        let mut contents = self.contents.lock();
        let count = most.min(contents.handshakes.len());
        let handshakes = contents.handshakes.drain(..count).collect();
        (handshakes, std::mem::take(&mut contents.news))
    }

    /// How many handshake messages are waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.contents.lock().handshakes.len()
    }

    /// Takes back what [`Self::wake`] shows.
    pub fn hush(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    /// Overwrites what is left of messages that were taken, unless others wait.
    pub fn wipe(&self) {
        let mut contents = self.contents.lock();
        if contents.handshakes.is_empty() {
            contents.handshakes = VecDeque::new();
        }
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    #[test]
    fn what_waits_is_counted_until_it_is_taken_and_no_more_than_has_room() {
        let inbox = Inbox::new().expect("an eventfd");
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let message = || HandshakeMessage::new(Kind::Initiation, source, &[0; INITIATION_LEN]);
        let leave = |count: usize| inbox.hand_over(&mut (0..count).map(|_| message()).collect());
        assert_eq!((leave(3), inbox.waiting()), (0, 3));
        assert_eq!((inbox.take(2).0.len(), inbox.waiting()), (2, 1));
        assert_eq!((leave(MAX_WAITING), inbox.waiting()), (1, MAX_WAITING));
    }
}
