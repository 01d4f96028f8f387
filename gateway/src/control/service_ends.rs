//! Ends the sessions of devices whose account's service is over. Their next handshake is refused by the look-up.

use std::{sync::Arc, time::Duration};

use tacit_messages::UnixSeconds;
use tokio::{task::JoinHandle, time::interval};

use super::Gateway;
use crate::log;

/// Between two looks: a session ends within a minute of its service.
const INTERVAL: Duration = Duration::from_secs(30);

/// Looks now and then.
pub(super) fn start(gateway: Arc<Gateway>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(INTERVAL);
        loop {
            ticks.tick().await;
            match gateway.store.devices_without_service(UnixSeconds::now()).await {
                Ok(devices) => {
                    for device in devices {
                        gateway.revoke(device).await;
                    }
                }
                Err(error) => log::service_ends_unknown(&error),
            }
        }
    })
}
