//! The gateways that share the store, as those who operate them see and direct them.

use tacit_messages::UnixSeconds;

use crate::{
    Deed, PRESUMED_DEAD_AFTER, Store, StoreError,
    times::{read_time, time_column},
};

/// A gateway that shares the store, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetGateway {
    /// What it is called.
    pub name: String,
    /// Whether it is the one that was asked.
    pub is_this: bool,
    /// Whether it was heard of lately.
    pub runs: bool,
    /// When it was last heard of.
    pub last_alive_at: Option<UnixSeconds>,
    /// Whether its clients are to leave it.
    pub is_draining: bool,
    /// For how many sessions it is meant, if it says so.
    pub capacity: Option<u32>,
    /// Sessions at it that have not ended.
    pub sessions: u64,
}

/// Number, name, last sign of life, whether it is drained, capacity, open sessions.
type Row = (i64, String, Option<i64>, i64, Option<i64>, i64);

impl Store {
    /// All gateways by name.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn fleet(&self, now: UnixSeconds) -> Result<Vec<FleetGateway>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, last_alive_at, draining, capacity,
                (SELECT COUNT(*) FROM sessions WHERE gateway_id = gateways.id AND ended_at IS NULL)
             FROM gateways ORDER BY name",
        )
        .fetch_all(self.reader())
        .await?;
        let latest = now.minus(PRESUMED_DEAD_AFTER);
        let gateway = |(id, name, last_alive_at, draining, capacity, sessions): Row| {
            let last_alive_at = last_alive_at.map(read_time);
            FleetGateway {
                name,
                is_this: id == self.gateway,
                runs: last_alive_at.is_some_and(|alive_at| alive_at > latest),
                last_alive_at,
                is_draining: draining != 0,
                capacity: capacity.and_then(|capacity| capacity.try_into().ok()),
                sessions: sessions.unsigned_abs(),
            }
        };
        Ok(rows.into_iter().map(gateway).collect())
    }

    /// Says for how many sessions this gateway is meant.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn note_capacity(&self, capacity: Option<u32>) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE gateways SET capacity = $1 WHERE id = $2")
            .bind(capacity.map(i64::from))
            .bind(self.gateway)
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    /// Whether this gateway's clients are to leave it.
    ///
    /// # Errors
    /// [`StoreError::Database`]
    pub async fn is_draining(&self) -> Result<bool, StoreError> {
        let sql = "SELECT draining FROM gateways WHERE id = $1";
        let draining: Option<i64> =
            sqlx::query_scalar(sql).bind(self.gateway).fetch_optional(self.reader()).await?;
        Ok(draining.is_some_and(|draining| draining != 0))
    }

    /// Has the clients of the gateway called `name` leave it, or stay.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGateway`]
    pub async fn set_draining(
        &self,
        name: &str,
        is_draining: bool,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let changed = sqlx::query("UPDATE gateways SET draining = $1 WHERE name = $2")
            .bind(i64::from(is_draining))
            .bind(name)
            .execute(write.connection())
            .await?
            .rows_affected();
        if changed == 0 {
            return Err(StoreError::NoSuchGateway);
        }
        let verb = if is_draining { "gateway drain" } else { "gateway resume" };
        self.note(&mut write, Deed { verb, account: None, data: &[] }, now).await?;
        write.have_gateways_look().await?;
        write.commit().await
    }

    /// Removes the gateway called `name`, which must not run. Its sessions end when it was last known to run, but none
    /// before it began. Returns how many did.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGateway`], [`StoreError::GatewayRuns`]
    pub async fn remove_gateway(&self, name: &str, now: UnixSeconds) -> Result<u64, StoreError> {
        let mut write = self.write().await?;
        let row: Option<(i64, Option<i64>)> =
            sqlx::query_as("SELECT id, last_alive_at FROM gateways WHERE name = $1")
                .bind(name)
                .fetch_optional(write.connection())
                .await?;
        let (id, last_alive_at) = row.ok_or(StoreError::NoSuchGateway)?;
        let latest = time_column(now.minus(PRESUMED_DEAD_AFTER));
        if id == self.gateway || last_alive_at.is_some_and(|alive_at| alive_at > latest) {
            return Err(StoreError::GatewayRuns);
        }
        let last = last_alive_at.unwrap_or(0);
        let ended = sqlx::query(
            "UPDATE sessions SET ended_at = CASE WHEN began_at > $1 THEN began_at ELSE $1 END
             WHERE gateway_id = $2 AND ended_at IS NULL",
        )
        .bind(last)
        .bind(id)
        .execute(write.connection())
        .await?
        .rows_affected();
        // Nobody is left who could correct them.
        for sql in [
            "UPDATE sessions SET gateway_id = NULL WHERE gateway_id = $1",
            "UPDATE letters SET gateway_id = NULL WHERE gateway_id = $1",
            "DELETE FROM gateways WHERE id = $1",
        ] {
            sqlx::query(sql).bind(id).execute(write.connection()).await?;
        }
        let deed = Deed { verb: "gateway remove", account: None, data: &[] };
        self.note(&mut write, deed, now).await?;
        write.commit().await?;
        Ok(ended)
    }
}
