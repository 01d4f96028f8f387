//! The host's network in network namespaces of the tests' own; they need root.

mod failures;
mod namespace;
mod packets;
mod raising;
