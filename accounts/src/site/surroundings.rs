//! What the site asks of the gateway around it.

use std::{fmt, future::Future, pin::Pin};

use crate::{Entrance, RemovedDevice, StoreError};

/// Something that is being done.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The gateway, as far as the site knows it.
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// Has letters sent that were queued just now.
    fn letters_queued(&self);

    /// Disconnects devices that the store no longer has; done once that is said to the forwarder.
    fn disconnect<'a>(&'a self, devices: &'a [RemovedDevice]) -> Doing<'a, ()>;

    /// What configs say of the gateway; `None` while it has no address that clients could reach.
    fn entrance(&self) -> Doing<'_, Option<Entrance>>;

    /// Notes that the store failed a visitor.
    fn store_failed(&self, error: &StoreError);

    /// Notes that a renewed certificate could not be used, and that the former one still is.
    fn certificate_not_renewed(&self, error: &dyn fmt::Display);

    /// Notes that a renewed certificate is used.
    fn certificate_renewed(&self);
}
