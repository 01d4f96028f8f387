//! The gateways among which a customer chooses where a device connects.

use tacit_messages::UnixSeconds;

use super::{Site, answer::Failure};
use crate::Entrance;

/// A gateway that a device may connect to.
pub(super) struct Choice {
    /// Its number in the store, which a form sends.
    pub(super) number: i64,
    /// What customers know it by.
    pub(super) label: String,
    /// What the device's config says of it.
    pub(super) entrance: Entrance,
}

impl Choice {
    fn new((number, entrance): (i64, Entrance)) -> Self {
        let host = entrance.endpoint.rsplit_once(':').map_or("", |(host, _)| host);
        let label = match &entrance.region {
            Some(region) => format!("{region} ({host})"),
            None => host.to_owned(),
        };
        Self { number, label, entrance }
    }
}

/// The gateways that devices can reach now, this site's own first.
pub(super) async fn all(site: &Site) -> Result<Vec<Choice>, Failure> {
    let own = site.surroundings.entrance().await;
    let own = own.map(|entrance| (site.store.gateway_number(), entrance));
    let others = site.store.other_entrances(UnixSeconds::now()).await?;
    Ok(own.into_iter().chain(others).map(Choice::new).collect())
}

/// Those of all that new devices are offered: a gateway that is drained is not among them while there is another.
pub(super) async fn offered(site: &Site, mut all: Vec<Choice>) -> Result<Vec<Choice>, Failure> {
    // Others that are drained are not in the store's list.
    if all.len() > 1 && site.store.is_draining().await? {
        all.retain(|choice| choice.number != site.store.gateway_number());
    }
    Ok(all)
}

/// The one that a form names, or the first where it names none.
pub(super) fn find(mut all: Vec<Choice>, named: &str) -> Option<Choice> {
    let number: Option<i64> = named.parse().ok();
    let place = match named {
        "" => 0,
        _ => all.iter().position(|choice| Some(choice.number) == number)?,
    };
    (place < all.len()).then(|| all.swap_remove(place))
}
