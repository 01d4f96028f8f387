//! `tacit staff`.

use clap::{Args, Subcommand};
use nix::unistd::{Uid, User};

use super::{
    RunningGateway,
    audit::Found,
    print::{Output, table},
};
use crate::admin::records::{ListStaffLog, PAGE, StaffEntry, VerifiedRecord, VerifyRecords};

#[derive(Subcommand)]
pub(super) enum StaffVerb {
    /// Show who of the staff looked at or changed which account's data, and when.
    #[command(after_help = "Examples:
  tacit staff log
  tacit staff log ann@example.org
  tacit staff log --after 1200 --json")]
    Log(LogArguments),

    /// See whether any entry of the staff log or the disclosure register was changed, removed, moved or cut off.
    ///
    /// The ends that this prints are worth noting outside of this machine: named in a later run, they show also what a
    /// malicious root could replace. Exit code 3 if something is wrong.
    #[command(after_help = "Examples:
  tacit staff verify
  tacit staff verify --noted 120:6f0c…    (an end that an earlier run printed)
  tacit staff verify --json")]
    Verify(VerifyArguments),
}

#[derive(Args)]
pub(super) struct LogArguments {
    /// E-mail address or number of an account [default: all].
    account: Option<String>,
    /// Only entries after the one of this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    after: u64,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct VerifyArguments {
    /// An end of the staff log that was noted before.
    #[arg(long, value_name = "END")]
    noted: Option<String>,
    /// An end of the disclosure register that was noted before.
    #[arg(long, value_name = "END")]
    noted_disclosures: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: StaffVerb) -> anyhow::Result<Found> {
    match verb {
        StaffVerb::Log(arguments) => {
            let entries = all_entries(gateway, arguments.account, arguments.after).await?;
            arguments.output.print(&entries, |entries| entries_table(entries))?;
            Ok(Found::Nothing)
        }
        StaffVerb::Verify(VerifyArguments { noted, noted_disclosures, output }) => {
            let records = gateway.ask(VerifyRecords { noted, noted_disclosures }).await?;
            output.print(&records, |records| records_table(records))?;
            let is_whole = records.iter().all(|record| record.fault.is_none());
            Ok(if is_whole { Found::Nothing } else { Found::Violation })
        }
    }
}

async fn all_entries(
    gateway: &RunningGateway<'_>,
    account: Option<String>,
    mut after: u64,
) -> anyhow::Result<Vec<StaffEntry>> {
    let mut entries = Vec::new();
    loop {
        let request = ListStaffLog { account: account.clone(), after };
        let page = gateway.ask(request).await?;
        let is_last = page.len() < PAGE as usize;
        after = page.last().map_or(after, |entry| entry.number);
        entries.extend(page);
        if is_last {
            return Ok(entries);
        }
    }
}

fn entries_table(entries: &[StaffEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        [
            entry.number.to_string(),
            entry.at.to_string(),
            user_text(entry.uid),
            entry.verb.clone(),
            entry.account.map_or_else(|| "-".into(), |account| account.to_string()),
            if entry.data.is_empty() { "-".into() } else { entry.data.clone() },
        ]
    });
    table(["ENTRY", "WHEN", "WHO", "VERB", "ACCOUNT", "DATA"], rows, "no entries")
}

/// The user's number, with the name that this host has for it now.
pub(super) fn user_text(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("{} ({uid})", user.name),
        _ => uid.to_string(),
    }
}

fn records_table(records: &[VerifiedRecord]) -> String {
    let rows = records.iter().map(|record| {
        [
            record.list.clone(),
            record.fault.clone().unwrap_or_else(|| "as written".into()),
            record.removed.map_or_else(|| "-".into(), |removed| removed.to_string()),
            record.end.clone().unwrap_or_else(|| "-".into()),
        ]
    });
    table(["LIST", "FOUND", "PAST THEIR TIME", "END"], rows, "no lists")
}
