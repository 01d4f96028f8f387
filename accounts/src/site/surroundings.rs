//! What the site asks of the gateway around it.

use std::{fmt, future::Future, pin::Pin};

use tacit_messages::UnixSeconds;

use super::words::when;
use crate::{Entrance, RemovedDevice, StoreError};

/// Something that is being done.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What came of an audit of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// When it was made.
    pub at: UnixSeconds,
    /// The commit that the auditing program was built from.
    pub commit: String,
    /// How many checks passed.
    pub passed: usize,
    /// The checks that found no violation, but something that should be known.
    pub warned: Vec<&'static str>,
    /// The checks that failed.
    pub failed: Vec<&'static str>,
}

impl Audited {
    /// When it was made, as pages show it.
    pub(super) fn when(&self) -> String {
        when(self.at)
    }

    /// How many checks were made.
    pub(super) fn checks(&self) -> usize {
        self.passed + self.warned.len() + self.failed.len()
    }
}

/// The gateway, as far as the site knows it.
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// Has letters sent that were queued just now.
    fn letters_queued(&self);

    /// Disconnects devices that the store no longer has; done once that is said to the forwarder.
    fn disconnect<'a>(&'a self, devices: &'a [RemovedDevice]) -> Doing<'a, ()>;

    /// What configs say of the gateway; `None` while it has no address that clients could reach.
    fn entrance(&self) -> Doing<'_, Option<Entrance>>;

    /// What came of the last audit since the gateway was started, if there was one.
    fn last_audit(&self) -> Option<Audited>;

    /// Notes that the store failed a visitor.
    fn store_failed(&self, error: &StoreError);

    /// Notes that a renewed certificate could not be used, and that the former one still is.
    fn certificate_not_renewed(&self, error: &dyn fmt::Display);

    /// Notes that a renewed certificate is used.
    fn certificate_renewed(&self);
}
