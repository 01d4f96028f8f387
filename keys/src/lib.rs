//! WireGuard keys, the gateway's key file, the data key that seals the store, and client configs as text and as QR codes.

pub mod client_config;
pub mod data_key;
pub mod data_keys;
mod gateway_key;
pub mod key;
mod key_file;
pub mod private_file;
#[cfg(feature = "qr")]
pub mod qr;

pub use client_config::ClientConfig;
pub use data_key::{DataKey, KeyId};
pub use data_keys::{DataKeyError, DataKeys};
pub use gateway_key::{GatewayKeyError, GatewayKeys};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
#[cfg(feature = "qr")]
pub use qr::QrError;
