//! Rows of many people and gateways as the store itself would write them, sealed with its key, but copied in at once.

use std::fmt::Write;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rand_core::{OsRng, RngCore};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tacit_keys::{DataKey, data_key::Place};
use tacit_messages::UnixSeconds;

/// Devices of an account.
pub(super) const DEVICES_OF_ACCOUNT: u64 = 2;
/// One of so many devices is connected.
pub(super) const DEVICES_OF_LIVE: u64 = 10;
/// Length of an e-mail address as it is sealed.
const SEALED_EMAIL: usize = 64;
/// How much is sent at once, in bytes.
const CHUNK: usize = 256 * 1024;
const DAY: u64 = 24 * 60 * 60;

/// Writes rows to an empty store.
pub(super) struct Rows {
    connection: PgConnection,
    key: DataKey,
    now: u64,
}

impl Rows {
    pub(super) async fn of(url: &str, key: DataKey) -> Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        // The rows refer to rows that are there. Looking for each takes longer than to write them.
        connection.execute("SET session_replication_role = replica").await?;
        Ok(Self { connection, key, now: UnixSeconds::now().0 })
    }

    /// Accounts whose service runs without end.
    pub(super) async fn add_accounts(&mut self, count: u64) -> Result<()> {
        let (key, now) = (self.key.clone(), self.now);
        let columns = "accounts (email, email_hash, confirmation, created_at, service_until)";
        self.copy(columns, count, |row, number| {
            let mut email = format!("customer{number}@mail.example.org").into_bytes();
            let hash = key.look_up_hash("accounts.email", &email);
            email.resize(SEALED_EMAIL, 0);
            row.bytes(&key.seal(place("accounts", "email", number), &email)).bytes(&hash);
            row.text("of-age").number(now).null().end();
        })
        .await?;
        let sql =
            "INSERT INTO services (account_id, name, ends_at) SELECT id, 'vpn', NULL FROM accounts";
        self.connection.execute(sql).await?;
        Ok(())
    }

    /// Devices of the accounts in turn. Returns the public keys of `some` of them, from all over the table.
    pub(super) async fn add_devices(&mut self, count: u64, some: u64) -> Result<Vec<[u8; 32]>> {
        let (key, now, mut kept) = (self.key.clone(), self.now, Vec::new());
        let between = (count / some.max(1)).max(1);
        let columns =
            "devices (id, account_id, name, public_key, preshared_key, address_offset, created_at)";
        self.copy(columns, count, |row, number| {
            let (mut public_key, mut preshared_key) = ([0; 32], [0; 32]);
            OsRng.fill_bytes(&mut public_key);
            OsRng.fill_bytes(&mut preshared_key);
            if number % between == 0 {
                kept.push(public_key);
            }
            let account = (number - 1) / DEVICES_OF_ACCOUNT + 1;
            row.number(number).number(account).text(&format!("device {number}"));
            row.bytes(&public_key);
            row.bytes(&key.seal(place("devices", "preshared_key", number), &preshared_key));
            row.number(number + 1).number(now).end();
        })
        .await?;
        let sql = format!(
            "UPDATE tunnel_pool SET next_offset = next_offset + {count}, next_device_id = next_device_id + {count}"
        );
        self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(kept)
    }

    /// Gateways with all that they say of themselves, beside the first one, which is there.
    pub(super) async fn add_gateways(&mut self, count: u64) -> Result<()> {
        // None of them is to be taken for dead while others are measured.
        let alive_at = self.now + DAY;
        let columns = "gateways (name, identity, last_alive_at, region, public_key, endpoint, dns, mtu, capacity)";
        self.copy(columns, count - 1, |row, number| {
            let mut public_key = [0; 32];
            OsRng.fill_bytes(&mut public_key);
            row.text(&name(number + 1)).text(&identity(number + 1)).number(alive_at);
            row.text(&format!("Region {}", number % 100)).bytes(&public_key);
            row.text(&format!("gateway{number}.example.org:51820"));
            row.text("9.9.9.9,2620:fe::fe").number(1420).number(1000).end();
        })
        .await
    }

    /// One former session of each device, over the last 29 days.
    pub(super) async fn add_ended_sessions(&mut self, devices: u64) -> Result<()> {
        let first = self.now - 29 * DAY;
        let step = (28 * DAY) as f64 / devices as f64;
        self.add_sessions(devices, |number| {
            let began_at = first + (number as f64 * step) as u64;
            Session { device: number, began_at, ended_at: Some(began_at + 3600), gateway: None }
        })
        .await
    }

    /// Open sessions of some of the devices, which are at the gateways in turn.
    pub(super) async fn add_open_sessions(&mut self, devices: u64, gateways: u64) -> Result<()> {
        let now = self.now;
        self.add_sessions(devices / DEVICES_OF_LIVE, |number| Session {
            device: number * DEVICES_OF_LIVE,
            began_at: now,
            ended_at: None,
            gateway: Some(number % gateways + 1),
        })
        .await
    }

    async fn add_sessions(&mut self, count: u64, of: impl Fn(u64) -> Session) -> Result<()> {
        let key = self.key.clone();
        let next = "SELECT CAST(COALESCE(MAX(id), 0) AS BIGINT) FROM sessions";
        let last: i64 = sqlx::query_scalar(next).fetch_one(&mut self.connection).await?;
        let columns =
            "sessions (account_id, device_id, connecting_ip, began_at, ended_at, gateway_id)";
        self.copy(columns, count, |row, number| {
            let Session { device, began_at, ended_at, gateway } = of(number);
            let ip = u128::from(OsRng.next_u32() | 1).to_be_bytes();
            let id = last.unsigned_abs() + number;
            row.number((device - 1) / DEVICES_OF_ACCOUNT + 1).number(device);
            row.bytes(&key.seal(place("sessions", "connecting_ip", id), &ip)).number(began_at);
            row.perhaps(ended_at).perhaps(gateway).end();
        })
        .await
    }

    /// Has the server know its tables, as it would after a while.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.connection.execute("VACUUM (ANALYZE)").await?;
        self.connection.execute("CHECKPOINT").await?;
        Ok(self.connection.close().await?)
    }

    /// Copies rows numbered from 1, in the text form of COPY.
    async fn copy(
        &mut self,
        columns: &str,
        count: u64,
        mut write: impl FnMut(&mut Row, u64),
    ) -> Result<()> {
        let table = columns.split_whitespace().next().unwrap_or_default().to_owned();
        let bar = progress(&table, count)?;
        let statement = format!("COPY {columns} FROM STDIN");
        let mut copy = self.connection.copy_in_raw(&statement).await?;
        let mut row = Row { text: String::with_capacity(2 * CHUNK) };
        for number in 1..=count {
            write(&mut row, number);
            if row.text.len() >= CHUNK || number == count {
                copy.send(row.text.as_bytes()).await?;
                row.text.clear();
                bar.set_position(number);
            }
        }
        copy.finish().await.with_context(|| format!("writing rows of {table}"))?;
        bar.finish_and_clear();
        Ok(())
    }
}

