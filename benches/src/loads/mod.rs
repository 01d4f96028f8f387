//! What is sent through a server, and what came of it.

pub(crate) mod client;
pub(crate) mod initiations;
pub(crate) mod live;
pub(crate) mod packets;
pub(crate) mod tcp;
