//! How long it takes the store to do something, alone and for several gateways at once.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tacit_messages::clock::Instant;
use tokio::task::JoinSet;

/// How long each of many turns took, the shortest first.
pub(super) struct Times {
    sorted: Vec<Duration>,
    all: Duration,
}

impl Times {
    fn new(mut times: Vec<Duration>, all: Duration) -> Self {
        times.sort();
        Self { sorted: times, all }
    }

    /// Microseconds that this many of a thousand turns stayed below.
    pub(super) fn micros(&self, of_thousand: usize) -> f64 {
        let place = self.sorted.len() * of_thousand / 1000;
        let time = self.sorted.get(place).or(self.sorted.last());
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    /// Turns a second.
    pub(super) fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.all.as_secs_f64()
    }
}

/// Has all of `workers` take turns at once for `time`. `act` gets the worker and the number of its turn.
pub(super) async fn take_turns<W, A, F>(workers: &[Arc<W>], time: Duration, act: A) -> Result<Times>
where
    W: Send + Sync + 'static,
    A: Fn(Arc<W>, usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let began_at = Instant::now();
    let mut running = JoinSet::new();
    for worker in workers {
        let (worker, act) = (Arc::clone(worker), act.clone());
        running.spawn(async move {
            let mut times = Vec::new();
            while Instant::now().since(began_at) < time {
                let turn_began_at = Instant::now();
                act(Arc::clone(&worker), times.len()).await?;
                times.push(Instant::now().since(turn_began_at));
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    Ok(Times::new(times, Instant::now().since(began_at)))
}