/// A session's row.
struct Session {
    device: u64,
    began_at: u64,
    ended_at: Option<u64>,
    gateway: Option<u64>,
}

/// What the gateway of this number is called; the first is there from the start.
pub(super) fn name(number: u64) -> String {
    format!("gateway-{number}")
}

/// What tells the gateway of this number from others of its name.
pub(super) fn identity(number: u64) -> String {
    format!("{number:032x}")
}

fn place(table: &'static str, column: &'static str, row: u64) -> Place {
    Place { table, column, row: row.cast_signed() }
}

fn progress(table: &str, count: u64) -> Result<ProgressBar> {
    let style = "{msg} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta}";
    let bar = ProgressBar::new(count).with_style(ProgressStyle::with_template(style)?);
    Ok(bar.with_message(table.to_owned()))
}

/// Rows in the text form of COPY, column by column.
struct Row {
    text: String,
}

impl Row {
    /// A text without tabs, line ends and backslashes.
    fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self.text.push('\t');
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        // Writing to a text cannot fail.
        let _ = write!(self.text, "{number}\t");
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.text.push_str("\\\\x");
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                self.text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        self.text("")
    }

    fn null(&mut self) -> &mut Self {
        self.text("\\N")
    }

    fn perhaps(&mut self, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.number(number),
            None => self.null(),
        }
    }

    fn end(&mut self) {
        self.text.pop();
        self.text.push('\n');
    }
}
