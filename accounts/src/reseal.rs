//! Seals everything anew with another data key, a little at a time, while the store is in use.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tacit_keys::{DataKeys, data_key::sealing_key};

use crate::{
    EmailAddress, Store, StoreError, data_keys,
    personal::{
        ARCHIVED, CHAIN_STATE, CONNECTING_IP, CONSENT_RECIPIENT, EMAIL, LETTER, PASSWORD,
        PENDING_EMAIL, PENDING_PASSWORD, PRESHARED_KEY, RECIPIENT, REFERENCE, SealedColumn,
        email_hash,
    },
    store::Write,
};

/// How many rows are looked at in one change, so that nobody who writes meanwhile waits for long.
const BATCH: i64 = 500;

/// How far sealing anew is, in values.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// The values that are done, and how many there were at the begin.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(total), total)
    }
}

/// A sealed column and the statements that go through it.
struct Pass {
    column: SealedColumn,
    count: &'static str,
    select: &'static str,
    /// Counts the values of which the key's number is not $1.
    others: &'static str,
    update: &'static str,
}

const PASSES: [Pass; 12] = [
    Pass {
        column: EMAIL,
        count: "SELECT COUNT(*) FROM accounts",
        select: "SELECT id, email FROM accounts WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM accounts WHERE substr(email, 2, 4) != $1",
        update: "UPDATE accounts SET email = $1 WHERE id = $2",
    },
    Pass {
        column: PRESHARED_KEY,
        count: "SELECT COUNT(*) FROM devices",
        select: "SELECT id, preshared_key FROM devices WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM devices WHERE substr(preshared_key, 2, 4) != $1",
        update: "UPDATE devices SET preshared_key = $1 WHERE id = $2",
    },
    Pass {
        column: CONNECTING_IP,
        count: "SELECT COUNT(*) FROM sessions",
        select: "SELECT id, connecting_ip FROM sessions WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM sessions WHERE substr(connecting_ip, 2, 4) != $1",
        update: "UPDATE sessions SET connecting_ip = $1 WHERE id = $2",
    },
    Pass {
        column: PASSWORD,
        count: "SELECT COUNT(*) FROM accounts WHERE password IS NOT NULL",
        select: "SELECT id, password FROM accounts WHERE id > $1 AND password IS NOT NULL ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM accounts WHERE substr(password, 2, 4) != $1",
        update: "UPDATE accounts SET password = $1 WHERE id = $2",
    },
    Pass {
        column: PENDING_EMAIL,
        count: "SELECT COUNT(*) FROM pending_addresses",
        select: "SELECT id, email FROM pending_addresses WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM pending_addresses WHERE substr(email, 2, 4) != $1",
        update: "UPDATE pending_addresses SET email = $1 WHERE id = $2",
    },
    Pass {
        column: PENDING_PASSWORD,
        count: "SELECT COUNT(*) FROM pending_addresses WHERE password IS NOT NULL",
        select: "SELECT id, password FROM pending_addresses WHERE id > $1 AND password IS NOT NULL ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM pending_addresses WHERE substr(password, 2, 4) != $1",
        update: "UPDATE pending_addresses SET password = $1 WHERE id = $2",
    },
    Pass {
        column: ARCHIVED,
        count: "SELECT COUNT(*) FROM archive",
        select: "SELECT id, value FROM archive WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM archive WHERE substr(value, 2, 4) != $1",
        update: "UPDATE archive SET value = $1 WHERE id = $2",
    },
    Pass {
        column: CONSENT_RECIPIENT,
        count: "SELECT COUNT(*) FROM consents",
        select: "SELECT id, recipient FROM consents WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM consents WHERE substr(recipient, 2, 4) != $1",
        update: "UPDATE consents SET recipient = $1 WHERE id = $2",
    },
    Pass {
        column: REFERENCE,
        count: "SELECT COUNT(*) FROM disclosures",
        select: "SELECT number, reference FROM disclosures WHERE number > $1 ORDER BY number LIMIT $2",
        others: "SELECT COUNT(*) FROM disclosures WHERE substr(reference, 2, 4) != $1",
        update: "UPDATE disclosures SET reference = $1 WHERE number = $2",
    },
    Pass {
        column: RECIPIENT,
        count: "SELECT COUNT(*) FROM disclosures",
        select: "SELECT number, recipient FROM disclosures WHERE number > $1 ORDER BY number LIMIT $2",
        others: "SELECT COUNT(*) FROM disclosures WHERE substr(recipient, 2, 4) != $1",
        update: "UPDATE disclosures SET recipient = $1 WHERE number = $2",
    },
    Pass {
        column: CHAIN_STATE,
        count: "SELECT COUNT(*) FROM chains",
        select: "SELECT id, state FROM chains WHERE id > $1 ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM chains WHERE substr(state, 2, 4) != $1",
        update: "UPDATE chains SET state = $1 WHERE id = $2",
    },
    Pass {
        column: LETTER,
        count: "SELECT COUNT(*) FROM letters WHERE content IS NOT NULL",
        select: "SELECT id, content FROM letters WHERE id > $1 AND content IS NOT NULL ORDER BY id LIMIT $2",
        others: "SELECT COUNT(*) FROM letters WHERE substr(content, 2, 4) != $1",
        update: "UPDATE letters SET content = $1 WHERE id = $2",
    },
];

