//! Deletes what the kernel knows of devices' connections once they are gone: it names destinations.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tacit_accounts::Store;
use tacit_messages::{DeviceId, clock::Instant};
use tokio::{
    task::JoinHandle,
    time::{interval, sleep},
};

use super::departures::Departures;
use crate::host;

/// Between two looks at who is gone.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a packet that was on its way when its device was revoked may take to be gone.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// Deletes the kernel's connection-tracking entries of devices whose session is over.
///
/// A device that was removed elsewhere has no addresses in the store any more, so they are noted while it is here.
pub(super) fn start(store: Store, departures: Arc<Mutex<Departures>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(INTERVAL);
        let mut noted = HashMap::new();
        loop {
            ticks.tick().await;
            let staying = departures.lock().staying();
            note_addresses(&store, &mut noted, staying).await;
            let gone = departures.lock().take_gone(Instant::now());
            if forget(&store, &noted, &gone).await.is_ok() {
                noted.retain(|device, _| !gone.contains(device));
            } else {
                departures.lock().still_leaving(gone, Instant::now());
            }
        }
    })
}

/// Deletes the connection-tracking entries of a revoked device now, and once more when nothing is on its way.
pub(crate) async fn forget_now(v4: Ipv4Addr, v6: Ipv6Addr) {
    let _ = host::conntrack::forget(vec![(v4, v6)]).await;
    tokio::spawn(async move {
        loop {
            sleep(ON_ITS_WAY).await;
            if host::conntrack::forget(vec![(v4, v6)]).await.is_ok() {
                return;
            }
        }
    });
}

/// Notes the addresses of those of `devices` of which they are not known yet.
async fn note_addresses(
    store: &Store,
    noted: &mut HashMap<DeviceId, (Ipv4Addr, Ipv6Addr)>,
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

/// Deletes the entries of `devices`; after an error some may be left.
pub(super) async fn forget(
    store: &Store,
    noted: &HashMap<DeviceId, (Ipv4Addr, Ipv6Addr)>,
    devices: &[DeviceId],
) -> anyhow::Result<()> {
    let mut addresses = Vec::new();
    for device in devices {
        match noted.get(device) {
            Some(noted) => addresses.push(*noted),
            None => addresses.extend(store.tunnel_addresses(*device).await?),
        }
    }
    if !addresses.is_empty() {
        host::conntrack::forget(addresses).await?;
    }
    Ok(())
}
