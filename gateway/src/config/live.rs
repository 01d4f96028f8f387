//! Settings that are read again while the gateway runs.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::{Overrides, Places, Settings};

/// What comes into force without a restart, and without a packet that is dropped for it.
const LIVE: [&str; 6] =
    ["device-limit", "dns", "endpoint", "log", "metrics-least-sessions", "region"];

/// What settings are put together from: the same file, variables and flags each time.
#[derive(Debug)]
pub(crate) struct Sources {
    places: Places,
    overrides: Overrides,
}

impl Sources {
    /// The file that `places` names, and what was given beside it.
    pub(crate) fn new(places: &Places, overrides: &Overrides) -> Self {
        Self { places: places.absolute(), overrides: overrides.clone() }
    }

    /// Puts the settings together and checks them.
    ///
    /// # Errors
    /// One line that names the setting, where it stands, and what it must be.
    pub(crate) fn load(&self) -> anyhow::Result<Settings> {
        Settings::load(&self.places, &self.overrides)
    }

    /// Where the settings are.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }
}

/// The settings in force.
#[derive(Debug)]
pub(crate) struct LiveSettings(RwLock<Arc<Settings>>);

/// What is other than before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// What is in force.
    pub(crate) applied: Vec<String>,
    /// What takes a restart.
    pub(crate) waiting: Vec<String>,
}

impl LiveSettings {
    /// The settings of a start.
    pub(crate) fn new(settings: Settings) -> Self {
        Self(RwLock::new(Arc::new(settings)))
    }

    /// The settings in force.
    pub(crate) fn now(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read())
    }

    /// Puts into force what can be of `read`.
    ///
    /// # Errors
    /// If settings cannot be taken apart, which is a fault of the program's; then nothing is changed.
    pub(crate) fn take(&self, read: &Settings) -> serde_json::Result<Changes> {
        let mut now = self.0.write();
        let mut changes = Changes::default();
        let mut values = serde_json::to_value(&**now)?;
        let (Value::Object(former), Value::Object(read)) =
            (&mut values, serde_json::to_value(read)?)
        else {
            return Ok(changes);
        };
        for (key, value) in read {
            if former.get(&key) == Some(&value) {
                continue;
            }
            if LIVE.contains(&key.as_str()) {
                former.insert(key.clone(), value);
                changes.applied.push(key);
            } else {
                changes.waiting.push(key);
            }
        }
        *now = Arc::new(serde_json::from_value(values)?);
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_in_force_is_and_the_rest_waits() {
        let live = LiveSettings::new(Settings::default());
        let read = Settings { mtu: 1300, device_limit: 7, dns: Vec::new(), ..Settings::default() };
        let changes = live.take(&read).unwrap();
        assert_eq!(changes.applied, ["device-limit", "dns"]);
        assert_eq!(changes.waiting, ["mtu"]);
        let expected = Settings { mtu: Settings::default().mtu, ..read.clone() };
        assert_eq!(*live.now(), expected);
        let again = live.take(&read).unwrap();
        assert_eq!(again, Changes { applied: Vec::new(), waiting: vec!["mtu".into()] });
    }

    #[test]
    fn every_live_setting_is_one() {
        let keys = Settings::keys();
        assert!(LIVE.iter().all(|live| keys.iter().any(|key| key == live)));
    }
}
