//! What the gateway answers to an audit.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use super::{
    AuditFacts, ListStaleAddresses, ShowAuditFacts,
    server::{Answer, Caller, Refused},
};
use crate::{
    control::{Gateway, data_dir},
    program,
};

impl Answer for ShowAuditFacts {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<AuditFacts, Refused> {
        let settings = &gateway.settings;
        Ok(AuditFacts {
            forwarder: gateway.forwarder.status().pid,
            starter: gateway.starter_pid,
            interface: settings.interface.clone(),
            listen: settings.listen.clone(),
            tunnel_v4: gateway.networks.v4(),
            tunnel_v6: gateway.networks.v6(),
            data_dir: settings.data_dir.clone(),
            store: data_dir::store_path(&settings.data_dir),
            database: settings
                .database
                .clone()
                .map(|url| (url, settings.database_password_file.clone())),
            data_key: settings.data_key.clone(),
            socket: settings.socket.clone(),
            config: gateway.config.0.clone(),
            config_sha256: gateway.config.1.clone(),
            log: settings.log,
            metrics: gateway.metrics,
            keep_sessions: settings.keep_sessions,
            keep_archive: settings.keep_archive,
            keep_records: settings.keep_records,
            firewall: gateway.firewall.clone(),
            commit: program::COMMIT.into(),
        })
    }
}

impl Answer for ListStaleAddresses {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<Vec<IpAddr>, Refused> {
        let mut live = HashSet::new();
        for device in gateway.devices_with_connections() {
            let addresses = gateway.store.tunnel_addresses(device).await?;
            live.extend(addresses.into_iter().flat_map(|(v4, v6)| [IpAddr::V4(v4), v6.into()]));
        }
        Ok(self.addresses.into_iter().filter(|address| !live.contains(address)).collect())
    }
}
