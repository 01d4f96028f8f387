//! Removes once a day what is past its time. Of gateways that share a store one does, for all of them: it may write the
//! tables anew, for which the others wait.

use std::{sync::Arc, time::Duration};

use tacit_accounts::{PastItsTime, Store, StoreError, Turn};
use tacit_messages::UnixSeconds;
use tokio::{task::JoinHandle, time::interval};

use super::unwritten;
use crate::{
    config::{LiveSettings, Settings},
    log,
};

/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two purges at most.
pub(crate) const PURGE_INTERVAL: Duration = DAY;

/// Between two looks whether a purge is due, and how soon one that failed is tried again, also by another gateway.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60 * 60);

/// From one purge until the next is due: it is then found to be, and can fail once, within [`PURGE_INTERVAL`].
const UNTIL_NEXT: Duration = PURGE_INTERVAL.saturating_sub(BETWEEN_LOOKS.saturating_mul(3));

/// How long sessions are kept after their end.
pub(crate) fn keep_sessions(settings: &Settings) -> Duration {
    DAY * settings.keep_sessions
}

/// Purges when it is due, and at each look what waits in this gateway's data directory.
pub(crate) fn start(store: Store, settings: Arc<LiveSettings>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut looks = interval(BETWEEN_LOOKS);
        loop {
            looks.tick().await;
            let settings = settings.now();
            let kept = keep_sessions(&settings);
            match purge_if_due(&store, kept, UnixSeconds::now()).await {
                Ok(None) => {}
                Ok(Some(removed)) if removed.is_nothing() => {}
                Ok(Some(removed)) => log::purged(removed.sessions),
                Err(error) => {
                    log::not_purged(&error);
                    // Else it would be the first to find it due again, each time.
                    looks.reset_after(BETWEEN_LOOKS * 2);
                }
            }
            if let Err(error) = unwritten::remove_past(&settings.data_dir, kept, UnixSeconds::now())
            {
                log::not_purged(&error);
            }
        }
    })
}

/// Purges if it is due and this gateway's turn, or if sessions are kept for longer than this gateway says.
async fn purge_if_due(
    store: &Store,
    kept: Duration,
    now: UnixSeconds,
) -> Result<Option<PastItsTime>, StoreError> {
    // Others may keep them for longer, or this gateway until its settings were changed.
    let latest = now.minus(kept + PURGE_INTERVAL);
    let is_late = store.oldest_session_end().await?.is_some_and(|end| end <= latest);
    if !store.take_turn(Turn::Purge, BETWEEN_LOOKS, now).await? && !is_late {
        return Ok(None);
    }
    let removed = store.purge(kept, now).await?;
    store.end_turn(Turn::Purge, now.plus(UNTIL_NEXT)).await?;
    Ok(Some(removed))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tacit_accounts::{Confirmation, SessionChange, TunnelPool};
    use tacit_keys::{DataKey, DataKeys, PresharedKey, PrivateKey};
    use tacit_messages::ConnectingIp;

    use super::*;

    /// A store with a session that ended at `end`.
    async fn store(dir: &tempfile::TempDir, end: UnixSeconds) -> Store {
        let networks = ("10.66.0.0/16".parse().unwrap(), "fd66:7ac1:7::/64".parse().unwrap());
        let pool = TunnelPool::new(networks.0, networks.1).unwrap();
        let keys = DataKeys::new(DataKey::generate());
        let store = Store::open(&dir.path().join("store.sqlite"), pool, keys).await.unwrap();
        let email = "ann@example.org".parse().unwrap();
        let account = store.add_account(&email, Confirmation::OfAge, None, end).await.unwrap();
        let (name, key) = ("laptop".parse().unwrap(), PrivateKey::generate().public_key());
        let preshared_key = PresharedKey::generate();
        let device = store.add_device(account.id, &name, key, &preshared_key, end).await.unwrap();
        let connecting_ip = ConnectingIp::new(Ipv4Addr::LOCALHOST.into());
        let changes = [
            SessionChange::Began { device: device.id, connecting_ip, at: end },
            SessionChange::Ended { device: device.id, last_seen_at: end },
        ];
        store.session_recorder().await.unwrap().record(&changes, end).await.unwrap();
        store
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn purge_waits_for_its_turn_but_not_with_what_is_kept_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixSeconds::now();
        let store = store(&dir, now.minus(DAY * 10)).await;
        let removed = async |kept| {
            let removed = purge_if_due(&store, kept, now).await.unwrap();
            removed.map(|removed| removed.sessions)
        };
        assert_eq!(removed(DAY * 30).await, Some(0), "it is due at first");
        assert_eq!(removed(DAY * 30).await, None);
        assert_eq!(removed(DAY * 9 + BETWEEN_LOOKS).await, None, "it has a day");
        assert_eq!(removed(DAY * 7).await, Some(1));
    }
}
