//! Where devices connect to this gateway, and how the sites of others that share its store learn of it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tacit_accounts::{Entrance, StoreError};
use tokio::{task::JoinHandle, time::sleep};

use super::Gateway;
use crate::endpoint;

/// Between two looks whether the address of this host is another.
const INTERVAL: Duration = Duration::from_secs(30);

/// What a device's config says of this gateway; `None` while it has no address that devices could reach.
pub(super) async fn of(gateway: &Gateway) -> Option<Entrance> {
    let settings = gateway.settings.now();
    let named = settings.endpoint.as_ref();
    let (endpoint, _) = endpoint::resolve(named, &settings.listen, &settings.interface).await?;
    Some(Entrance {
        region: settings.region.clone(),
        public_key: gateway.keys.public_key(),
        endpoint,
        dns: settings.dns.clone(),
        mtu: settings.mtu,
    })
}

/// Says in the store where devices connect, unless the gateway is drained, and again whenever that changes. What cannot be written now is tried again
/// later; that the store is away others find out and tell.
pub(super) fn announce(gateway: Arc<Gateway>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut announced = None;
        loop {
            let is_draining = gateway.is_draining.load(Ordering::Relaxed);
            let entrance = of(&gateway).await.filter(|_| !is_draining);
            if announced.as_ref() != Some(&entrance)
                && write(&gateway, entrance.as_ref()).await.is_ok()
            {
                announced = Some(entrance);
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = gateway.keys.changed() => {}
            }
        }
    })
}

async fn write(gateway: &Gateway, entrance: Option<&Entrance>) -> Result<(), StoreError> {
    match entrance {
        Some(entrance) => gateway.store.announce_entrance(entrance).await,
        None => gateway.store.withdraw_entrance().await,
    }
}
