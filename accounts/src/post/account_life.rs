//! The letters of account life on their way into the queue.

use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use super::queue::Kind;
use crate::{Letter, Occasion, Store, StoreError, store::Write, times::rfc3339};

impl Store {
    /// Queues a letter in the change that asks for it: both are made, or neither.
    pub(crate) async fn post(
        &self,
        write: &mut Write,
        letter: &Letter,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        if !self.has_postman {
            return Ok(());
        }
        let (kind, lines) = content(letter);
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        self.queue(write, kind, letter.to(), &lines, now).await
    }
}

/// What the letter is about, and what is in it besides its address.
fn content(letter: &Letter) -> (Kind, Vec<Zeroizing<String>>) {
    match letter {
        Letter::ConfirmAddress { token, expires_at, occasion, .. } => {
            let kind = match occasion {
                Occasion::Registration => Kind::ConfirmRegistration,
                Occasion::Change => Kind::ConfirmChange,
            };
            let lines = [token.expose().to_owned(), rfc3339(*expires_at)];
            (kind, lines.map(Zeroizing::new).into())
        }
        Letter::AlreadyRegistered { .. } => (Kind::AlreadyRegistered, Vec::new()),
        Letter::ChangeBegun { .. } => (Kind::ChangeBegun, Vec::new()),
        Letter::AddressChanged { .. } => (Kind::AddressChanged, Vec::new()),
        Letter::PasswordChanged { .. } => (Kind::PasswordChanged, Vec::new()),
        Letter::Cancelled { .. } => (Kind::Cancelled, Vec::new()),
    }
}
