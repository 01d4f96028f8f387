//! Sees what was changed elsewhere, at another gateway or by another program: a device that was removed or got another
//! key, which it cuts, and whether this gateway is to be left by its clients. Passes on what others hand over to it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tacit_accounts::StoreError;
use tacit_messages::{UnixSeconds, clock::Instant};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Gateway, hand_over, store_state::Use};
use crate::log;

/// Between two looks where no server tells of changes, and a look all the same where one does.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long before routes may move other gateways are told whom to expect.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long the store may take for a look.
const PATIENCE: Duration = Duration::from_secs(3);

/// Begins to look.
pub(super) fn start(gateway: Arc<Gateway>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut watch = gateway.store.watch_devices();
        let taking = hand_over::start_taking(Arc::clone(&gateway));
        let mut seen = None;
        loop {
            match timeout(PATIENCE, look(&gateway, &mut seen)).await {
                Ok(Ok(())) => gateway.store_state.answered(Use::Reading),
                Ok(Err(error)) => drop(gateway.store_state.failed(Use::Reading, &error)),
                Err(_) => gateway.store_state.hangs(Use::Reading),
            }
            let looked = Instant::now();
            while let Some(devices) = watch.wait(INTERVAL).await {
                // Without a place they are handed over again, or come by themselves.
                let _ = taking.try_send(devices);
                if Instant::now().since(looked) >= INTERVAL {
                    break;
                }
            }
        }
    })
}

/// Notes whether the gateway is drained, for the forwarder to tell whom others are to expect, and revokes the devices that
/// may not be connected any more, if any device was changed since the change numbered `seen`.
async fn look(gateway: &Gateway, seen: &mut Option<i64>) -> Result<(), StoreError> {
    let is_draining = gateway.store.is_draining().await?;
    if is_draining && gateway.hands_over() {
        gateway.outbox.leave().await;
        if !gateway.is_draining.load(Ordering::Relaxed) {
            sleep(HEAD_START).await;
        }
    }
    if gateway.is_draining.swap(is_draining, Ordering::Relaxed) != is_draining {
        log::draining(is_draining);
    }
    let number = gateway.store.device_changes().await?;
    if *seen == Some(number) {
        return Ok(());
    }
    let devices = gateway.devices_with_connections();
    for device in gateway.store.unwelcome(&devices, UnixSeconds::now()).await? {
        gateway.revoke(device).await;
    }
    *seen = Some(number);
    Ok(())
}
