//! Requests about the gateways that share the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_messages::UnixSeconds;

use super::{
    Request, requests,
    server::{Answer, Caller, Refused},
};
use crate::{control::Gateway, log, rfc3339::Rfc3339};

requests! {
    /// Lists the gateways.
    ListGateways {} "/gateway/list" -> Vec<FleetGateway>;
    /// Has a gateway's clients leave it, or stay.
    DrainGateway { name: String, is_draining: bool } "/gateway/drain" -> FleetGateway;
    /// Removes a gateway that does not run.
    RemoveGateway { name: String } "/gateway/remove" -> RemovedGateway;
}

/// A gateway that shares the store, or did.
#[derive(Deserialize, Serialize)]
pub(crate) struct FleetGateway {
    /// What it is called.
    pub(crate) name: String,
    /// Whether it is the one that answers.
    pub(crate) is_this: bool,
    /// Whether it was heard of lately.
    pub(crate) runs: bool,
    /// When it was last heard of.
    pub(crate) last_alive_at: Option<Rfc3339>,
    /// Whether its clients are to leave it.
    pub(crate) is_draining: bool,
    /// For how many sessions it is meant, if it says so.
    pub(crate) capacity: Option<u32>,
    /// Sessions at it that have not ended.
    pub(crate) sessions: u64,
}

/// A gateway that is gone for good.
#[derive(Deserialize, Serialize)]
pub(crate) struct RemovedGateway {
    /// What it was called.
    pub(crate) name: String,
    /// Sessions of it that were still open, and ended when it was last known to run.
    pub(crate) sessions_ended: u64,
}

impl From<tacit_accounts::FleetGateway> for FleetGateway {
    fn from(gateway: tacit_accounts::FleetGateway) -> Self {
        Self {
            name: gateway.name,
            is_this: gateway.is_this,
            runs: gateway.runs,
            last_alive_at: gateway.last_alive_at.map(Into::into),
            is_draining: gateway.is_draining,
            capacity: gateway.capacity,
            sessions: gateway.sessions,
        }
    }
}

impl Answer for ListGateways {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        _caller: Caller,
    ) -> Result<Vec<FleetGateway>, Refused> {
        let fleet = gateway.store.fleet(UnixSeconds::now()).await?;
        Ok(fleet.into_iter().map(Into::into).collect())
    }
}

impl Answer for DrainGateway {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<FleetGateway, Refused> {
        let now = UnixSeconds::now();
        let store = gateway.store.for_staff(caller.uid);
        store.set_draining(&self.name, self.is_draining, now).await?;
        let action = if self.is_draining { "gateway drained" } else { "gateway resumed" };
        log::changed(action, caller.uid);
        let mut fleet = store.fleet(now).await?.into_iter();
        let found = fleet.find(|gateway| gateway.name == self.name);
        found.map(Into::into).ok_or_else(|| tacit_accounts::StoreError::NoSuchGateway.into())
    }
}

impl Answer for RemoveGateway {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<RemovedGateway, Refused> {
        let store = gateway.store.for_staff(caller.uid);
        let sessions_ended = store.remove_gateway(&self.name, UnixSeconds::now()).await?;
        log::changed("gateway removed", caller.uid);
        Ok(RemovedGateway { name: self.name, sessions_ended })
    }
}
