//! Which connection-tracking entries go because their device was removed or has other keys, and when.
//!
//! To find a device's entries the kernel has to tell all that it has. So whatever was revoked since the last time is dealt with
//! at once, however many it is: whoever makes others' devices go cannot keep the gateway reading.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    pin::pin,
    time::Duration,
};

use parking_lot::Mutex;
use tacit_messages::clock::Instant;
use tokio::{sync::Notify, time::timeout};

/// The addresses of a device in the tunnel.
pub(crate) type Addresses = (Ipv4Addr, Ipv6Addr);

/// How long a packet that was on its way when its device was revoked may take to be gone.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// How long who revokes a device waits for its entries to go. Where entries were deleted a moment ago, it takes a second.
const PATIENCE: Duration = Duration::from_millis(100);

/// Addresses whose entries are to be deleted, and from when on.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    waiting: Mutex<Vec<(Addresses, Instant)>>,
    came: Notify,
    gone: Notify,
}

impl Revoked {
    /// Notes that devices are revoked: their entries go now, and once more when nothing is on its way.
    fn add(&self, devices: &[Addresses], now: Instant) {
        let times = |addresses: &Addresses| [(*addresses, now), (*addresses, now + ON_ITS_WAY)];
        self.waiting.lock().extend(devices.iter().flat_map(times));
    }

    /// The same, and waits a moment, so that mostly they are gone once this returns.
    pub(super) async fn forget(&self, devices: &[Addresses]) {
        let mut gone = pin!(self.gone.notified());
        gone.as_mut().enable();
        self.add(devices, Instant::now());
        self.came.notify_one();
        let _ = timeout(PATIENCE, gone).await;
    }

    /// Waits until a device is revoked.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// Notes that what was taken is dealt with.
    pub(super) fn are_gone(&self) {
        self.gone.notify_waiters();
    }

    /// Takes what is to be deleted at `now`.
    pub(super) fn take_due(&self, now: Instant) -> Vec<Addresses> {
        let mut waiting = self.waiting.lock();
        waiting
            .extract_if(.., |(_, due_at)| *due_at <= now)
            .map(|(addresses, _)| addresses)
            .collect()
    }

    /// Puts back what could not be deleted.
    pub(super) fn put_back(&self, addresses: Vec<Addresses>, now: Instant) {
        self.waiting.lock().extend(addresses.into_iter().map(|addresses| (addresses, now)));
    }

    /// Whose entries there may still be.
    pub(crate) fn waiting(&self) -> Vec<Addresses> {
        self.waiting.lock().iter().map(|(addresses, _)| *addresses).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn addresses(number: u8) -> Addresses {
        (Ipv4Addr::new(10, 66, 0, number), Ipv6Addr::from(u128::from(number)))
    }

    #[test]
    fn many_that_are_revoked_are_dealt_with_at_once_and_once_more() {
        let (revoked, start) = (Revoked::default(), Instant::now());
        let second = Duration::from_secs(1);
        for number in 0..200 {
            revoked.add(&[addresses(number)], start + second * u32::from(number) / 200);
        }
        // One look a second, each of which is one list of the kernel's.
        let looks: Vec<_> = (1..=4).map(|n| revoked.take_due(start + second * n).len()).collect();
        assert_eq!(looks.iter().sum::<usize>(), 400, "{looks:?}");
        assert_eq!(looks, [200, 1, 199, 0]);
        assert!(revoked.waiting().is_empty());
    }

    #[test]
    fn what_could_not_be_deleted_is_due_again() {
        let (revoked, now) = (Revoked::default(), Instant::now());
        revoked.add(&[addresses(2)], now);
        let due = revoked.take_due(now);
        assert_eq!(due, [addresses(2)]);
        assert_eq!(revoked.take_due(now), []);
        revoked.put_back(due, now);
        assert_eq!(revoked.take_due(now), [addresses(2)]);
        assert_eq!(revoked.waiting(), [addresses(2)], "it does not go once more");
        assert_eq!(revoked.take_due(now + ON_ITS_WAY), [addresses(2)]);
    }

    #[tokio::test]
    async fn who_revokes_waits_until_entries_are_gone_but_not_for_long() {
        let (revoked, device) = (Revoked::default(), [addresses(2)]);
        let mut forgetting = pin!(revoked.forget(&device));
        let mut has_waited = || {
            let mut context = Context::from_waker(Waker::noop());
            forgetting.as_mut().poll(&mut context).is_ready()
        };
        assert!(!has_waited());
        assert_eq!(revoked.take_due(Instant::now()), device);
        revoked.are_gone();
        assert!(has_waited(), "nobody told that they are gone");
        revoked.forget(&[addresses(3)]).await;
        assert_eq!(revoked.waiting().len(), 3, "one waits for the second time, one for both");
    }
}
