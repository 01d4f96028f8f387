//! Hands devices over to other gateways with the same key while this one is drained, and takes those of others over.
//!
//! The forwarder tells by which random number it knows each device's packets. The others expect them by it, and shake
//! hands with a device as soon as routes lead it to them, instead of leaving it to notice after 15 s of silence. What
//! gets lost on the way does no more harm than that: a device is told of again in two minutes, or finds out itself.

use std::{sync::Arc, time::Duration};

use tacit_accounts::{HandOver, MovingDevice, Store, StoreError, hand_over::MOST_AT_ONCE};
use tacit_messages::{ToForwarder, UnixSeconds, clock::Instant};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Gateway, gateway_keys::GatewayKeys};

/// How many devices can wait to be handed over.
const DEVICES: usize = 1 << 16;

/// How many notifications with devices of other gateways can wait.
const HAND_OVERS: usize = 1024;

/// How long devices gather that are handed over together.
const GATHER: Duration = Duration::from_millis(50);

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A device that is to be handed over.
#[derive(Debug)]
pub(super) struct Told {
    /// The device.
    pub(super) device: MovingDevice,
    /// Whether it uses the gateway's former key.
    pub(super) by_former_key: bool,
    /// When the forwarder told of it.
    pub(super) at: Instant,
}

/// Begins to hand devices over to the other gateways with the key that each uses; it ends when the sender is dropped.
pub(super) fn start_giving(store: Store, keys: Arc<GatewayKeys>) -> mpsc::Sender<Told> {
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
            for (key, is_former) in [(Some(keys.public_key()), false), (keys.former(), true)] {
                let devices = devices_by(&told, is_former, Instant::now());
                if let Some(key) = key.filter(|_| !devices.is_empty()) {
                    let given = store.hand_over(key, &devices, UnixSeconds::now());
                    let _ = timeout(PATIENCE, given).await;
                }
            }
        }
    });
    sender
}

/// Those that use one of the gateway's keys, as they are at `now`.
fn devices_by(told: &[Told], by_former_key: bool, now: Instant) -> Vec<MovingDevice> {
    let told = told.iter().filter(|told| told.by_former_key == by_former_key);
    told.filter_map(|told| told.device.later(now.since(told.at).as_secs())).collect()
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
    // What is the others' former key may be this one's current: they are changed one gateway after the other.
    let keys = [(Some(gateway.keys.public_key()), false), (gateway.keys.former(), true)];
    for (key, by_former_key) in keys {
        let Some(key) = key else { continue };
        let devices = gateway.store.open_hand_over(hand_over, key, now);
        let public_keys = gateway.store.welcome_keys(&devices, now).await?;
        for MovingDevice { device, receiver_index, silent_seconds } in devices {
            if let Some(public_key) = public_keys.get(&device).map(|key| *key.as_bytes()) {
                let expect = ToForwarder::Expect {
                    public_key,
                    receiver_index,
                    silent_seconds,
                    by_former_key,
                };
                gateway.outbox.tell(&expect).await;
            }
        }
    }
    Ok(())
}
