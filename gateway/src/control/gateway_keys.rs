//! The gateway's own keys while it runs: a new one, and the former while customers change their configs.
//!
//! A client knows its gateway by one key. So that none is cut off by a change, the forwarder answers both until the former
//! is retired.

use std::{path::PathBuf, time::Duration};

use parking_lot::RwLock;
use tacit_keys::{GatewayKeyError, GatewayKeys as Keys, PrivateKey, PublicKey};
use tacit_messages::{SecretKey, ToForwarder, clock::Instant};
use tokio::sync::{Mutex, Notify};

use super::outbox::Outbox;

/// How long after a change the forwarder's count of sessions may be from before.
const COUNT_DELAY: Duration = Duration::from_secs(3);

/// How long clients of a forwarder that ended may take to come back (REJECT_AFTER_TIME, WireGuard paper section 6.2).
const COMING_BACK: Duration = Duration::from_secs(180);

/// Why the gateway's key was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayKeysError {
    /// Several gateways have it.
    #[error(
        "the fleet key {} is several gateways'; change the file on each as deploy/README.md says, and start them again one after \
         the other", .0.display()
    )]
    Shared(PathBuf),
    /// Two are answered at most.
    #[error("the former key is answered still; retire it first with `tacit key retire`")]
    UnderWay,
    /// There is but one.
    #[error("the gateway has no former key; there is nothing to retire")]
    NoFormer,
    /// Somebody would be cut off.
    #[error(
        "{0} sessions use the former key and would be cut off; have their customers put the new one into their configs, or cut them \
         off with --force"
    )]
    InUse(u64),
    /// Somebody who uses it may not be back since the forwarder started.
    #[error(
        "clients have {0} s left to come back since the forwarder started, and some may use the former key; wait for that, or cut \
         them off with --force"
    )]
    TooSoon(u64),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] GatewayKeyError),
}

/// The keys, and where they are kept.
#[derive(Debug)]
pub(crate) struct GatewayKeys {
    keys: RwLock<Keys>,
    path: PathBuf,
    is_shared: bool,
    /// Who changes them, or tells the forwarder of them.
    turn: Mutex<()>,
    /// When a forwarder was last told of all of them.
    told: RwLock<Option<Instant>>,
    /// When they last changed.
    changed: RwLock<Option<Instant>>,
    change: Notify,
}

impl GatewayKeys {
    /// Takes the keys in `path`, which others have too if it `is_shared`.
    pub(crate) fn new(keys: Keys, path: PathBuf, is_shared: bool) -> Self {
        Self {
            keys: RwLock::new(keys),
            path,
            is_shared,
            turn: Mutex::default(),
            told: RwLock::default(),
            changed: RwLock::default(),
            change: Notify::new(),
        }
    }

    /// Waits for the next change, or is done if there was one since this was last waited for.
    pub(crate) async fn changed(&self) {
        self.change.notified().await;
    }

    /// Of `sessions` how many use the former key, if the forwarder last counted `counted`: all may, just after a change.
    pub(crate) fn former_sessions(&self, sessions: u64, counted: u64) -> u64 {
        let is_new = |at: Instant| Instant::now().since(at) < COUNT_DELAY;
        match self.former() {
            None => 0,
            Some(_) if self.changed.read().is_some_and(is_new) => sessions,
            Some(_) => counted,
        }
    }

    /// The key in client configs.
    pub(crate) fn public_key(&self) -> PublicKey {
        self.keys.read().current().public_key()
    }

    /// The key that was in them before and is answered still.
    pub(crate) fn former(&self) -> Option<PublicKey> {
        self.keys.read().former().map(PrivateKey::public_key)
    }

    /// The key that a forwarder starts with; [`Self::tell`] tells it of what comes after.
    pub(crate) fn first(&self) -> PrivateKey {
        let keys = self.keys.read();
        keys.former().unwrap_or_else(|| keys.current()).clone()
    }

