//! WireGuard keys, the gateway's key file, and client configs as text and as QR codes.

pub mod client_config;
pub mod gateway_key;
pub mod key;
mod key_file;
pub mod private_file;
#[cfg(feature = "qr")]
pub mod qr;

pub use client_config::ClientConfig;
pub use gateway_key::GatewayKeyError;
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
#[cfg(feature = "qr")]
pub use qr::QrError;
