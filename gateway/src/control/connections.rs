//! Deletes what the kernel knows of devices' connections once they are gone: it names destinations.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tacit_accounts::Store;
use tacit_messages::{DeviceId, clock::Instant};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    departures::Departures,
    revoked::{Addresses, Revoked},
};
use crate::host;

/// Between two looks at who is gone, and between two times at which the kernel is asked for all its entries.
const INTERVAL: Duration = Duration::from_secs(1);

/// Deletes the kernel's connection-tracking entries of devices whose session is over, or that are revoked.
///
/// A device that was removed elsewhere has no addresses in the store any more, so they are noted while it is here.
pub(super) fn start(
    store: Store,
    departures: Arc<Mutex<Departures>>,
    revoked: Arc<Revoked>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut noted = HashMap::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = revoked.came() => {}
            }
            let staying = departures.lock().staying();
            note_addresses(&store, &mut noted, staying).await;
            let now = Instant::now();
            let (gone, due) = (departures.lock().take_gone(now), revoked.take_due(now));
            let has_asked = !gone.is_empty() || !due.is_empty();
            if forget(&store, &noted, &gone, due.clone()).await.is_ok() {
                noted.retain(|device, _| !gone.contains(device));
            } else {
                departures.lock().still_leaving(gone, Instant::now());
                revoked.put_back(due, Instant::now());
            }
            revoked.are_gone();
            if has_asked {
                sleep(INTERVAL).await;
            }
        }
    })
}

/// Notes the addresses of those of `devices` of which they are not known yet.
async fn note_addresses(
    store: &Store,
    noted: &mut HashMap<DeviceId, Addresses>,
    devices: Vec<DeviceId>,
) {
    for device in devices {
        if noted.contains_key(&device) {
            continue;
        }
        match store.tunnel_addresses(device).await {
            Ok(addresses) => noted.extend(addresses.map(|addresses| (device, addresses))),
            Err(_) => return,
        }
    }
}

/// Deletes the entries of `devices` and of `addresses`; after an error some may be left.
pub(super) async fn forget(
    store: &Store,
    noted: &HashMap<DeviceId, Addresses>,
    devices: &[DeviceId],
    mut addresses: Vec<Addresses>,
) -> anyhow::Result<()> {
    let mut not_found = None;
    for device in devices {
        match noted.get(device) {
            Some(noted) => addresses.push(*noted),
            None => match store.tunnel_addresses(*device).await {
                Ok(found) => addresses.extend(found),
                // Those of others go meanwhile.
                Err(error) => not_found = Some(error),
            },
        }
    }
    if !addresses.is_empty() {
        host::conntrack::forget(addresses).await?;
    }
    not_found.map_or(Ok(()), |error| Err(error.into()))
}
