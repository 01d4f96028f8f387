//! What the gateway does for each request.

use std::sync::Arc;

use tacit_accounts::{
    Account as StoredAccount, AccountSelector, Confirmation as StoredConfirmation, Counts,
    DataKind, Deed, Device as StoredDevice, DeviceName, EmailAddress, Session as StoredSession,
    Store, StoreError,
};
use tacit_keys::{PresharedKey, PublicKey};
use tacit_messages::UnixSeconds;

use super::{
    Account, AccountWithDevices, AddAccount, AddDevice, Confirmation, ControlStatus, Device,
    DeviceWithConfig, ListAccounts, ListDevices, ListSessions, PresharedKeyText, Purge, Purged,
    RemoveDevice, Retention, RotateDevice, Session, ShowAccount, ShowRetention, ShowStatus,
    StarterStatus, Status, StoreStatus,
    people::find_number,
    server::{Answer, Caller, Refused},
};
use crate::{
    control::{
        Gateway,
        retention::{self, DAY},
        store_state::Use,
    },
    endpoint,
    endpoint::EndpointOrigin,
    log, program,
};

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::request(error)
    }
}

impl Answer for ShowStatus {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<Status, Refused> {
        let counts = if self.without_counts { None } else { counts(&gateway).await? };
        let settings = gateway.settings.now();
        let endpoint = gateway_endpoint(&gateway).await.map(|(endpoint, _)| endpoint);
        Ok(Status {
            version: program::VERSION.into(),
            commit: program::COMMIT.into(),
            interface: settings.interface.clone(),
            public_key: gateway.keys.public_key(),
            listen: settings.listen.clone(),
            endpoint,
            tunnel_v4: gateway.networks.v4(),
            tunnel_v6: gateway.networks.v6(),
            sessions: gateway.forwarder.sessions(),
            devices_registered: counts.map(|counts| counts.devices),
            accounts: counts.map(|counts| counts.accounts),
            store: store_status(&gateway),
            forwarder: gateway.forwarder.status(),
            control: ControlStatus { pid: std::process::id() },
            starter: StarterStatus { pid: gateway.starter_pid },
            totals: gateway.forwarder.totals(),
        })
    }
}

/// How much the store holds, if it can be reached.
async fn counts(gateway: &Gateway) -> Result<Option<Counts>, StoreError> {
    if gateway.store_state.away_since().is_some() {
        return Ok(None);
    }
    match gateway.store.counts().await {
        Err(error) if gateway.store_state.failed(Use::Reading, &error) => Ok(None),
        counts => counts.map(Some),
    }
}

fn store_status(gateway: &Gateway) -> StoreStatus {
    let kind = if gateway.settings.now().database.is_some() { "PostgreSQL" } else { "SQLite" };
    StoreStatus {
        kind: kind.into(),
        gateway: gateway.name.clone(),
        away_since: gateway.store_state.away_since().map(Into::into),
        waiting_changes: gateway.store_state.waiting() as u64,
    }
}

impl Answer for AddAccount {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Account, Refused> {
        let email: EmailAddress = self.email.parse().map_err(Refused::request)?;
        let now = UnixSeconds::now();
        let service_until = self.days.map(|days| now.plus(DAY * days));
        let confirmation = match self.confirmation {
            Confirmation::OfAge => StoredConfirmation::OfAge,
            Confirmation::ResponsibleAdult => StoredConfirmation::ResponsibleAdult,
        };
        let store = gateway.store.for_staff(caller.uid);
        let account = store.add_account(&email, confirmation, service_until, now).await?;
        log::changed("account added", caller.uid);
        Ok(account.into())
    }
}

impl Answer for ListAccounts {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Vec<Account>, Refused> {
        let accounts = gateway.store.accounts().await?;
        let data = &[DataKind::Email, DataKind::Confirmation, DataKind::Services];
        gateway.note_look(&caller, Deed { verb: "account list", account: None, data }).await?;
        Ok(accounts.into_iter().map(Account::from).collect())
    }
}

