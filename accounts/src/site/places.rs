//! Who may be connected: few at once, few of them from one network, and none who does nothing while others wait.
//!
//! A network is known by a keyed hash, and only while somebody is connected from it or was a moment ago.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tacit_messages::{bounds::Bucket, clock::Instant};
use tokio::sync::Notify;

use crate::{TunnelPool, log_in::network};

/// Connections at once, of all and of one network.
const CONNECTIONS: usize = 256;
const CONNECTIONS_OF_A_NETWORK: usize = 32;

/// Connections that a network may make: each costs a handshake.
const BETWEEN_TWO: Duration = Duration::from_millis(50);
const AT_ONCE: u32 = 200;

/// Networks that are remembered at once.
const NETWORKS: usize = 10_000;

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    tunnel: TunnelPool,
    hashing: RandomState,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    connections: HashMap<u64, Connection>,
    networks: HashMap<u64, Network>,
}

#[derive(Debug)]
struct Connection {
    network: u64,
    is_busy: bool,
    leave: Arc<Notify>,
}

#[derive(Debug)]
struct Network {
    connections: usize,
    bucket: Bucket,
}

/// A place for one connection, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
}

impl Places {
    /// Nobody is connected yet. Inside of `tunnel` each address is a network.
    pub(super) fn new(tunnel: TunnelPool) -> Self {
        Self { tunnel, hashing: RandomState::new(), taken: Mutex::default() }
    }

    /// A place for a connection from `from`, if there is one. When all are taken, who does nothing has to leave: of the
    /// network with the most connections the oldest.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr, now: Instant) -> Option<Place> {
        let network = self.hashing.hash_one(network(from, self.tunnel));
        let mut taken = self.taken.lock();
        taken.admit(network, now)?;
        taken.last += 1;
        let (number, leave) = (taken.last, Arc::new(Notify::new()));
        let connection = Connection { network, is_busy: false, leave: Arc::clone(&leave) };
        taken.connections.insert(number, connection);
        Some(Place { places: Arc::clone(self), number, leave })
    }

    /// Forgets networks that nobody is connected from.
    pub(super) fn forget_old(&self, now: Instant) {
        let mut taken = self.taken.lock();
        taken.forget_old(now);
        taken.networks.shrink_to_fit();
    }
}

impl Taken {
    fn admit(&mut self, network: u64, now: Instant) -> Option<()> {
        if self.networks.len() >= NETWORKS {
            self.forget_old(now);
        }
        let is_known = self.networks.contains_key(&network);
        if self.networks.len() >= NETWORKS && !is_known {
            return None;
        }
        let bucket = || Bucket::new(BETWEEN_TWO, AT_ONCE, now);
        let new = || Network { connections: 0, bucket: bucket() };
        let entry = self.networks.entry(network).or_insert_with(new);
        if entry.connections >= CONNECTIONS_OF_A_NETWORK || !entry.bucket.take(now) {
            return None;
        }
        if self.connections.len() >= CONNECTIONS && !self.make_room(network) {
            return None;
        }
        if let Some(entry) = self.networks.get_mut(&network) {
            entry.connections += 1;
        }
        Some(())
    }

    /// Has somebody leave who does nothing, unless `network` itself has the most connections.
    fn make_room(&mut self, network: u64) -> bool {
        let held = |network: &u64| self.networks.get(network).map_or(0, |of| of.connections);
        let idle = self.connections.iter().filter(|(_, connection)| !connection.is_busy);
        let Some((number, network_of)) = idle
            .max_by_key(|(number, connection)| (held(&connection.network), Reverse(**number)))
            .map(|(number, connection)| (*number, connection.network))
        else {
            return false;
        };
        if held(&network_of) <= held(&network) && network_of != network {
            return false;
        }
        self.remove(number);
        true
    }

    fn remove(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else { return };
        connection.leave.notify_one();
        if let Some(network) = self.networks.get_mut(&connection.network) {
            network.connections = network.connections.saturating_sub(1);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        self.networks.retain(|_, network| network.connections > 0 || !network.bucket.is_full(now));
    }
}

impl Place {
    /// Says whether a request is being answered: then nobody else gets the place.
    pub(super) fn set_busy(&self, is_busy: bool) {
        if let Some(connection) = self.places.taken.lock().connections.get_mut(&self.number) {
            connection.is_busy = is_busy;
        }
    }

