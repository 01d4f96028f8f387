//! Whose connection-tracking entries are to be deleted, and when.
//!
//! The kernel's entries name destinations, so they must go when a session ends. But a device that roams, or whose
//! forwarder was restarted, ends one session and begins another: its entries still carry its traffic, and
//! without them a running transfer would be reset. So an end counts once no new session follows it for a while.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tacit_messages::{DeviceId, clock::Instant};

/// How long a device that ended its session may take to begin the next one: a roam takes no time.
pub(crate) const AFTER_END: Duration = Duration::from_secs(2);

/// How long a device may take to come back after its forwarder died: the age at which clients give up
/// (REKEY_ATTEMPT_TIME, WireGuard paper section 6.1).
pub(crate) const AFTER_DEATH: Duration = Duration::from_secs(90);

/// The devices that have a session, and those that lately had one.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    here: HashSet<DeviceId>,
    leaving: HashMap<DeviceId, Instant>,
}

impl Departures {
    /// Notes that a session began.
    pub(crate) fn began(&mut self, device: DeviceId) {
        self.leaving.remove(&device);
        self.here.insert(device);
    }

    /// Notes that a session ended.
    pub(crate) fn ended(&mut self, device: DeviceId, now: Instant) {
        self.here.remove(&device);
        self.leaving.insert(device, now + AFTER_END);
    }

    /// Notes that the forwarder died, and all sessions with it.
    pub(crate) fn all_ended(&mut self, now: Instant) {
        self.leaving.extend(self.here.drain().map(|device| (device, now + AFTER_DEATH)));
    }

    /// Takes the devices that are gone for good at `now`.
    pub(crate) fn take_gone(&mut self, now: Instant) -> Vec<DeviceId> {
        self.leaving.extract_if(|_, gone_at| *gone_at <= now).map(|(device, _)| device).collect()
    }

    /// How many devices have a session.
    pub(crate) fn sessions(&self) -> u64 {
        self.here.len() as u64
    }

    /// The devices whose connections are not to be deleted yet.
    pub(crate) fn staying(&self) -> Vec<DeviceId> {
        self.here.iter().chain(self.leaving.keys()).copied().collect()
    }

    /// Puts back devices that [`Self::take_gone`] gave and that could not be dealt with, but for those that are here again.
    pub(crate) fn still_leaving(&mut self, devices: Vec<DeviceId>, now: Instant) {
        let gone = devices.into_iter().filter(|device| !self.here.contains(device));
        self.leaving.extend(gone.map(|device| (device, now + AFTER_END)));
    }

    /// Takes every device: the gateway stops.
    pub(crate) fn take_all(&mut self) -> Vec<DeviceId> {
        let leaving = self.leaving.drain().map(|(device, _)| device);
        leaving.chain(self.here.drain()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId(7);

    #[test]
    fn device_is_gone_a_while_after_its_session() {
        let now = Instant::now();
        let mut departures = Departures::default();
        departures.began(DEVICE);
        departures.ended(DEVICE, now);
        assert!(departures.take_gone(now).is_empty());
        assert_eq!(departures.staying(), [DEVICE]);
        assert_eq!(departures.take_gone(now + AFTER_END), [DEVICE]);
        assert!(departures.take_gone(now + AFTER_END).is_empty());
        assert!(departures.staying().is_empty());
    }

    #[test]
    fn device_that_could_not_be_dealt_with_is_gone_once_more() {
        let now = Instant::now();
        let mut departures = Departures::default();
        departures.began(DeviceId(8));
        departures.still_leaving(vec![DEVICE, DeviceId(8)], now);
        assert_eq!(departures.take_gone(now + AFTER_END), [DEVICE]);
    }

    #[test]
    fn device_that_roams_is_not_gone() {
        let now = Instant::now();
        let mut departures = Departures::default();
        departures.began(DEVICE);
        departures.ended(DEVICE, now);
        departures.began(DEVICE);
        assert!(departures.take_gone(now + AFTER_END).is_empty());
    }

    #[test]
    fn device_may_come_back_after_the_forwarder_died() {
        let now = Instant::now();
        let mut departures = Departures::default();
        departures.began(DEVICE);
        departures.began(DeviceId(8));
        departures.all_ended(now);
        departures.began(DEVICE);
        assert_eq!(departures.take_gone(now + AFTER_DEATH), [DeviceId(8)]);
    }

    #[test]
    fn all_are_taken_when_the_gateway_stops() {
        let mut departures = Departures::default();
        departures.began(DEVICE);
        departures.ended(DeviceId(8), Instant::now());
        let mut all = departures.take_all();
        all.sort();
        assert_eq!(all, [DEVICE, DeviceId(8)]);
        assert!(departures.take_all().is_empty());
    }
}