impl Answer for ShowAccount {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<AccountWithDevices, Refused> {
        let store = &gateway.store;
        let account = find(store, &self.account).await?;
        let devices = store.devices(account.id).await?;
        let services = store.services(account.id).await?;
        let consents = store.consents(account.id).await?;
        let data = &[
            DataKind::Email,
            DataKind::Confirmation,
            DataKind::Services,
            DataKind::Devices,
            DataKind::Consents,
        ];
        gateway.note_look(&caller, Deed::on(account.id, "account show", data)).await?;
        Ok(AccountWithDevices {
            account: account.into(),
            services: services.into_iter().map(Into::into).collect(),
            devices: devices.into_iter().map(Device::from).collect(),
            consents: consents.into_iter().map(Into::into).collect(),
        })
    }
}

impl Answer for AddDevice {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<DeviceWithConfig, Refused> {
        let account = find(&gateway.store, &self.account).await?;
        let (name, config) = prepare(&gateway, &self.name, self.public_key).await?;
        let device = gateway
            .store
            .for_staff(caller.uid)
            .add_device(
                account.id,
                &name,
                self.public_key,
                &config.preshared_key,
                UnixSeconds::now(),
            )
            .await?;
        log::changed("device added", caller.uid);
        Ok(config.of(&gateway, device))
    }
}

impl Answer for ListDevices {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Vec<Device>, Refused> {
        let account = find(&gateway.store, &self.account).await?.id;
        let devices = gateway.store.devices(account).await?;
        let deed = Deed::on(account, "device list", &[DataKind::Devices]);
        gateway.note_look(&caller, deed).await?;
        Ok(devices.into_iter().map(Device::from).collect())
    }
}

impl Answer for RotateDevice {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<DeviceWithConfig, Refused> {
        let account = find(&gateway.store, &self.account).await?;
        let (name, config) = prepare(&gateway, &self.name, self.public_key).await?;
        let (old, device) = gateway
            .store
            .for_staff(caller.uid)
            .rotate_device(
                account.id,
                &name,
                self.public_key,
                &config.preshared_key,
                UnixSeconds::now(),
            )
            .await?;
        gateway.revoke(old).await;
        log::changed("device rotated", caller.uid);
        gateway.forget_connections(&[(device.tunnel_v4, device.tunnel_v6)]).await;
        Ok(config.of(&gateway, device))
    }
}

impl Answer for RemoveDevice {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Device, Refused> {
        let account = find(&gateway.store, &self.account).await?;
        let name: DeviceName = self.name.parse().map_err(Refused::request)?;
        let devices = gateway.store.devices(account.id).await?;
        let store = gateway.store.for_staff(caller.uid);
        let removed = store.remove_device(account.id, &name, UnixSeconds::now()).await?;
        gateway.revoke(removed).await;
        log::changed("device removed", caller.uid);
        let Some(device) = devices.into_iter().find(|device| device.id == removed) else {
            return Err(Refused::fault("the device was changed by somebody else, then removed"));
        };
        gateway.forget_connections(&[(device.tunnel_v4, device.tunnel_v6)]).await;
        Ok(device.into())
    }
}

impl Answer for Purge {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Purged, Refused> {
        let (keep, now) = (retention::keep_sessions(&gateway.settings.now()), UnixSeconds::now());
        let rows = if self.remove {
            let deed = Deed { verb: "session purge", account: None, data: DataKind::ALL };
            gateway.note_look(&caller, deed).await?;
            let removed = gateway.store.purge(keep, now).await?;
            log::changed("what is past its time removed", caller.uid);
            removed
        } else {
            gateway.store.past_its_time(keep, now).await?
        };
        Ok(Purged {
            removed: self.remove,
            latest_end: now.minus(keep).into(),
            sessions: rows.sessions,
            former_numbers: rows.former_numbers,
            quarantines: rows.quarantines,
            archived: rows.archived,
            unconfirmed: rows.unconfirmed,
            accounts: rows.accounts,
            staff_entries: rows.staff_entries,
            disclosures: rows.disclosures,
            letters: rows.letters,
        })
    }
}

