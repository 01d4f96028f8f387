//! Has letters sent while the gateway runs, and keeps track of the rules that they tell of.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tacit_accounts::{
    Store, StoreError,
    post::{DeliveryError, Mail, Postman},
};
use tacit_messages::UnixSeconds;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{interval, sleep, timeout},
};

use crate::log;

/// Between two looks for letters that are due.
const POLL: Duration = Duration::from_secs(10);

/// How long after a first failure the mail server is tried again; after each further one twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(10 * 60);

/// Between two looks at who has accepted rules by use, who must still be told, and who is late.
const RULES_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What is known of the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailState {
    /// None is named in the settings.
    Off,
    /// Nothing went wrong when it was last used.
    Works,
    /// It could not be used, since this time.
    Fails(UnixSeconds),
}

/// Whoever sends letters.
#[derive(Debug)]
pub(crate) struct Post {
    store: Store,
    mail: Option<Mail>,
    state: Mutex<MailState>,
    wake: Notify,
}

impl Post {
    /// Letters of `store` go out by `mail`, once [`Self::start`] is called.
    pub(crate) fn new(store: Store, mail: Option<Mail>) -> Arc<Self> {
        let state = if mail.is_some() { MailState::Works } else { MailState::Off };
        Arc::new(Self { store, mail, state: Mutex::new(state), wake: Notify::new() })
    }

    /// Sends what is due, and what will be.
    pub(crate) fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let rules = tokio::spawn(Arc::clone(self).watch_rules());
        let Some(mail) = self.mail.clone() else { return vec![rules] };
        let postman = Postman::new(self.store.clone(), mail);
        vec![rules, tokio::spawn(Arc::clone(self).carry(postman))]
    }

    /// How the mail server is.
    pub(crate) fn state(&self) -> MailState {
        *self.state.lock()
    }

    /// The least time from one letter to the next; `None` if letters cannot be sent.
    pub(crate) fn pace(&self) -> Option<Duration> {
        self.mail.as_ref().map(|mail| mail.pace)
    }

    /// Has the postman look for due letters now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    async fn carry(self: Arc<Self>, postman: Postman) {
        self.take_over().await;
        let mut wait = FIRST_RETRY;
        loop {
            match postman.deliver().await {
                Ok(round) => {
                    wait = FIRST_RETRY;
                    if *self.state.lock() != MailState::Works {
                        *self.state.lock() = MailState::Works;
                        log::mail_works_again();
                    }
                    if round.doubtful > 0 {
                        log::letters_in_doubt(round.doubtful);
                    }
                    let _ = timeout(POLL, self.wake.notified()).await;
                }
                Err(error) => {
                    self.note_failure(&error);
                    // An operator who asks for another try does not have to wait.
                    let _ = timeout(wait, self.wake.notified()).await;
                    wait = (wait * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Looks after what a killed predecessor had under way: the data directory is this gateway's alone.
    async fn take_over(&self) {
        match self.store.take_over_letters(UnixSeconds::now()).await {
            Ok(0) => {}
            Ok(doubtful) => log::letters_in_doubt(doubtful),
            Err(error) => self.note_failure(&error.into()),
        }
    }

    fn note_failure(&self, error: &DeliveryError) {
        let mut state = self.state.lock();
        if !matches!(*state, MailState::Fails(_)) {
            *state = MailState::Fails(UnixSeconds::now());
            log::mail_failing(error);
        }
    }

    async fn watch_rules(self: Arc<Self>) {
        let mut hours = interval(RULES_INTERVAL);
        loop {
            hours.tick().await;
            if let Err(error) = self.look_after_rules().await {
                log::rules_not_looked_after(&error);
                sleep(FIRST_RETRY).await;
            }
        }
    }

    async fn look_after_rules(&self) -> Result<(), StoreError> {
        let now = UnixSeconds::now();
        self.store.record_acceptances(now).await?;
        if self.store.queue_missing_letters(now).await? > 0 {
            self.wake();
        }
        let late = self.store.letter_progress(now).await?.iter().map(|version| version.late).sum();
        if late > 0 {
            log::customers_told_late(late);
        }
        Ok(())
    }
}
