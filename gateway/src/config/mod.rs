//! Settings: a flag goes before a `TACIT_…` variable, before a key of `tacit.toml`, before the default.

mod choices;
mod explain;
mod limits;
mod overrides;
mod places;
mod settings;

pub(crate) use self::{
    choices::{LogLevel, MailTls},
    overrides::{Overrides, StoreOverrides},
    places::Places,
    settings::Settings,
};

#[cfg(test)]
mod tests;
