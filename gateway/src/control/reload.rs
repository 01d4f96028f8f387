//! Reads the settings again when the gateway is told to by SIGHUP.

use std::sync::Arc;

use tokio::{signal::unix::Signal, task::JoinHandle};

use super::Gateway;
use crate::{
    config::{Changes, Settings, Sources},
    log,
};

/// Reads the settings again at each `hangup`.
pub(super) fn start(gateway: Arc<Gateway>, sources: Sources, mut hangup: Signal) -> JoinHandle<()> {
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            gateway.service_manager.reloading();
            reload(&gateway, &sources);
            gateway.service_manager.ready();
        }
    })
}

fn reload(gateway: &Gateway, sources: &Sources) {
    let config = sources.places().config_file();
    let changes = sources.load().and_then(|read| Ok(gateway.settings.take(&read)?));
    // What is wrong stays out of the log: it may repeat what somebody wrote.
    let Ok(Changes { applied, waiting }) = changes else { return log::settings_not_read() };
    apply(gateway, &gateway.settings.now());
    applied.iter().for_each(|setting| log::setting_applied(setting));
    waiting.iter().for_each(|setting| log::setting_waits(setting));
    log::settings_read(applied.len(), waiting.len());
    if waiting.is_empty() {
        *gateway.config.write() = config;
    }
}

/// Puts into force what is not looked up in the settings each time.
fn apply(gateway: &Gateway, settings: &Settings) {
    log::set_level(settings.log.into());
    gateway.store.set_device_limit(settings.device_limit);
    gateway.forwarder.set_least_sessions(settings.metrics_least_sessions);
}
