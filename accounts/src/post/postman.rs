//! Takes due letters to the mail server, one after the other over one connection.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lettre::{
    Message,
    transport::smtp::{
        Error,
        authentication::Mechanism,
        client::AsyncSmtpConnection,
        commands::{Data, Mail as MailFrom, Rcpt, Rset},
        extension::{ClientId, Extension, MailParameter},
    },
};
use tacit_messages::{UnixSeconds, clock::Instant};
use tokio::time::{sleep, timeout};

use super::{
    Mail, Security,
    outcome::{Failure, Outcome, Step, outcome},
    queue::{DueLetter, SENDING_PATIENCE},
    words,
};
use crate::{
    Store, StoreError,
    rules::{Rules, RulesError},
};

/// How many letters are taken from the queue at once; they are let go again if the connection fails.
const BATCH: u32 = 16;

/// Between two tries to tell the store that a letter is sent: if it never gets to know, the letter is in doubt.
const STORE_RETRY: Duration = Duration::from_millis(500);
const STORE_TRIES: u32 = 60;

/// Why letters were not sent.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// No server took a connection.
    #[error("the mail server cannot be reached, or its name or certificate is not right")]
    Unreachable,
    /// The server does not take letters from this gateway.
    #[error("the mail server refuses this gateway{}; check `mail-user`, `mail-password-file` and `mail-from`", Code(*.0))]
    Rejected(Option<u16>),
    /// The connection failed.
    #[error("the connection to the mail server failed")]
    Broken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Code(Option<u16>);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " (code {code})"))
    }
}

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Letters that the server took.
    pub sent: u64,
    /// Letters that it did not take, for now or for good.
    pub not_sent: u64,
    /// Letters of which nobody knows.
    pub doubtful: u64,
}

/// Who takes letters to the server.
#[derive(Debug)]
pub struct Postman {
    store: Store,
    mail: Mail,
}

impl Postman {
    /// A postman for the letters of a store.
    #[must_use]
    pub fn new(store: Store, mail: Mail) -> Self {
        Self { store, mail }
    }