    /// Waits until somebody else has the place.
    pub(super) async fn lost(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn places() -> Arc<Places> {
        let (v4, v6) = ("10.255.0.0/16".parse().unwrap(), "fd66:7ac1:7::/64".parse().unwrap());
        Arc::new(Places::new(TunnelPool::new(v4, v6).unwrap()))
    }

    /// An address of the network with this number.
    fn address(network: u16) -> IpAddr {
        let [high, low] = network.to_be_bytes();
        Ipv4Addr::new(10, high, low, 1).into()
    }

    fn is_lost(place: &Place) -> bool {
        !place.places.taken.lock().connections.contains_key(&place.number)
    }

    #[test]
    fn network_has_a_share_and_gets_it_back() {
        let (places, now) = (places(), Instant::now());
        let take = || places.take(address(1), now);
        let held: Vec<_> = std::iter::from_fn(take).collect();
        assert_eq!(held.len(), CONNECTIONS_OF_A_NETWORK);
        assert!(places.take(address(2), now).is_some(), "others cannot connect");
        drop(held);
        assert!(take().is_some());
    }

    #[test]
    fn device_in_the_tunnel_takes_no_share_of_others() {
        let (places, now) = (places(), Instant::now());
        let held =
            ["fd66:7ac1:7::2", "fd66:7ac1:7::3", "10.255.0.2", "10.255.0.3"].map(|address| {
                let take = || places.take(address.parse().unwrap(), now);
                std::iter::from_fn(take).collect::<Vec<_>>()
            });
        assert!(held.iter().all(|held| held.len() == CONNECTIONS_OF_A_NETWORK));
    }

    #[test]
    fn who_does_nothing_leaves_when_all_places_are_taken() {
        let (places, now) = (places(), Instant::now());
        let networks = CONNECTIONS / CONNECTIONS_OF_A_NETWORK;
        let take = |n: usize| places.take(address(u16::try_from(n % networks).unwrap()), now);
        let held: Vec<_> = (0..CONNECTIONS).map(|n| take(n).unwrap()).collect();
        held[0].set_busy(true);
        let visitor = places.take(address(1000), now).unwrap();
        assert!(!is_lost(&held[0]), "a busy connection was cut");
        assert_eq!(held.iter().filter(|place| is_lost(place)).count(), 1);
        assert!(!is_lost(&visitor));
        assert!(places.taken.lock().connections.len() <= CONNECTIONS);
    }

    #[test]
    fn nobody_leaves_for_one_of_as_many() {
        let (places, now) = (places(), Instant::now());
        let one_each = |n: usize| places.take(address(u16::try_from(n).unwrap()), now);
        let held: Vec<_> = (0..CONNECTIONS).map(|n| one_each(n).unwrap()).collect();
        // A newcomer has fewer than anybody, so there is room; the second of a network has not.
        let _newcomer = places.take(address(1000), now).unwrap();
        assert!(places.take(address(2), now).is_none());
        assert_eq!(held.iter().filter(|place| is_lost(place)).count(), 1);
    }

    #[test]
    fn network_that_connects_all_the_time_has_to_wait() {
        let (places, now) = (places(), Instant::now());
        let tries = |now| (0..1_000).filter(|_| places.take(address(1), now).is_some()).count();
        assert_eq!(tries(now), AT_ONCE as usize);
        assert_eq!(tries(now + BETWEEN_TWO), 1);
    }

    #[test]
    fn networks_are_forgotten() {
        let (places, now) = (places(), Instant::now());
        let held = places.take(address(1), now);
        drop(places.take(address(2), now));
        let later = now + BETWEEN_TWO * AT_ONCE;
        places.forget_old(later);
        assert_eq!(places.taken.lock().networks.len(), 1);
        drop(held);
        places.forget_old(later);
        assert!(places.taken.lock().networks.is_empty());
    }
}
