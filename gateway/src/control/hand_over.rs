//! Hands devices over to other gateways with the same key while this one is drained, and takes those of others over.
//!
//! The forwarder tells by which random number it knows each device's packets. The others expect them by it, and shake
//! hands with a device as soon as routes lead it to them, instead of leaving it to notice after 15 s of silence. What
//! gets lost on the way does no more harm than that: a device is told of again in two minutes, or finds out itself.

use std::{sync::Arc, time::Duration};

use tacit_accounts::{HandOver, MovingDevice, Store, StoreError, hand_over::MOST_AT_ONCE};
use tacit_keys::PublicKey;
use tacit_messages::{ToForwarder, UnixSeconds, clock::Instant};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::Gateway;

/// How many devices can wait to be handed over.
const DEVICES: usize = 1 << 16;

/// How many notifications with devices of other gateways can wait.
const HAND_OVERS: usize = 1024;

/// How long devices gather that are handed over together.
const GATHER: Duration = Duration::from_millis(50);

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A device that is to be handed over, and when the forwarder told of it.
pub(super) type Told = (MovingDevice, Instant);

/// Begins to hand devices over to the other gateways whose key is `fleet_key`; it ends when the sender is dropped.
pub(super) fn start_giving(store: Store, fleet_key: PublicKey) -> mpsc::Sender<Told> {
    let (sender, mut moving) = mpsc::channel::<Told>(DEVICES);
    tokio::spawn(async move {
        while let Some(first) = moving.recv().await {
            sleep(GATHER).await;
            let mut told = vec![first];
            while told.len() < MOST_AT_ONCE
                && let Ok(next) = moving.try_recv()
            {
                told.push(next);
            }
            let now = Instant::now();
            let devices: Vec<MovingDevice> = told
                .into_iter()
                .filter_map(|(device, at)| device.later(now.since(at).as_secs()))
                .collect();
            let given = store.hand_over(fleet_key, &devices, UnixSeconds::now());
            let _ = timeout(PATIENCE, given).await;
        }
    });
    sender
}

/// Begins to take devices over; it ends when the sender is dropped.
pub(super) fn start_taking(gateway: Arc<Gateway>) -> mpsc::Sender<HandOver> {
    let (sender, mut hand_overs) = mpsc::channel(HAND_OVERS);
    tokio::spawn(async move {
        while let Some(hand_over) = hand_overs.recv().await {
            let _ = timeout(PATIENCE, take(&gateway, &hand_over)).await;
        }
    });
    sender
}

async fn take(gateway: &Gateway, hand_over: &HandOver) -> Result<(), StoreError> {
    let now = UnixSeconds::now();
    let devices = gateway.store.open_hand_over(hand_over, gateway.public_key, now);
    let keys = gateway.store.welcome_keys(&devices, now).await?;
    for MovingDevice { device, receiver_index, silent_seconds } in devices {
        if let Some(key) = keys.get(&device) {
            let public_key = *key.as_bytes();
            let expect = ToForwarder::Expect { public_key, receiver_index, silent_seconds };
            gateway.outbox.expect(&expect).await;
        }
    }
    Ok(())
}
