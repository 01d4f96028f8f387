//! The door of the customer site: registering, logging in, and what takes the password again.
//!
//! Nobody can try often, and nobody learns from an answer or its time whether somebody else is a customer.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tacit_keys::{PresharedKey, PublicKey};
use tacit_messages::{UnixSeconds, clock::Instant};
use tokio::time::interval;

use crate::{
    AccountId, Cancelled, Confirmation, Device, DeviceName, EmailAddress, HashedPassword, Letter,
    Password, PasswordError, PasswordHasher, Store, StoreError, TunnelPool, allowance::Allowance,
    guesses::Guesses, throttle::Throttle,
};

/// Tries to say the password again, until who is in has to wait.
const TRIES_OF_A_VISITOR: u32 = 5;

/// Registrations until one has to wait: to an address, and from a network.
const REGISTRATIONS_TO_AN_ADDRESS: u32 = 3;
const REGISTRATIONS_FROM_A_NETWORK: u32 = 10;

/// Changes of address that an account may begin in a day: each looks whether somebody is a customer, and sends letters.
const CHANGES_OF_ADDRESS: u32 = 5;

/// Devices that an account may add in a day: nobody else gets the addresses of one that is removed for as long.
const ADDED_DEVICES: u32 = 20;

/// Between two looks at what is to be forgotten.
const FORGETTING_INTERVAL: Duration = Duration::from_secs(60);

/// Why the door stays shut. Says nothing about anybody.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No such customer, or another password.
    #[error("the e-mail address or the password is wrong")]
    Wrong,
    /// Too many tries.
    #[error("too many tries; wait {} s", .0.as_secs().max(1))]
    TooOften(Duration),
    /// It was done so often lately that it takes this long until it may be done again.
    #[error("this was done too often; wait {} s", .0.as_secs().max(1))]
    UsedUp(Duration),
    /// The password cannot be taken.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A customer who has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Whose account it is.
    pub account: AccountId,
    /// The visit goes on as long as [`Store::epoch`] says the same.
    pub epoch: i64,
}

/// Who may come in. It remembers who tried, in memory and for an hour at most, and for a day what accounts may do a few times
/// in a day.
#[derive(Debug)]
pub struct Door {
    hasher: PasswordHasher,
    guesses: Guesses,
    visitors: Throttle,
    registered_addresses: Throttle,
    registering_networks: Throttle,
    changes_of_address: Allowance,
    added_devices: Allowance,
}

