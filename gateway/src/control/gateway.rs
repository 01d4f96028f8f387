//! The gateway, as the parts of control and the requests at the admin socket know it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::{Mutex, RwLock};
use tacit_accounts::{
    Deed, Door, RemovedDevice, Store, StoreError, TunnelPool,
    site::{Audited, Errors},
};
use tacit_messages::{DeviceId, UnixSeconds};

use super::{
    departures::Departures,
    forwarder_state::ForwarderState,
    gateway_keys::{GatewayKeys, GatewayKeysError},
    key_rotation::KeyRotation,
    outbox::Outbox,
    post::Post,
    revoked::{Addresses, Revoked},
    service_manager::ServiceManager,
    store_state::StoreState,
};
use crate::{
    admin::caller::{Caller, Roles},
    config::LiveSettings,
};

/// What requests at the admin socket work with.
pub(crate) struct Gateway {
    /// The settings in force.
    pub(crate) settings: Arc<LiveSettings>,
    /// The tunnel networks.
    pub(crate) networks: TunnelPool,
    /// The gateway's WireGuard keys.
    pub(crate) keys: Arc<GatewayKeys>,
    /// Accounts, devices and sessions.
    pub(crate) store: Store,
    /// Whether the store can be reached.
    pub(crate) store_state: Arc<StoreState>,
    /// What the gateway is called in the store.
    pub(crate) name: String,
    /// What `status` says of the forwarder.
    pub(crate) forwarder: Arc<ForwarderState>,
    /// The starter's process number.
    pub(crate) starter_pid: u32,
    /// Who changes the data key.
    pub(crate) key_rotation: Arc<KeyRotation>,
    /// Who lets customers in, and hashes passwords.
    pub(crate) door: Arc<Door>,
    /// Which groups may do what at the admin socket.
    pub(crate) roles: Roles,
    /// Who sends letters.
    pub(crate) post: Arc<Post>,
    /// How many requests at the site failed.
    pub(crate) site_errors: Arc<Errors>,
    /// What came of the last audit: of these processes, so it goes with them.
    pub(crate) last_audit: Mutex<Option<Audited>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) departures: Arc<Mutex<Departures>>,
    /// Revoked devices of which the kernel may know connections.
    pub(crate) revoked: Arc<Revoked>,
    /// The settings file, as it was when all of it came into force.
    pub(crate) config: RwLock<ConfigFile>,
    /// Where metrics are.
    pub(crate) metrics: Option<SocketAddr>,
    /// What the firewall table was once it was set up.
    pub(crate) firewall: Option<String>,
    /// Whether its clients are to leave it.
    pub(crate) is_draining: AtomicBool,
    /// Who started the gateway.
    pub(super) service_manager: ServiceManager,
}

/// A settings file, and its hash if it exists.
pub(super) type ConfigFile = (PathBuf, Option<String>);

impl Gateway {
    /// Has the forwarder drop a device that the store no longer has; returns once that is said.
    pub(crate) async fn revoke(&self, device: DeviceId) {
        self.outbox.revoke(device).await;
    }

    /// Disconnects devices that went with their account, and deletes what the kernel knows of their connections.
    pub(crate) async fn disconnect(&self, devices: &[RemovedDevice]) {
        for device in devices {
            self.revoke(device.id).await;
        }
        let addresses = |device: &RemovedDevice| (device.tunnel_v4, device.tunnel_v6);
        self.forget_connections(&devices.iter().map(addresses).collect::<Vec<_>>()).await;
    }

    /// Has what the kernel knows of revoked devices' connections deleted, within a second.
    pub(crate) async fn forget_connections(&self, devices: &[Addresses]) {
        self.revoked.forget(devices).await;
    }

    /// Writes to the staff log that the caller is going to be shown data.
    pub(crate) async fn note_look(&self, caller: &Caller, deed: Deed) -> Result<(), StoreError> {
        self.store.for_staff(caller.uid).note_look(deed, UnixSeconds::now()).await
    }

    /// Makes a new key of the gateway's; the former is answered too until it is retired.
    pub(crate) async fn rotate_key(&self) -> Result<(), GatewayKeysError> {
        self.keys.rotate(&self.outbox).await
    }

    /// Answers the gateway's former key no longer.
    pub(crate) async fn retire_key(&self, is_forced: bool) -> Result<(), GatewayKeysError> {
        self.keys.retire(&self.outbox, self.former_key_sessions(), is_forced).await
    }

    /// How many sessions may use the gateway's former key now.
    pub(crate) fn former_key_sessions(&self) -> u64 {
        self.keys.former_sessions(self.forwarder.sessions(), self.forwarder.former_key_sessions())
    }

    /// Whether devices can be handed over to other gateways: those with the same key, which the store's server tells.
    pub(super) fn hands_over(&self) -> bool {
        self.settings.now().fleet_key.is_some() && self.store.hands_over()
    }

    /// The devices that have a session, or lately had one: the kernel may know connections of theirs.
    pub(crate) fn devices_with_connections(&self) -> Vec<DeviceId> {
        self.departures.lock().staying()
    }
}