impl Answer for ShowRetention {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<Retention, Refused> {
        let keep = retention::keep_sessions(&gateway.settings.now());
        Ok(Retention {
            keep_sessions: gateway.settings.now().keep_sessions,
            oldest_end: gateway.store.oldest_session_end().await?.map(Into::into),
            oldest_end_allowed: UnixSeconds::now()
                .minus(keep)
                .minus(retention::PURGE_INTERVAL)
                .into(),
        })
    }
}

impl Answer for ListSessions {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Vec<Session>, Refused> {
        let account = find_number(&gateway, &self.account).await?;
        let sessions = gateway.store.sessions(account).await?;
        let deed = Deed::on(account, "session list", &[DataKind::Sessions]);
        gateway.note_look(&caller, deed).await?;
        Ok(sessions.into_iter().map(Session::from).collect())
    }
}

pub(super) async fn find(store: &Store, account: &str) -> Result<StoredAccount, Refused> {
    let selector: AccountSelector = account.parse().map_err(Refused::request)?;
    Ok(store.account(&selector).await?)
}

async fn gateway_endpoint(gateway: &Gateway) -> Option<(String, EndpointOrigin)> {
    let settings = gateway.settings.now();
    endpoint::resolve(settings.endpoint.as_ref(), &settings.listen, &settings.interface).await
}

/// What a client config needs besides the device.
struct Config {
    preshared_key: PresharedKey,
    endpoint: String,
    endpoint_origin: EndpointOrigin,
}

/// Settles everything about a new key that can fail before the store is changed.
async fn prepare(
    gateway: &Gateway,
    name: &str,
    public_key: PublicKey,
) -> Result<(DeviceName, Config), Refused> {
    let name: DeviceName = name.parse().map_err(Refused::request)?;
    if public_key == gateway.keys.public_key() || Some(public_key) == gateway.keys.former() {
        return Err(Refused::request(
            "this is the gateway's own key; give the device's public key",
        ));
    }
    let Some((endpoint, endpoint_origin)) = gateway_endpoint(gateway).await else {
        return Err(Refused::request(
            "this host has no address that clients could reach; name one with `tacit run --endpoint`",
        ));
    };
    Ok((name, Config { preshared_key: PresharedKey::generate(), endpoint, endpoint_origin }))
}

impl Config {
    fn of(self, gateway: &Gateway, device: StoredDevice) -> DeviceWithConfig {
        DeviceWithConfig {
            device: device.into(),
            gateway_public_key: gateway.keys.public_key(),
            preshared_key: PresharedKeyText::new(&self.preshared_key.expose_base64()),
            endpoint: self.endpoint,
            endpoint_origin: self.endpoint_origin,
            dns: gateway.settings.now().dns.clone(),
            mtu: gateway.settings.now().mtu,
        }
    }
}

impl From<StoredAccount> for Account {
    fn from(account: StoredAccount) -> Self {
        Self {
            id: account.id.0,
            email: account.email.expose().into(),
            confirmation: match account.confirmation {
                StoredConfirmation::OfAge => Confirmation::OfAge,
                StoredConfirmation::ResponsibleAdult => Confirmation::ResponsibleAdult,
            },
            created_at: account.created_at.into(),
            service_until: account.service_until.map(Into::into),
            devices: account.devices,
            device_limit: account.device_limit,
        }
    }
}

impl From<StoredDevice> for Device {
    fn from(device: StoredDevice) -> Self {
        Self {
            id: device.id.0,
            name: device.name.as_str().into(),
            public_key: device.public_key,
            tunnel_v4: device.tunnel_v4,
            tunnel_v6: device.tunnel_v6,
            created_at: device.created_at.into(),
        }
    }
}

impl From<StoredSession> for Session {
    fn from(session: StoredSession) -> Self {
        Self {
            device: session.device_name.map(|name| name.as_str().into()),
            connecting_ip: session.connecting_ip.expose(),
            began_at: session.began_at.into(),
            ended_at: session.ended_at.map(Into::into),
        }
    }
}
