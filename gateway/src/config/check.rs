//! Whether a gateway would start with the settings as they are, as far as the settings are concerned.

use std::env;

use serde::Serialize;

use super::{Loaded, Places, Settings, origin::check_variables};

/// Puts the settings together as `tacit run` would, and checks that no variable is meant for one and is none's.
///
/// # Errors
/// One line that names the setting, where it stands, and what it must be.
pub(crate) fn check(places: &Places, overrides: &impl Serialize) -> anyhow::Result<Loaded> {
    let loaded = Settings::load_with_origins(places, overrides)?;
    let keys = Settings::keys();
    let known: Vec<&str> = keys.iter().map(String::as_str).collect();
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    check_variables(names, &known)?;
    Ok(loaded)
}