impl Door {
    /// Opens the door. Call within a tokio runtime.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let door = Arc::new(Self {
            hasher: PasswordHasher::new(),
            guesses: Guesses::new(),
            visitors: Throttle::new(TRIES_OF_A_VISITOR),
            registered_addresses: Throttle::new(REGISTRATIONS_TO_AN_ADDRESS),
            registering_networks: Throttle::new(REGISTRATIONS_FROM_A_NETWORK),
            changes_of_address: Allowance::new(CHANGES_OF_ADDRESS),
            added_devices: Allowance::new(ADDED_DEVICES),
        });
        tokio::spawn(forget_old(Arc::downgrade(&door)));
        door
    }

    /// Who hashes passwords.
    #[must_use]
    pub const fn hasher(&self) -> &PasswordHasher {
        &self.hasher
    }

    /// Begins a registration and returns the letter to be sent: see [`Store::begin_registration`].
    ///
    /// # Errors
    /// [`DoorError::TooOften`], [`DoorError::Password`] if it is weak, [`DoorError::Store`]
    pub async fn register(
        &self,
        store: &Store,
        email: &EmailAddress,
        password: &Password,
        confirmation: Confirmation,
        from: IpAddr,
    ) -> Result<Letter, DoorError> {
        let now = Instant::now();
        self.registering_networks
            .take(network(from, store.tunnel_pool), now)
            .map_err(DoorError::TooOften)?;
        self.registered_addresses.take(person(email), now).map_err(DoorError::TooOften)?;
        password.check_strength(&[email.expose()])?;
        let hashed = self.hasher.hash(password).await?;
        let now = UnixSeconds::now();
        Ok(store.begin_registration(email, &hashed, confirmation, now).await?)
    }

    /// Lets a customer in.
    ///
    /// # Errors
    /// [`DoorError::Wrong`] after the same time whether or not there is such a customer; [`DoorError::TooOften`].
    pub async fn log_in(
        &self,
        store: &Store,
        email: &EmailAddress,
        password: &Password,
        from: IpAddr,
    ) -> Result<Visit, DoorError> {
        let (person, network, now) =
            (person(email), network(from, store.tunnel_pool), Instant::now());
        self.guesses.take(&person, network, now).map_err(DoorError::TooOften)?;
        let credentials = store.credentials(email).await?;
        let hashed = credentials.as_ref().and_then(|credentials| credentials.password.clone());
        let is_right = self.hasher.verify(password, hashed).await?;
        let Some(credentials) = credentials.filter(|_| is_right) else {
            self.guesses.wrong(&person, now);
            return Err(DoorError::Wrong);
        };
        self.guesses.right(&person, network);
        Ok(Visit { account: credentials.account, epoch: credentials.epoch })
    }

    /// Changes the password of who is in; all their other visits end.
    ///
    /// # Errors
    /// [`DoorError::Wrong`], [`DoorError::TooOften`], or [`DoorError::Password`] if the new one is weak.
    pub async fn change_password(
        &self,
        store: &Store,
        account: AccountId,
        present: &Password,
        new: &Password,
        known: &EmailAddress,
    ) -> Result<(Visit, Letter), DoorError> {
        self.check_again(store, account, present).await?;
        new.check_strength(&[known.expose()])?;
        let hashed = self.hasher.hash(new).await?;
        let (epoch, letter) = store.set_password(account, &hashed, UnixSeconds::now()).await?;
        Ok((Visit { account, epoch }, letter))
    }

    /// Begins a change of the e-mail address of who is in: see [`Store::begin_email_change`].
    ///
    /// # Errors
    /// [`DoorError::Wrong`], [`DoorError::TooOften`], [`DoorError::UsedUp`]
    pub async fn change_email(
        &self,
        store: &Store,
        account: AccountId,
        password: &Password,
        email: &EmailAddress,
    ) -> Result<Letter, DoorError> {
        self.check_again(store, account, password).await?;
        let now = Instant::now();
        self.registered_addresses.take(person(email), now).map_err(DoorError::TooOften)?;
        self.changes_of_address.take(account.0, now).map_err(DoorError::UsedUp)?;
        let begun = store.begin_email_change(account, email, UnixSeconds::now()).await;
        if begun.is_err() {
            self.changes_of_address.give_back(account.0);
        }
        Ok(begun?)
    }

    /// Adds a device of who is in: see [`Store::add_device`].
    ///
    /// # Errors
    /// [`DoorError::UsedUp`], [`DoorError::Store`]
    pub async fn add_device(
        &self,
        store: &Store,
        account: AccountId,
        name: &DeviceName,
        public_key: PublicKey,
        preshared_key: &PresharedKey,
    ) -> Result<Device, DoorError> {
        self.added_devices.take(account.0, Instant::now()).map_err(DoorError::UsedUp)?;
        let now = UnixSeconds::now();
        let added = store.add_device(account, name, public_key, preshared_key, now).await;
        if added.is_err() {
            self.added_devices.give_back(account.0);
        }
        Ok(added?)
    }

    /// Cancels the account of who is in.
    ///
    /// # Errors
    /// [`DoorError::Wrong`], [`DoorError::TooOften`]
    pub async fn cancel(
        &self,
        store: &Store,
        account: AccountId,
        password: &Password,
    ) -> Result<Cancelled, DoorError> {
        self.check_again(store, account, password).await?;
        Ok(store.cancel_account(account, UnixSeconds::now()).await?)
    }

    /// Checks the password of who is in already, before a step of weight.
    ///
    /// # Errors
    /// [`DoorError::Wrong`], [`DoorError::TooOften`]
    pub async fn check_again(
        &self,
        store: &Store,
        account: AccountId,
        password: &Password,
    ) -> Result<(), DoorError> {
        self.visitors.take(account.0, Instant::now()).map_err(DoorError::TooOften)?;
        let credentials = store.credentials_of(account).await?;
        let hashed: Option<HashedPassword> =
            credentials.and_then(|credentials| credentials.password);
        if !self.hasher.verify(password, hashed).await? {
            return Err(DoorError::Wrong);
        }
        self.visitors.forget(account.0);
        Ok(())
    }
}

/// Forgets who tried an hour ago, until the door is gone.
async fn forget_old(door: Weak<Door>) {
    let mut ticks = interval(FORGETTING_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(door) = door.upgrade() else { return };
        let now = Instant::now();
        for throttle in [&door.visitors, &door.registered_addresses, &door.registering_networks] {
            throttle.forget_old(now);
        }
        door.guesses.forget_old(now);
        door.changes_of_address.forget_old(now);
        door.added_devices.forget_old(now);
    }
}

/// Whom a try is counted to, whether or not they are a customer.
fn person(email: &EmailAddress) -> (&'static str, String) {
    ("address", email.expose().to_lowercase())
}

/// What one customer of a provider may have: a /24 of IPv4, a /56 of IPv6; inside the tunnel, an address.
pub(crate) fn network(from: IpAddr, tunnel: TunnelPool) -> (&'static str, u128) {
    match from.to_canonical() {
        IpAddr::V4(v4) if tunnel.v4().contains(&v4) => ("tunnel's IPv4", u32::from(v4).into()),
        IpAddr::V6(v6) if tunnel.v6().contains(&v6) => ("tunnel's IPv6", v6.into()),
        IpAddr::V4(v4) => ("IPv4", u128::from(u32::from(v4) >> 8)),
        IpAddr::V6(v6) => ("IPv6", u128::from(v6) >> 72),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_network() {
        let tunnel = ["10.66.0.0/16", "fd66:7ac1:7::/64"];
        let tunnel = TunnelPool::new(tunnel[0].parse().unwrap(), tunnel[1].parse().unwrap());
        let tunnel = tunnel.unwrap();
        let network = |text: &str| network(text.parse().unwrap(), tunnel);
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.9"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:ff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:100::1"));
        // In the tunnel everybody has addresses of their own.
        assert_ne!(network("10.66.0.2"), network("10.66.0.3"));
        assert_ne!(network("fd66:7ac1:7::2"), network("fd66:7ac1:7::3"));
    }
}
