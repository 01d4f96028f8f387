//! The gateway's own keys while it runs: a new one, and the former while customers change their configs.
//!
//! A client knows its gateway by one key. So that none is cut off by a change, the forwarder answers both until the former
//! is retired.

use std::path::PathBuf;

use parking_lot::RwLock;
use tacit_keys::{GatewayKeyError, GatewayKeys as Keys, PrivateKey, PublicKey};
use tacit_messages::{SecretKey, ToForwarder};
use tokio::sync::Mutex;

use super::outbox::Outbox;

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
}

impl GatewayKeys {
    /// Takes the keys in `path`, which others have too if it `is_shared`.
    pub(crate) fn new(keys: Keys, path: PathBuf, is_shared: bool) -> Self {
        Self { keys: RwLock::new(keys), path, is_shared, turn: Mutex::default() }
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
        let (current, has_former) = {
            let keys = self.keys.read();
            (identity(keys.current()), keys.former().is_some())
        };
        outbox.tell(&current).await;
        if !has_former {
            outbox.tell(&ToForwarder::Retire).await;
        }
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
        *self.keys.write() = keys;
        outbox.tell(&current).await;
        Ok(())
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
        if sessions > 0 && !is_forced {
            return Err(GatewayKeysError::InUse(sessions));
        }
        let keys = self.keys.read().without_former();
        keys.save(&self.path)?;
        *self.keys.write() = keys;
        outbox.tell(&ToForwarder::Retire).await;
        Ok(())
    }
}

fn identity(key: &PrivateKey) -> ToForwarder {
    ToForwarder::Identity { private_key: SecretKey::new(*key.expose()) }
}
