//! Settings: a flag goes before a `TACIT_…` variable, before a key of `tacit.toml`, before the default.

mod check;
mod choices;
mod explain;
mod files;
mod limits;
mod lines;
mod live;
mod origin;
mod overrides;
mod places;
mod settings;

pub(crate) use self::{
    check::{check, load},
    choices::{LogLevel, MailTls},
    live::{Changes, LiveSettings, Sources},
    origin::Origin,
    overrides::{Overrides, StoreOverrides},
    places::Places,
    settings::{Loaded, Settings},
};

#[cfg(test)]
mod tests;
