//! Requests about the data key and the gateway's own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_accounts::Deed;
use tacit_keys::PublicKey;

use super::{
    Request, requests,
    server::{Answer, Caller, Refused},
};
use crate::{
    control::{
        Gateway,
        gateway_keys::GatewayKeysError,
        key_rotation::{RotationError, RotationStatus},
    },
    log,
};

requests! {
    /// Makes a new data key and begins to seal everything with it.
    RotateDataKey {} "/key/rotate" -> DataKeyStatus;
    /// Makes a new gateway key; the former is answered too from then on.
    RotateGatewayKey {} "/key/rotate-gateway" -> GatewayKeyStatus;
    /// Answers the former gateway key no longer, also if sessions with it are cut off by that and that is meant.
    RetireGatewayKey { force: bool } "/key/retire" -> GatewayKeyStatus;
    /// Asks which keys are in use, and how far changes of them are.
    ShowKeys {} "/key/show" -> KeysStatus;
}

/// The data key in use, and how far a change of it is.
#[derive(Deserialize, Serialize)]
pub(crate) struct DataKeyStatus {
    /// What tells it apart from others; says nothing about the key.
    pub(crate) key: String,
    /// Whether there still are values of a former key.
    pub(crate) changing: bool,
    /// Values that were looked at and are sealed with the new key.
    pub(crate) done: u64,
    /// Values in all; 0 if nothing is being changed.
    pub(crate) total: u64,
    /// Whether the last try failed; it is tried again.
    pub(crate) failed: bool,
}

/// The gateway's own keys.
#[derive(Deserialize, Serialize)]
pub(crate) struct GatewayKeyStatus {
    /// The one in client configs.
    pub(crate) gateway_key: PublicKey,
    /// The one that was in them before, if it is answered still.
    pub(crate) former_gateway_key: Option<PublicKey>,
    /// Sessions now that use the former.
    pub(crate) former_gateway_key_sessions: u64,
}

/// All of them.
#[derive(Deserialize, Serialize)]
pub(crate) struct KeysStatus {
    /// The data key.
    #[serde(flatten)]
    pub(crate) data: DataKeyStatus,
    /// The gateway's own.
    #[serde(flatten)]
    pub(crate) gateway: GatewayKeyStatus,
}

impl From<RotationError> for Refused {
    fn from(error: RotationError) -> Self {
        Self::request(error)
    }
}

impl From<GatewayKeysError> for Refused {
    fn from(error: GatewayKeysError) -> Self {
        Self::request(error)
    }
}

impl From<RotationStatus> for DataKeyStatus {
    fn from(status: RotationStatus) -> Self {
        Self {
            key: status.key.to_string(),
            changing: status.is_under_way,
            done: status.done,
            total: status.total,
            failed: status.has_failed,
        }
    }
}

impl GatewayKeyStatus {
    fn of(gateway: &Gateway) -> Self {
        Self {
            gateway_key: gateway.keys.public_key(),
            former_gateway_key: gateway.keys.former(),
            former_gateway_key_sessions: gateway.former_key_sessions(),
        }
    }
}

impl Answer for RotateDataKey {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<DataKeyStatus, Refused> {
        gateway.key_rotation.rotate().await?;
        gateway.note_look(&caller, Deed { verb: "key rotate", account: None, data: &[] }).await?;
        log::changed("data key", caller.uid);
        Ok(gateway.key_rotation.status().into())
    }
}

impl Answer for RotateGatewayKey {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<GatewayKeyStatus, Refused> {
        gateway.rotate_key().await?;
        let deed = Deed { verb: "key rotate --gateway", account: None, data: &[] };
        gateway.note_look(&caller, deed).await?;
        log::changed("gateway key", caller.uid);
        Ok(GatewayKeyStatus::of(&gateway))
    }
}

impl Answer for RetireGatewayKey {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> Result<GatewayKeyStatus, Refused> {
        gateway.retire_key(self.force).await?;
        gateway.note_look(&caller, Deed { verb: "key retire", account: None, data: &[] }).await?;
        log::changed("former gateway key retired", caller.uid);
        Ok(GatewayKeyStatus::of(&gateway))
    }
}

impl Answer for ShowKeys {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<KeysStatus, Refused> {
        let data = gateway.key_rotation.status().into();
        Ok(KeysStatus { data, gateway: GatewayKeyStatus::of(&gateway) })
    }
}
