//! `tacit backup` and `tacit restore`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use age::x25519;
use anyhow::{Context, anyhow, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::getuid;
use serde::Serialize;
use tacit_accounts::{
    Database,
    backup::{BackupError, Counting, Restoration, Restored, Summary},
};
use tacit_keys::DataKeys;
use tacit_messages::UnixSeconds;

use super::{
    RunningGateway, password,
    print::{Output, pairs},
    sealed_file::{self, Seal, Secret},
};
use crate::{
    admin::{self, client},
    config::{self, Places, StoreOverrides},
    control::{data_dir::DataDir, data_key},
    database,
    rfc3339::Rfc3339,
};

#[derive(Args)]
pub(super) struct BackupArguments {
    /// File to make; there must be none of that name.
    file: PathBuf,
    /// Public key of somebody who shall be able to open it, as age-keygen prints it; repeatable.
    #[arg(long, value_name = "AGE1…", conflicts_with = "passphrase_file")]
    recipient: Vec<String>,
    /// File (mode 0600) whose first line is a passphrase [default: it is asked for].
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct RestoreArguments {
    /// Backup to restore.
    file: PathBuf,
    /// File (mode 0600) with a key that the backup is for, as age-keygen makes it.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity_file: Option<PathBuf>,
    /// File (mode 0600) whose first line is the passphrase [default: it is asked for].
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Put the backup in the place of the store that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    store: StoreOverrides,
}

/// What is in a backup, as it is printed.
#[derive(Serialize)]
struct Report {
    made_at: Rfc3339,
    accounts: u64,
    rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_letters: Option<u64>,
}

impl Report {
    fn new(summary: Summary, held_letters: Option<u64>) -> Self {
        let made_at = UnixSeconds(summary.at).into();
        Self { made_at, accounts: summary.accounts, rows: summary.rows, held_letters }
    }

    fn text(&self, closing: &str) -> String {
        let rows = pairs([
            ("made", self.made_at.to_string()),
            ("accounts", self.accounts.to_string()),
            ("rows", self.rows.to_string()),
        ]);
        format!("{rows}\n{closing}")
    }
}

const KEY_APART: &str = "written and read back. The data key is not in it, nor are the gateway's key and tacit.toml: keep them too, and the \
data key apart from the backup, which nothing else opens";

pub(super) async fn back_up(
    gateway: &RunningGateway<'_>,
    arguments: BackupArguments,
) -> anyhow::Result<()> {
    let BackupArguments { file, recipient, passphrase_file, output } = arguments;
    let seal = match passphrase_file {
        Some(path) => Seal::Passphrase(sealed_file::passphrase_in(&path)?),
        None if !recipient.is_empty() => Seal::Recipients(recipients(&recipient)?),
        None => Seal::Passphrase(sealed_file::passphrase(&password::read_new_passphrase()?)?),
    };
    let bar = progress("backing up", 0, "{pos} of {len} rows")?;
    let summary = sealed_file::write(&file, seal, async |out| {
        let mut counting = Counting::default();
        client::stream(gateway.socket_path, admin::backup::PATH, |piece| {
            counting.take(piece);
            let (rows, all) = counting.progress();
            bar.set_length(all);
            bar.set_position(rows);
            Ok(out.write_all(piece)?)
        })
        .await?;
        counting.finish().map_err(|error| match error {
            BackupError::CutOff => anyhow!("the gateway could not finish; its log says why"),
            error => error.into(),
        })
    })
    .await?;
    bar.finish_and_clear();
    output.print(&Report::new(summary, None), |report| report.text(KEY_APART))
}

fn recipients(texts: &[String]) -> anyhow::Result<Vec<x25519::Recipient>> {
    let parsed = texts.iter().map(|text| {
        text.parse().map_err(|_| {
            anyhow!("a recipient is a public key that begins with age1; age-keygen makes one")
        })
    });
    parsed.collect()
}

pub(super) async fn restore(places: &Places, arguments: RestoreArguments) -> anyhow::Result<()> {
    let RestoreArguments { file, identity_file, passphrase_file, force, output, store } = arguments;
    let settings = config::load(places, &store)?.settings;
    let database = database::of(&settings)?;
    let _data_dir = DataDir::take(&settings.data_dir)?;
    if let Database::Sqlite(path) = &database {
        ensure!(force || !path.exists(), BackupError::StoreExists);
    }
    let key_path = data_key::path(&settings);
    let keys = DataKeys::load(&key_path)?.with_context(|| {
        format!(
            "the data key {} is missing; put it there first, because no backup has it",
            key_path.display()
        )
    })?;
    let secret = match (identity_file, passphrase_file) {
        (Some(path), _) => Secret::Key(sealed_file::key_in(&path)?),
        (None, Some(path)) => Secret::Passphrase(sealed_file::passphrase_in(&path)?),
        (None, None) => {
            Secret::Passphrase(sealed_file::passphrase(&password::read("Passphrase: ")?)?)
        }
    };
    // All of it once before anything is written: a file that was changed or cut off shows at its end.
    check(&mut lines(&file, &secret, "checking")?)?;
    let mut lines = lines(&file, &secret, "restoring")?;
    let restoration = Restoration { database, keys, replaces: force, uid: getuid().as_raw() };
    let restored = carry_out(restoration, &mut lines).await?;
    let report = Report::new(restored.backup, Some(restored.held_letters));
    output.print(&report, |report| report.text(&closing(&restored)))
}

/// The lines of a backup; a bar shows how far they were read.
fn lines(
    path: &Path,
    secret: &Secret,
    doing: &'static str,
) -> anyhow::Result<BufReader<impl io::Read + Send + use<>>> {
    let bar = progress(doing, 0, "{percent} %, {eta} left")?;
    let plain = sealed_file::open(path, secret, |file, length| {
        bar.set_length(length);
        bar.wrap_read(file)
    })?;
    Ok(BufReader::new(plain))
}

fn progress(doing: &'static str, length: u64, figures: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(&format!("{doing} {{bar:40}} {figures}"))?;
    Ok(ProgressBar::new(length).with_style(style))
}

fn check(lines: &mut impl BufRead) -> anyhow::Result<()> {
    let mut counting = Counting::default();
    loop {
        let piece = lines.fill_buf().map_err(BackupError::Read)?;
        if piece.is_empty() {
            counting.finish()?;
            return Ok(());
        }
        counting.take(piece);
        let length = piece.len();
        lines.consume(length);
    }
}

fn closing(restored: &Restored) -> String {
    let held = match restored.held_letters {
        0 => String::new(),
        letters => format!(
            "{letters} letters that tell of rules were not sent when the backup was made. They may have been since, so they \
             are held; `tacit notice retry` sends them.\n"
        ),
    };
    format!("{held}restored; start the gateway with `tacit run`")
}

async fn carry_out(
    restoration: Restoration,
    lines: &mut (dyn BufRead + Send),
) -> anyhow::Result<Restored> {
    let now = UnixSeconds::now();
    let Database::Sqlite(path) = restoration.database.clone() else {
        return Ok(restoration.carry_out(lines, now).await?);
    };
    // Made beside its place, which it gets in one step.
    let draft_path = path.with_extension("sqlite.restoring");
    remove(&store_files(&draft_path))?;
    let draft = Database::Sqlite(draft_path.clone());
    let restored = Restoration { database: draft, ..restoration }.carry_out(lines, now).await;
    let placed = restored.map_err(Into::into).and_then(|restored| {
        place(&draft_path, &path).context("putting the restored store in its place")?;
        Ok(restored)
    });
    remove(&store_files(&draft_path))?;
    placed
}

/// Puts a closed store in the place of another, whose companions must not be taken for its own.
fn place(draft_path: &Path, path: &Path) -> anyhow::Result<()> {
    File::open(draft_path)?.sync_all()?;
    remove(&store_files(path)[1..])?;
    fs::rename(draft_path, path)?;
    Ok(File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?)
}

fn remove(files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A store of SQLite and its companions.
fn store_files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut file = path.as_os_str().to_owned();
        file.push(end);
        file.into()
    })
}
