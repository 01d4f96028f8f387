//! The lab of the end-to-end tests: namespaces, targets, clients and the gateway under test.
//!
//! Everything happens in namespaces that vanish with the process that made them. [`Lab`] has the map.

pub mod axe;
pub mod browser;
pub mod client;
pub mod clock;
pub mod config;
pub mod dns;
pub mod docker;
pub mod gateway;
pub mod lab;
pub mod mail_server;
pub mod memory;
pub mod namespace;
pub mod noise;
pub mod packet;
pub mod pattern;
pub mod ping;
pub mod postgres;
pub mod raw_client;
pub mod refusal;
pub mod target;
pub mod transfer;
pub mod visitor;

pub use client::{Client, Implementation};
pub use docker::Docker;
pub use gateway::Gateway;
pub use lab::Lab;
pub use mail_server::MailServer;
pub use namespace::Namespace;
pub use raw_client::RawClient;
pub use visitor::Visitor;