    /// Sends all that is due.
    ///
    /// # Errors
    /// [`DeliveryError`]; then what is left stays in the queue.
    pub async fn deliver(&self) -> Result<Round, DeliveryError> {
        let mut round = Round::default();
        let now = UnixSeconds::now();
        self.store.find_letters_in_doubt(now.minus(SENDING_PATIENCE), now).await?;
        let mut due = self.take_due().await?;
        if due.is_empty() {
            return Ok(round);
        }
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                self.let_go(&due).await?;
                return Err(error);
            }
        };
        while !due.is_empty() {
            let mut left = due.into_iter();
            while let Some(letter) = left.next() {
                let began_at = Instant::now();
                let delivered = self.deliver_one(&mut connection, &letter, &mut round).await;
                if let Err(error) = delivered {
                    self.let_go(left.as_slice()).await?;
                    return Err(error);
                }
                sleep(self.mail.pace.saturating_sub(Instant::now().since(began_at))).await;
            }
            due = self.take_due().await?;
        }
        let _ = self.answer(connection.quit()).await;
        Ok(round)
    }

    async fn take_due(&self) -> Result<Vec<DueLetter>, StoreError> {
        self.store.take_due(BATCH.into(), self.lease(), UnixSeconds::now()).await
    }

    /// How long a batch takes with a server that is not slow. Of a slow one's, other gateways may take the rest.
    fn lease(&self) -> Duration {
        self.mail.pace * BATCH + self.mail.patience
    }

    async fn let_go(&self, letters: &[DueLetter]) -> Result<(), StoreError> {
        for letter in letters {
            self.store.letter_untouched(letter.id, UnixSeconds::now()).await?;
        }
        Ok(())
    }

    async fn deliver_one(
        &self,
        connection: &mut AsyncSmtpConnection,
        letter: &DueLetter,
        round: &mut Round,
    ) -> Result<(), DeliveryError> {
        if !self.store.keep_letter(letter.id, self.lease(), UnixSeconds::now()).await? {
            return Ok(());
        }
        let rules = self.rules_of(letter).await?;
        let Ok(message) = words::message(&self.mail, letter, rules.as_ref()) else {
            round.not_sent += 1;
            return Ok(self.store.letter_refused(letter.id, None, UnixSeconds::now()).await?);
        };
        let (outcome, failure) = match self.send(connection, letter, &message).await? {
            Ok(outcome) => (outcome, None),
            Err((step, failure)) => (outcome(step, failure), Some(failure)),
        };
        self.note(letter, outcome, round).await?;
        match failure {
            // Without its end the server drops the letter, and this connection is of no more use.
            None if outcome == Outcome::Elsewhere => {
                *connection = self.connect().await?;
                Ok(())
            }
            None => Ok(()),
            Some(failure) if failure.ends_connection() => Err(DeliveryError::Broken),
            Some(failure) if outcome == Outcome::Untouched => {
                Err(DeliveryError::Rejected(failure.0))
            }
            // The server forgets what it heard of this letter.
            Some(_) => match self.answer(connection.command(Rset)).await {
                Ok(_) => Ok(()),
                Err(_) => Err(DeliveryError::Broken),
            },
        }
    }

    async fn rules_of(&self, letter: &DueLetter) -> Result<Option<Rules>, StoreError> {
        let Some(version) = letter.rules_version else { return Ok(None) };
        match self.store.rules(version).await {
            Ok(rules) => Ok(Some(rules)),
            Err(RulesError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn note(
        &self,
        letter: &DueLetter,
        outcome: Outcome,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let now = UnixSeconds::now();
        match outcome {
            Outcome::Sent => {
                round.sent += 1;
                self.note_sent(letter, now).await
            }
            Outcome::PutOff(code) => {
                round.not_sent += 1;
                self.store.letter_put_off(letter, code, now).await
            }
            Outcome::Refused(code) => {
                round.not_sent += 1;
                self.store.letter_refused(letter.id, code, now).await
            }
            Outcome::Untouched => self.store.letter_untouched(letter.id, now).await,
            Outcome::Elsewhere => Ok(()),
            Outcome::Doubtful => {
                round.doubtful += 1;
                self.store.letter_in_doubt(letter.id).await
            }
        }
    }

    /// Tells the store, also if it is away for a moment.
    async fn note_sent(&self, letter: &DueLetter, now: UnixSeconds) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            match self.store.letter_sent(letter.id, now).await {
                Err(_) if tries < STORE_TRIES => sleep(STORE_RETRY).await,
                outcome => return outcome,
            }
            tries += 1;
        }
    }

    /// Hands one letter over; says how far it was if the server did not take it.
    async fn send(
        &self,
        connection: &mut AsyncSmtpConnection,
        letter: &DueLetter,
        message: &Message,
    ) -> Result<Result<Outcome, (Step, Failure)>, StoreError> {
        let envelope = message.envelope();
        let mut parameters = Vec::new();
        let mut addresses = envelope.to().iter().chain(envelope.from());
        if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Ok(Ok(Outcome::Refused(None)));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let from = MailFrom::new(envelope.from().cloned(), parameters);
        if let Err(failure) = self.answer(connection.command(from)).await {
            return Ok(Err((Step::Sender, failure)));
        }
        for to in envelope.to() {
            let to = Rcpt::new(to.clone(), Vec::new());
            if let Err(failure) = self.answer(connection.command(to)).await {
                return Ok(Err((Step::Recipient, failure)));
            }
        }
        if let Err(failure) = self.answer(connection.command(Data)).await {
            return Ok(Err((Step::Announced, failure)));
        }
        if !self.store.letter_goes_out(letter.id, UnixSeconds::now()).await? {
            return Ok(Ok(Outcome::Elsewhere));
        }
        let is_at_end = AtomicBool::new(false);
        let text = message.formatted();
        // Asked for more text just before the end goes out.
        let end = std::iter::from_fn(|| {
            is_at_end.store(true, Ordering::Relaxed);
            None
        });
        match self.answer(connection.message_iter(std::iter::once(text).chain(end))).await {
            Ok(_) => Ok(Ok(Outcome::Sent)),
            Err(failure) if is_at_end.load(Ordering::Relaxed) => Ok(Err((Step::End, failure))),
            Err(failure) => Ok(Err((Step::Text, failure))),
        }
    }

    /// Connects, protects the way and logs in.
    async fn connect(&self) -> Result<AsyncSmtpConnection, DeliveryError> {
        let hello = ClientId::Domain(self.mail.sender.domain().to_owned());
        let tls = match &self.mail.security {
            Security::Tls(parameters) => Some(parameters.clone()),
            Security::None | Security::StartTls(_) => None,
        };
        let mut connected = None;
        for server in &self.mail.servers {
            let patience = Some(self.mail.patience);
            let connecting =
                AsyncSmtpConnection::connect_tokio1(server, patience, &hello, tls.clone(), None);
            if let Ok(connection) = self.answer(connecting).await {
                connected = Some(connection);
                break;
            }
        }
        let mut connection = connected.ok_or(DeliveryError::Unreachable)?;
        if let Security::StartTls(parameters) = &self.mail.security {
            let protecting = connection.starttls(parameters.clone(), &hello);
            self.answer(protecting).await.map_err(|_| DeliveryError::Unreachable)?;
        }
        if let Some(credentials) = &self.mail.credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let logging_in = connection.auth(&mechanisms, credentials);
            self.answer(logging_in).await.map_err(|failure| DeliveryError::Rejected(failure.0))?;
        }
        Ok(connection)
    }

    /// What the server says, if it says so in time.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.mail.patience, answer).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure(None)),
        }
    }
}