    /// Tells the forwarder of all keys that are answered, whichever it started with.
    pub(crate) async fn tell(&self, outbox: &Outbox) {
        let _turn = self.turn.lock().await;
        let (current, former) = {
            let keys = self.keys.read();
            (identity(keys.current()), keys.former().map(identity))
        };
        // One that it knows changes nothing.
        if let Some(former) = &former {
            outbox.tell(former).await;
        }
        outbox.tell(&current).await;
        if former.is_none() {
            outbox.tell(&ToForwarder::Retire).await;
        }
        *self.told.write() = Some(Instant::now());
    }

    /// Makes a new key; the one before is answered too from here on.
    ///
    /// # Errors
    /// [`GatewayKeysError`]; then nothing has changed.
    pub(crate) async fn rotate(&self, outbox: &Outbox) -> Result<(), GatewayKeysError> {
        let _turn = self.turn.lock().await;
        if self.is_shared {
            return Err(GatewayKeysError::Shared(self.path.clone()));
        }
        if self.former().is_some() {
            return Err(GatewayKeysError::UnderWay);
        }
        let keys = self.keys.read().with_new();
        keys.save(&self.path)?;
        let current = identity(keys.current());
        self.put(keys);
        outbox.tell(&current).await;
        Ok(())
    }

    fn put(&self, keys: Keys) {
        *self.keys.write() = keys;
        *self.changed.write() = Some(Instant::now());
        self.change.notify_one();
    }

    /// Answers the former key no longer, which `sessions` use now; if there are such, only if it `is_forced`.
    ///
    /// # Errors
    /// [`GatewayKeysError`]; then nothing has changed.
    pub(crate) async fn retire(
        &self,
        outbox: &Outbox,
        sessions: u64,
        is_forced: bool,
    ) -> Result<(), GatewayKeysError> {
        let _turn = self.turn.lock().await;
        if self.is_shared {
            return Err(GatewayKeysError::Shared(self.path.clone()));
        }
        if self.former().is_none() {
            return Err(GatewayKeysError::NoFormer);
        }
        if !is_forced {
            let told = self.told.read().map(|told| Instant::now().since(told));
            check_unused(sessions, told.unwrap_or_default())?;
        }
        let keys = self.keys.read().without_former();
        keys.save(&self.path)?;
        self.put(keys);
        outbox.tell(&ToForwarder::Retire).await;
        Ok(())
    }
}

/// Checks that nobody uses the former key, `since_start` of the forwarder.
fn check_unused(sessions: u64, since_start: Duration) -> Result<(), GatewayKeysError> {
    if sessions > 0 {
        return Err(GatewayKeysError::InUse(sessions));
    }
    match COMING_BACK.saturating_sub(since_start) {
        Duration::ZERO => Ok(()),
        left => Err(GatewayKeysError::TooSoon(left.as_secs() + 1)),
    }
}

fn identity(key: &PrivateKey) -> ToForwarder {
    ToForwarder::Identity { private_key: SecretKey::new(*key.expose()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_key_is_unused_once_all_clients_had_time_to_come_back_and_none_has_it() {
        let seconds = Duration::from_secs;
        assert!(matches!(check_unused(1, seconds(1_000)), Err(GatewayKeysError::InUse(1))));
        assert!(matches!(check_unused(0, seconds(170)), Err(GatewayKeysError::TooSoon(11))));
        assert!(check_unused(0, COMING_BACK).is_ok());
    }

    #[test]
    fn all_sessions_may_use_the_former_key_until_they_are_counted_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let keys = GatewayKeys::new(Keys::load_or_create(&path).unwrap(), path, false);
        assert_eq!(keys.former_sessions(7, 0), 0);
        let both = keys.keys.read().with_new();
        keys.put(both);
        assert_eq!(keys.former_sessions(7, 0), 7);
        *keys.changed.write() = Some(Instant::now().minus(COUNT_DELAY));
        assert_eq!(keys.former_sessions(7, 2), 2);
    }
}
