//! The letters of account life on their way into the queue.

use tacit_messages::UnixSeconds;
use zeroize::Zeroizing;

use super::queue::Kind;
use crate::{Letter, Occasion, Store, StoreError, times::rfc3339};

impl Store {
    /// Queues letters that a change of an account asks for.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then none is queued.
    pub async fn post(&self, letters: &[Letter], now: UnixSeconds) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for letter in letters {
            let (kind, lines) = content(letter);
            let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
            self.queue(&mut write, kind, letter.to(), &lines, now).await?;
        }
        write.commit().await
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
        Letter::AddressChanged { .. } => (Kind::AddressChanged, Vec::new()),
        Letter::PasswordChanged { .. } => (Kind::PasswordChanged, Vec::new()),
        Letter::Cancelled { .. } => (Kind::Cancelled, Vec::new()),
    }
}
