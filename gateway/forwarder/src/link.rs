//! The forwarder's end of the socket to control.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use tacit_messages::{FromForwarder, SIZE, SecretKey, ToForwarder, wire::Frame};
use zeroize::Zeroizing;

/// Messages that may wait for the socket before no more questions are asked.
const MAX_UNSENT_QUESTIONS: usize = 1_024;

/// Control is gone, or says what this program does not understand: there is nobody to forward for.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// The socket, and what it did not take yet.
pub struct Link {
    socket: OwnedFd,
    unsent: VecDeque<Frame>,
}

impl Link {
    /// Takes the socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, unsent: VecDeque::new() }
    }

    /// The socket, to wait for.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether messages wait for the socket to take them.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether so much waits that questions can only make it worse; what happened must still be told.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.unsent.len() >= MAX_UNSENT_QUESTIONS
    }

    /// Waits for the gateway's private key, the first message of all.
    ///
    /// # Errors
    /// [`Gone`] if control says anything else.
    pub fn identity(&self) -> Result<SecretKey, Gone> {
        match self.read(RecvFlags::empty())? {
            Some(ToForwarder::Identity { private_key }) => Ok(private_key),
            _ => Err(Gone),
        }
    }

    /// Reads the next message, none if there is none yet.
    ///
    /// # Errors
    /// [`Gone`] at the end of the conversation.
    pub fn receive(&self) -> Result<Option<ToForwarder>, Gone> {
        self.read(RecvFlags::DONTWAIT)
    }

    fn read(&self, flags: RecvFlags) -> Result<Option<ToForwarder>, Gone> {
        let mut frame = Zeroizing::new([0; SIZE]);
        loop {
            return match recv(&self.socket, &mut frame[..], flags) {
                Ok((len, _)) => ToForwarder::decode(&frame[..len]).map(Some).map_err(|_| Gone),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(_) => Err(Gone),
            };
        }
    }

    /// Sends `messages` after those that still wait, or keeps them for the next time.
    ///
    /// # Errors
    /// [`Gone`] if control hung up.
    pub fn send(&mut self, messages: impl IntoIterator<Item = FromForwarder>) -> Result<(), Gone> {
        self.unsent.extend(messages.into_iter().map(|message| message.encode()));
        self.send_unsent(SendFlags::DONTWAIT)
    }

    /// Sends all that waits, however long that takes.
    ///
    /// # Errors
    /// [`Gone`] if control hung up.
    pub fn finish(&mut self) -> Result<(), Gone> {
        self.send_unsent(SendFlags::empty())
    }

    fn send_unsent(&mut self, flags: SendFlags) -> Result<(), Gone> {
        while let Some(frame) = self.unsent.front() {
            match send(&self.socket, &frame[..], flags | SendFlags::NOSIGNAL) {
                Ok(_) => {
                    self.unsent.pop_front();
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone),
            }
        }
        // Taking a message out of a queue leaves its bytes in there; freed memory is overwritten.
        self.unsent = VecDeque::new();
        Ok(())
    }
}
