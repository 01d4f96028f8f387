//! One gateway at a time changes a network namespace.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

/// A name in the abstract socket namespace, of which each network namespace has its own.
const NAME: &[u8] = b"tacit-host-network";
const POLL: Duration = Duration::from_millis(10);
const POLLS: u32 = 30;

/// This gateway's turn to change the network namespace; dropping it ends the turn.
pub(super) struct Turn {
    _name: Option<UnixListener>,
}

impl Turn {
    /// Waits until no other gateway is changing the network namespace, but not for long: somebody could hold the
    /// name for ever, and the turn only makes two gateways that start and stop in the same moment see each other.
    pub(super) async fn wait() -> Self {
        for _ in 0..POLLS {
            let bound = SocketAddr::from_abstract_name(NAME)
                .and_then(|address| UnixListener::bind_addr(&address));
            if let Ok(listener) = bound {
                return Self { _name: Some(listener) };
            }
            tokio::time::sleep(POLL).await;
        }
        Self { _name: None }
    }
}
