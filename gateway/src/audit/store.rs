//! The store and the files around it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tacit_accounts::{Database, Inspection, PastItsTime};
use tacit_messages::UnixSeconds;

use super::{
    check::{Check, Finding},
    process::{Process, field},
    reading::{self, Reading, Unread},
};
use crate::{
    admin::AuditFacts,
    control::{retention::DAY, unwritten},
    database,
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "store-schema",
        meaning: "The store has exactly the columns that the inventory lists, and nothing that acts by itself.",
        by_hand: "{sql} .schema (psql: \\d); tacit inventory",
        judge: |evidence| reading::judge(&evidence.store.inspection, judge_schema),
    },
    Check {
        id: "store-retention",
        meaning: "Nothing that is kept for a time is kept for longer than the operator says: sessions, former values, unconfirmed addresses, letters, the staff log, the disclosure register, and what is there only for these.",
        by_hand: "{sql} \"SELECT min(ended_at) FROM sessions; SELECT min(quarantined_until) FROM freed_addresses; SELECT former_id FROM rotated_devices WHERE former_id NOT IN (SELECT device_id FROM sessions); SELECT min(keep_until) FROM archive; SELECT min(expires_at) FROM pending_addresses; SELECT min(queued_at) FROM letters WHERE rules_version IS NULL; SELECT min(at) FROM staff_log; SELECT min(at) FROM disclosures; SELECT id, cancelled_at FROM accounts WHERE cancelled_at IS NOT NULL\"",
        judge: |evidence| {
            reading::judge(&evidence.store.inspection, |inspection, finding| {
                let facts = &evidence.facts;
                finding.pass(format!(
                    "kept: sessions {} days, former values {}, records {}",
                    facts.keep_sessions, facts.keep_archive, facts.keep_records
                ));
                judge_retention(inspection.past_its_time, finding);
                judge_put_aside(&evidence.store.put_aside, latest_end(facts), finding);
            })
        },
    },
    Check {
        id: "file-modes",
        meaning: "The store, the keys and the settings are the gateway's alone.",
        by_hand: "ls -la {data} {config}; ls -l {socket}",
        judge: |evidence| {
            let user = user_of(&evidence.control);
            let mut finding = Finding::default();
            evidence.store.files.iter().for_each(|file| judge_file(file, user, &mut finding));
            finding
        },
    },
];

/// What was read of the store and its files.
pub(super) struct StoreFiles {
    inspection: Reading<Inspection>,
    /// Sealed changes of sessions that were put aside, and since when.
    put_aside: Vec<(PathBuf, UnixSeconds)>,
    files: Vec<Reading<File>>,
}

impl StoreFiles {
    /// Reads the store and looks at the files, as control sees them.
    pub(super) async fn read(facts: &AuditFacts, control: &Process) -> Self {
        let root = PathBuf::from(format!("/proc/{}/root", control.pid));
        let put_aside = unwritten::put_aside(&root.join(relative(&facts.data_dir)));
        Self {
            inspection: inspect(facts, &root).await,
            put_aside: put_aside.unwrap_or_default(),
            files: files(facts, &root),
        }
    }
}

/// Purging runs daily, so that a row may stay for a day more.
const UNTIL_PURGED: Duration = DAY;

/// Sessions that ended then or before should be gone.
fn latest_end(facts: &AuditFacts) -> UnixSeconds {
    UnixSeconds::now().minus(UNTIL_PURGED).minus(DAY * facts.keep_sessions)
}

async fn inspect(facts: &AuditFacts, root: &Path) -> Reading<Inspection> {
    let unread = |why: &dyn std::fmt::Display| Unread::new("the store", why);
    let database = match &facts.database {
        None => file(facts, root)?,
        Some((url, password_path)) => database::server(url, password_path.as_deref())
            .map(Database::Postgres)
            .map_err(|error| unread(&error))?,
    };
    let latest_quarantine = UnixSeconds::now().minus(UNTIL_PURGED);
    let latest_end = latest_end(facts);
    let latest_record = latest_quarantine.minus(DAY * facts.keep_records);
    Inspection::of(database, latest_end, latest_quarantine, latest_record)
        .await
        .map_err(|error| unread(&error))
}

/// The store's file, which must be the same here as where the gateway runs.
fn file(facts: &AuditFacts, root: &Path) -> Reading<Database> {
    let path = &facts.store;
    let unread = |why: &dyn std::fmt::Display| Unread::new("the store", why);
    let (theirs, ours) = (identity(&root.join(relative(path))), identity(path));
    if theirs.as_ref().map_err(|error| unread(error))?
        != ours.as_ref().map_err(|error| unread(error))?
    {
        return Err(unread(&"it is in another mount namespace; run this where the gateway runs"));
    }
    Ok(Database::from(path))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn judge_schema(inspection: &Inspection, finding: &mut Finding) {
    let listed = inspection.listed_columns();
    let columns = &inspection.columns;
    finding.pass(format!(
        "{} columns in the store, {} in the inventory",
        columns.len(),
        listed.len()
    ));
    for (table, column) in columns.difference(&listed) {
        finding.fail(format!("{table}.{column} is in the store and not in the inventory"));
    }
    for (table, column) in listed.difference(columns) {
        finding.fail(format!("{table}.{column} is in the inventory and not in the store"));
    }
    for (kind, name) in &inspection.programs {
        finding.fail(format!("the store has a {kind}, {name}"));
    }
}

fn judge_retention(past: PastItsTime, finding: &mut Finding) {
    for (table, rows) in past.by_table() {
        let text = format!("{table}: {rows} rows that were to go more than a day ago");
        finding.expect(rows == 0, text);
    }
}

fn judge_put_aside(
    put_aside: &[(PathBuf, UnixSeconds)],
    latest: UnixSeconds,
    finding: &mut Finding,
) {
    for (path, since) in put_aside {
        let text = format!("{}: sealed sessions that were not written", path.display());
        finding.expect(*since > latest, text);
    }
}

/// A file and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    path: PathBuf,
    mode: u32,
    owner: u32,
    /// What nobody but the owner may do.
    forbidden: u32,
}

