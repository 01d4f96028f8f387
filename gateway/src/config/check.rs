//! Whether a gateway would start with the settings as they are, as far as the settings are concerned.

use std::env;

use serde::Serialize;

use super::{Loaded, Places, Settings, origin};

/// Puts the settings together as `tacit run` would.
///
/// # Errors
/// One line that names the setting, where it stands, and what it must be.
pub(crate) fn load(places: &Places, overrides: &impl Serialize) -> anyhow::Result<Loaded> {
    check_variables()?;
    Settings::load_with_origins(places, overrides)
}

/// The same, and checks the files that they name.
///
/// # Errors
/// One line that names the setting, where it stands, and what it must be.
pub(crate) fn check(places: &Places, overrides: &impl Serialize) -> anyhow::Result<Loaded> {
    let loaded = load(places, overrides)?;
    loaded.settings.check_files().map_err(|fault| fault.at(&loaded.origins))?;
    Ok(loaded)
}

/// Checks that no variable of this process is meant for a setting and is none's.
fn check_variables() -> anyhow::Result<()> {
    let keys = Settings::keys();
    let known: Vec<&str> = keys.iter().map(String::as_str).collect();
    let variables = env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into()))
    });
    origin::check_variables(variables, &known)
}
