//! Keeps a forwarder running: starts it, has it heard, ends its sessions when it dies, and starts the next one.

use std::{future::pending, io, process::ExitStatus, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tacit_accounts::TunnelPool;
use tacit_messages::{ToForwarder, UnixSeconds, clock::Instant};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    forwarder::{Forwarder, ForwarderError},
    gateway_keys::GatewayKeys,
    hearing::{End, Hearing, SILENCE, Speaker},
    limits::Limits,
    outbox::Outbox,
    session_writer::SessionChange,
    starter::Starter,
};
use crate::{
    host::{HostError, Network},
    log,
};

/// How long the forwarder may take to end its sessions when the gateway stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A forwarder that lived as long as this died by accident, not by a fault at its start.
const PROVEN: Duration = Duration::from_secs(30);

/// The longest wait between two starts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What the supervisor works with.
pub(crate) struct Supervisor {
    /// How many threads of a forwarder carry packets.
    pub(crate) workers: usize,
    /// The tunnel networks.
    pub(crate) networks: TunnelPool,
    /// The host's network.
    pub(crate) network: Network,
    /// Where forwarders are started.
    pub(crate) starter: Arc<Starter>,
    /// The gateway's keys.
    pub(crate) keys: Arc<GatewayKeys>,
    /// Where revocations and answers to `WhoIs` are sent.
    pub(crate) outbox: Arc<Outbox>,
    /// Where what it says goes.
    pub(crate) hearing: Hearing,
}