/// To anybody else.
const ALL_OF_OTHERS: u32 = 0o077;
/// The admin socket is its group's too.
const ALL_OF_STRANGERS: u32 = 0o007;
/// Settings and names of files are no secret, but whoever writes them decides what the gateway does.
const WRITES_OF_OTHERS: u32 = 0o022;

/// The files that matter.
fn files(facts: &AuditFacts, root: &Path) -> Vec<Reading<File>> {
    let look = |path: &Path, forbidden| {
        let file = fs::symlink_metadata(root.join(relative(path)))
            .map_err(|error| Unread::new(path.display(), error))?;
        Ok(File { path: path.into(), mode: file.mode() & 0o7777, owner: file.uid(), forbidden })
    };
    // An operator's own directory may be one to look into; what is in it is not.
    let mut files = vec![look(&facts.data_dir, WRITES_OF_OTHERS)];
    match reading::directory(root.join(relative(&facts.data_dir))) {
        Ok(inside) => files.extend(inside.iter().filter_map(|path| {
            let path = facts.data_dir.join(path.file_name()?);
            // SQLite's own files come and go.
            look(&path, ALL_OF_OTHERS).ok().map(Ok)
        })),
        Err(unread) => files.push(Err(unread)),
    }
    files.extend(facts.data_key.iter().map(|path| look(path, ALL_OF_OTHERS)));
    files.push(look(&facts.socket, ALL_OF_STRANGERS));
    // Whether it should be there is the matter of `config-drift`.
    files.extend(look(&facts.config, WRITES_OF_OTHERS).ok().map(Ok));
    files
}

fn judge_file(file: &Reading<File>, user: Option<u32>, finding: &mut Finding) {
    match file {
        Ok(File { path, mode, owner, forbidden }) => {
            let is_private = mode & forbidden == 0;
            let is_ours = *owner == 0 || Some(*owner) == user;
            let path = path.display();
            finding.expect(is_private && is_ours, format!("{path}: mode {mode:04o}, owner {owner}"))
        }
        Err(unread) => finding.warn(unread.to_string()),
    };
}

/// The user that a process runs as.
pub(super) fn user_of(process: &Process) -> Option<u32> {
    let status = process.threads.as_ref().ok()?.first()?;
    field(status, "Uid")?.first()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    fn schema(change: impl FnOnce(&mut Inspection)) -> Verdict {
        let mut inspection = Inspection::default();
        inspection.columns = inspection.listed_columns();
        change(&mut inspection);
        let mut finding = Finding::default();
        judge_schema(&inspection, &mut finding);
        finding.verdict()
    }

    #[test]
    fn column_too_many_or_too_few_is_a_violation() {
        assert_eq!(schema(|_| {}), Verdict::Pass);
        let destination = ("sessions".into(), "destination".into());
        assert_eq!(schema(|store| store.columns.extend([destination])), Verdict::Fail);
        assert_eq!(schema(|store| assert!(store.columns.pop_first().is_some())), Verdict::Fail);
    }

    #[test]
    fn trigger_is_a_violation() {
        let trigger = ("trigger".into(), "copy_sessions".into());
        assert_eq!(schema(|store| store.programs.push(trigger)), Verdict::Fail);
    }

    #[test]
    fn row_past_its_time_is_a_violation() {
        let judged = |past| {
            let mut finding = Finding::default();
            judge_retention(past, &mut finding);
            finding.verdict()
        };
        let nothing = PastItsTime::default();
        assert_eq!(judged(nothing), Verdict::Pass);
        assert_eq!(judged(PastItsTime { sessions: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { former_numbers: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { quarantines: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { archived: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { letters: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { unconfirmed: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { accounts: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { staff_entries: 1, ..nothing }), Verdict::Fail);
        assert_eq!(judged(PastItsTime { disclosures: 1, ..nothing }), Verdict::Fail);
    }

    #[test]
    fn sessions_put_aside_past_their_time_are_a_violation() {
        let judged = |since| {
            let mut finding = Finding::default();
            let put_aside = [("/data/sessions.unread.7".into(), UnixSeconds(since))];
            judge_put_aside(&put_aside, UnixSeconds(7), &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(8), Verdict::Pass);
        assert_eq!(judged(7), Verdict::Fail);
    }

    #[test]
    fn file_that_others_can_use_is_a_violation() {
        let judged = |mode, owner, forbidden| {
            let mut finding = Finding::default();
            let file = File { path: "/x".into(), mode, owner, forbidden };
            judge_file(&Ok(file), Some(65_528), &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(0o600, 0, ALL_OF_OTHERS), Verdict::Pass);
        assert_eq!(judged(0o600, 65_528, ALL_OF_OTHERS), Verdict::Pass);
        assert_eq!(judged(0o600, 1000, ALL_OF_OTHERS), Verdict::Fail);
        assert_eq!(judged(0o640, 0, ALL_OF_OTHERS), Verdict::Fail);
        assert_eq!(judged(0o660, 0, ALL_OF_STRANGERS), Verdict::Pass);
        assert_eq!(judged(0o662, 0, ALL_OF_STRANGERS), Verdict::Fail);
        assert_eq!(judged(0o644, 0, WRITES_OF_OTHERS), Verdict::Pass);
        assert_eq!(judged(0o664, 0, WRITES_OF_OTHERS), Verdict::Fail);
    }
}
