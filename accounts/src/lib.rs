//! Accounts, their devices and their sessions: people, and no packets.
//!
//! [`Store`] keeps them, and what is personal in them sealed. What each column is, why it may be kept and for how long stands in `inventory.toml`.

pub mod accounts;
mod addresses;
mod data_keys;
pub mod devices;
pub mod email;
pub mod error;
pub mod inspect;
pub mod inventory;
mod personal;
pub mod pool;
mod printable;
pub mod reseal;
pub mod retention;
mod scrub;
pub mod sessions;
pub mod store;
mod times;

pub use accounts::{Account, AccountId, AccountSelector, Confirmation, SelectorError};
pub use devices::{Device, DeviceCredentials, DeviceName, NameError};
pub use email::{EmailAddress, EmailError};
pub use error::StoreError;
pub use inspect::Inspection;
pub use inventory::{Column, Inventory, inventory};
pub use pool::{PoolError, TunnelPool};
pub use reseal::Progress;
pub use retention::PastItsTime;
pub use sessions::Session;
pub use store::{Counts, DEFAULT_DEVICE_LIMIT, Store};