/// Why there is no forwarder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The TUN driver could not be opened.
    #[error("opening the TUN driver")]
    NoDevice(#[source] io::Error),
    /// The tunnel could not be made.
    #[error(transparent)]
    Tunnel(#[from] HostError),
    /// The process did not become ready.
    #[error(transparent)]
    Forwarder(#[from] ForwarderError),
}

impl StartError {
    /// The reason without the addresses and names that a host's error may have.
    fn reason(&self) -> &'static str {
        match self {
            Self::NoDevice(_) => "the TUN driver cannot be opened",
            Self::Tunnel(HostError::PortTaken(_)) => "the UDP port is taken",
            Self::Tunnel(HostError::InterfaceExists(_)) => "the interface exists",
            Self::Tunnel(_) => "the tunnel cannot be made",
            Self::Forwarder(ForwarderError::Process(_)) => "there is no process to be had",
            Self::Forwarder(ForwarderError::Unsealed(_)) => "it cannot be sealed",
            Self::Forwarder(_) => "it did not say that it runs",
        }
    }
}

impl Supervisor {
    /// Makes the tunnel and starts a forwarder for it.
    ///
    /// # Errors
    /// If the tunnel cannot be made or the forwarder does not become ready.
    pub(crate) async fn start(&self) -> Result<Forwarder, StartError> {
        let blank = self.starter.devices(self.workers).await.map_err(StartError::NoDevice)?;
        let tunnel = self.network.open_tunnel(blank).await?;
        Ok(Forwarder::start(&self.starter, tunnel, &self.keys.first()).await?)
    }

    /// Keeps a forwarder running, `first` to begin with, until `stop` says so.
    pub(crate) async fn run(&self, first: Forwarder, stop: &mut watch::Receiver<bool>) {
        self.hearing.state.started(Some(first.pid()), UnixSeconds::now());
        let mut forwarder = first;
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let limits = Limits::new(self.addresses(), began);
            let limits = Arc::new(Mutex::new(limits));
            let number =
                self.outbox.attach(Arc::clone(forwarder.link()), Arc::clone(&limits)).await;
            self.keys.tell(&self.outbox).await;
            let speaker = Speaker { link: forwarder.link(), number, limits: &limits };
            match self.hearing.hear(speaker, stopped(stop)).await {
                End::Stopped => return self.stop(forwarder, number, &limits).await,
                end => self.bury(forwarder, end).await,
            }
            let wait = backoff.after(Instant::now().since(began));
            let next = tokio::select! {
                next = self.start_again(wait, &mut backoff) => next,
                () = stopped(stop) => return,
            };
            let restarts = self.hearing.state.restarted(Some(next.pid()), UnixSeconds::now());
            log::forwarder_restarted(restarts, next.pid());
            forwarder = next;
        }
    }

    /// How many addresses the tunnel network has; every session has one.
    fn addresses(&self) -> u32 {
        let host_bits = u32::BITS - u32::from(self.networks.v4().prefix_len());
        1_u32.checked_shl(host_bits).unwrap_or(u32::MAX)
    }

    /// Ends what is left of a forwarder that is dead, or that has to be killed, and its sessions.
    async fn bury(&self, forwarder: Forwarder, end: End) {
        let died_at = UnixSeconds::now();
        let status = match end {
            End::Closed | End::Stopped | End::Fault => forwarder.end().await,
            End::Silent => {
                log::forwarder_silent(SILENCE);
                forwarder.kill().await
            }
            End::Broken(error) => {
                log::link_failed(&error);
                forwarder.kill().await
            }
            End::Excess(excess) => {
                self.hearing.state.flagged();
                log::forwarder_flagged(excess.name());
                forwarder.kill().await
            }
        };
        self.all_ended(died_at, status).await;
    }

    async fn all_ended(&self, died_at: UnixSeconds, status: Option<ExitStatus>) {
        log::forwarder_died(status);
        self.outbox.detach().await;
        self.hearing.state.died();
        self.hearing.departures.lock().all_ended(Instant::now());
        self.hearing.sessions.write(SessionChange::AllEnded { at: died_at }).await;
    }

    async fn start_again(&self, wait: Duration, backoff: &mut Backoff) -> Forwarder {
        let mut wait = wait;
        loop {
            sleep(wait).await;
            match self.start().await {
                Ok(forwarder) => return forwarder,
                Err(error) => {
                    wait = backoff.after(Duration::ZERO);
                    log::forwarder_not_started(error.reason(), wait);
                }
            }
        }
    }

    /// Has the forwarder end its sessions and exit.
    async fn stop(&self, forwarder: Forwarder, number: u64, limits: &Mutex<Limits>) {
        let link = Arc::clone(forwarder.link());
        let farewell = async {
            let _ = link.send(&ToForwarder::Shutdown).await;
            self.hearing.hear(Speaker { link: &link, number, limits }, pending()).await
        };
        let status = match timeout(STOP_PATIENCE, farewell).await {
            Ok(End::Closed) => forwarder.end().await,
            _ => forwarder.kill().await,
        };
        if status.is_some_and(|status| status.success()) {
            self.outbox.detach().await;
            return self.hearing.state.died();
        }
        self.all_ended(UnixSeconds::now(), status).await;
    }
}

/// Waits until the gateway is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits between starts: none after an accident, longer and longer when forwarders die young.
#[derive(Debug, Default)]
struct Backoff {
    young_deaths: u32,
}

impl Backoff {
    /// How long to wait after a forwarder that lived for `age`.
    fn after(&mut self, age: Duration) -> Duration {
        if age >= PROVEN {
            self.young_deaths = 0;
        }
        let wait = match self.young_deaths {
            0 => Duration::ZERO,
            deaths => {
                Duration::from_millis(50).saturating_mul(1 << deaths.min(10)).min(LONGEST_WAIT)
            }
        };
        self.young_deaths += 1;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accident_is_mended_at_once_and_crash_loop_slows_down() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(PROVEN), Duration::ZERO);
        assert_eq!(backoff.after(Duration::ZERO), Duration::from_millis(100));
        assert_eq!(backoff.after(Duration::ZERO), Duration::from_millis(200));
        let later: Vec<_> = (0..20).map(|_| backoff.after(Duration::ZERO)).collect();
        assert_eq!(later.last(), Some(&LONGEST_WAIT));
        assert_eq!(backoff.after(PROVEN), Duration::ZERO);
    }
}
