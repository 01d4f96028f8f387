//! What control says to the forwarder, in an order that a revocation cannot be overtaken by.
//!
//! A look-up in the store and a revocation can cross: the look-up reads the device, the device is removed, the
//! forwarder is told to drop it, and then the old answer would let it in again. So each look-up holds a
//! [`Ticket`] from before its read, a revocation makes all tickets stale, and an answer with a stale ticket is not
//! sent but looked up anew.

use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use tacit_messages::{DeviceId, ToForwarder, clock::Instant};
use tokio::sync::Mutex;

use super::{limits::Limits, link::Link};

/// The way to the forwarder of the moment.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    to: Option<Listener>,
    forwarder: u64,
    revocations: u64,
}

/// A forwarder, and what it may say.
#[derive(Debug)]
struct Listener {
    link: Arc<Link>,
    limits: Arc<SyncMutex<Limits>>,
}

/// States before which revocation, and for which forwarder, a look-up began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    forwarder: u64,
    revocations: u64,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was sent.
    Sent,
    /// A device was revoked since the ticket was taken: look up again.
    Stale,
    /// The forwarder that asked is gone.
    Gone,
}

impl Outbox {
    /// Sends to the forwarder at `link` from here on, which may speak of the devices that it is told of; returns its
    /// number.
    pub(crate) async fn attach(&self, link: Arc<Link>, limits: Arc<SyncMutex<Limits>>) -> u64 {
        let mut current = self.current.lock().await;
        current.to = Some(Listener { link, limits });
        current.forwarder += 1;
        current.forwarder
    }

    /// Sends to nobody from here on.
    pub(crate) async fn detach(&self) {
        self.current.lock().await.to = None;
    }

    /// Takes a ticket for a look-up that `forwarder` asked for; take it before the store is read.
    pub(crate) async fn ticket(&self, forwarder: u64) -> Option<Ticket> {
        let current = self.current.lock().await;
        let is_there = current.forwarder == forwarder && current.to.is_some();
        is_there.then_some(Ticket { forwarder, revocations: current.revocations })
    }

    /// Sends the answer of the look-up that `ticket` was taken for, if it still holds.
    pub(crate) async fn answer(&self, ticket: Ticket, answer: &ToForwarder) -> Answered {
        let current = self.current.lock().await;
        let Some(Listener { link, limits }) = &current.to else { return Answered::Gone };
        if current.forwarder != ticket.forwarder {
            return Answered::Gone;
        }
        if current.revocations != ticket.revocations {
            return Answered::Stale;
        }
        if let ToForwarder::Device { device, .. } = answer {
            limits.lock().told(*device, Instant::now());
        }
        match link.send(answer).await {
            Ok(()) => Answered::Sent,
            Err(_) => Answered::Gone,
        }
    }

    /// Tells the forwarder that the gateway is drained, which may speak of its devices' moves for a while.
    pub(crate) async fn leave(&self) {
        let current = self.current.lock().await;
        if let Some(Listener { link, limits }) = &current.to {
            limits.lock().leave(Instant::now());
            let _ = link.send(&ToForwarder::Leave).await;
        }
    }

    /// Tells the forwarder something that needs no ticket: of a device that is on its way here, of a key of the gateway.
    pub(crate) async fn tell(&self, message: &ToForwarder) {
        let current = self.current.lock().await;
        if let Some(Listener { link, .. }) = &current.to {
            let _ = link.send(message).await;
        }
    }

    /// Tells the forwarder to drop `device`; call it after the store no longer has it.
    ///
    /// A forwarder that is not there knows no device, and the next one asks the store.
    pub(crate) async fn revoke(&self, device: DeviceId) {
        let mut current = self.current.lock().await;
        current.revocations += 1;
        if let Some(Listener { link, .. }) = &current.to {
            let _ = link.send(&ToForwarder::Revoked { device }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::OwnedFd, time::Duration};

    use rustix::net::{RecvFlags, recv};
    use tacit_messages::SIZE;

    use super::*;

    const ANSWER: ToForwarder = ToForwarder::Unknown { public_key: [1; 32] };
    const REVOKED: ToForwarder = ToForwarder::Revoked { device: DeviceId(7) };

    fn arrived(theirs: &OwnedFd) -> Option<ToForwarder> {
        let mut bytes = [0; SIZE];
        recv(theirs, &mut bytes, RecvFlags::DONTWAIT).ok()?;
        ToForwarder::decode(&bytes).ok()
    }

    fn limits() -> Arc<SyncMutex<Limits>> {
        Arc::new(SyncMutex::new(Limits::new(256, Instant::now())))
    }

    async fn outbox() -> (Outbox, u64, OwnedFd) {
        let (link, theirs) = Link::pair().unwrap();
        let outbox = Outbox::default();
        let forwarder = outbox.attach(Arc::new(link), limits()).await;
        (outbox, forwarder, theirs)
    }

    #[tokio::test]
    async fn answer_that_spans_no_revocation_is_sent() {
        let (outbox, forwarder, theirs) = outbox().await;
        outbox.revoke(DeviceId(7)).await;
        let ticket = outbox.ticket(forwarder).await.unwrap();
        assert_eq!(outbox.answer(ticket, &ANSWER).await, Answered::Sent);
        assert!(arrived(&theirs) == Some(REVOKED));
        assert!(arrived(&theirs) == Some(ANSWER));
    }

    #[tokio::test]
    async fn answer_that_spans_a_revocation_is_not_sent() {
        let (outbox, forwarder, theirs) = outbox().await;
        let ticket = outbox.ticket(forwarder).await.unwrap();
        outbox.revoke(DeviceId(7)).await;
        assert_eq!(outbox.answer(ticket, &ANSWER).await, Answered::Stale);
        assert!(arrived(&theirs) == Some(REVOKED));
        assert!(arrived(&theirs).is_none());
    }

    #[tokio::test]
    async fn next_forwarder_is_not_answered_what_the_last_one_asked() {
        let (outbox, forwarder, _theirs) = outbox().await;
        let ticket = outbox.ticket(forwarder).await.unwrap();
        outbox.detach().await;
        assert_eq!(outbox.answer(ticket, &ANSWER).await, Answered::Gone);
        let (link, next) = Link::pair().unwrap();
        outbox.attach(Arc::new(link), limits()).await;
        assert_eq!(outbox.answer(ticket, &ANSWER).await, Answered::Gone);
        assert!(outbox.ticket(forwarder).await.is_none());
        assert!(arrived(&next).is_none());
    }

    #[tokio::test]
    async fn forwarder_that_does_not_read_holds_up_no_revocation() {
        let (outbox, forwarder, _theirs) = outbox().await;
        let ticket = outbox.ticket(forwarder).await.unwrap();
        while outbox.answer(ticket, &ANSWER).await == Answered::Sent {}
        let began = Instant::now();
        for device in 0..100 {
            outbox.revoke(DeviceId(device)).await;
        }
        assert!(Instant::now().since(began) < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn revocation_does_not_need_a_forwarder() {
        Outbox::default().revoke(DeviceId(7)).await;
    }
}