impl Store {
    /// The data keys that values are sealed with now.
    #[must_use]
    pub fn data_keys(&self) -> Arc<DataKeys> {
        self.keys()
    }

    /// Seals new values with the current one of `keys` from now on; they must be in their file already. If that fails when all
    /// but the server's answer was there, they are used all the same: try again until it succeeds.
    ///
    /// # Errors
    /// [`StoreError::WrongDataKey`] if there are values that none of them opens.
    pub async fn use_data_keys(&self, keys: DataKeys) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        data_keys::adopt(&mut write, &keys).await?;
        // Before the turn ends: nobody may seal with the former key once this is done. And so it stays if the server's answer is
        // lost, for it may have done it; these keys open everything either way.
        self.replace_keys(keys);
        write.commit().await
    }

    /// Seals with the current key what is sealed with a former one. What is done stays done if this is cut short.
    ///
    /// The former keys are used no more after that: nothing in the store's files is sealed with them.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn seal_anew(&self, progress: &Progress) -> Result<(), StoreError> {
        let mut total = 0;
        for pass in &PASSES {
            let count: i64 = sqlx::query_scalar(pass.count).fetch_one(self.reader()).await?;
            total += count.unsigned_abs();
        }
        progress.done.store(0, Ordering::Relaxed);
        progress.total.store(total, Ordering::Relaxed);
        for pass in &PASSES {
            let mut after = 0;
            while let Some(last) = self.seal_batch_anew(pass, after, progress).await? {
                after = last;
            }
        }
        self.forget_former_keys().await?;
        self.scrub_if_due().await
    }

    /// Removes the former keys' numbers, after a look whether really nothing is sealed with them.
    async fn forget_former_keys(&self) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let current = self.keys().current().id();
        for pass in &PASSES {
            let left: i64 = sqlx::query_scalar(pass.others)
                .bind(&current.0.to_be_bytes()[..])
                .fetch_one(write.connection())
                .await?;
            if left > 0 {
                return Err(StoreError::Corrupt(pass.column.name));
            }
        }
        data_keys::forget_others(&mut write, current).await?;
        write.make_scrub_due().await?;
        write.commit().await
    }

    /// Goes through the rows after the one numbered `after`, and returns the last one's number.
    async fn seal_batch_anew(
        &self,
        pass: &Pass,
        after: i64,
        progress: &Progress,
    ) -> Result<Option<i64>, StoreError> {
        let mut write = self.write_quickly().await?;
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(pass.select)
            .bind(after)
            .bind(BATCH)
            .fetch_all(write.connection())
            .await?;
        let keys = self.keys();
        for (row, sealed) in &rows {
            if sealing_key(sealed) != Some(keys.current().id()) {
                seal_row_anew(&mut write, &keys, pass, *row, sealed).await?;
            }
        }
        write.commit().await?;
        progress.done.fetch_add(rows.len() as u64, Ordering::Relaxed);
        Ok(rows.last().map(|(row, _)| *row))
    }
}

async fn seal_row_anew(
    write: &mut Write,
    keys: &DataKeys,
    pass: &Pass,
    row: i64,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let plaintext = pass.column.open(keys, row, sealed)?;
    sqlx::query(pass.update)
        .bind(keys.current().seal(pass.column.place(row), &plaintext))
        .bind(row)
        .execute(write.connection())
        .await?;
    if pass.column.name == EMAIL.name {
        // A cancelled account has no address, and a hash that is found by nothing.
        let text = pass.column.open_text(keys, row, sealed)?;
        let Ok(email) = EmailAddress::read(&text) else { return Ok(()) };
        sqlx::query("UPDATE accounts SET email_hash = $1 WHERE id = $2")
            .bind(email_hash(keys.current(), &email))
            .bind(row)
            .execute(write.connection())
            .await?;
    }
    Ok(())
}
