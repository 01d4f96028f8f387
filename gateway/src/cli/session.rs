//! `tacit session`.

use clap::{Args, Subcommand};

use super::{
    RunningGateway,
    print::{Output, pairs, table},
};
use crate::admin::{ListSessions, Purge, Purged, Session};

#[derive(Subcommand)]
pub(super) enum SessionVerb {
    /// List an account's sessions: all that is recorded of its use.
    #[command(after_help = "Examples:
  tacit session list ann@example.org
  tacit session list 17 --json")]
    List {
        /// E-mail address or number of the account.
        account: String,
        #[command(flatten)]
        output: Output,
    },

    /// Show what is past its time; with --yes, remove it from the store and the bytes of its files.
    ///
    /// The running gateway does the same once a day. How long sessions are kept is its setting `keep-sessions`.
    #[command(after_help = "Examples:
  tacit session purge
  tacit session purge --yes")]
    Purge(PurgeArguments),
}

#[derive(Args)]
pub(super) struct PurgeArguments {
    /// Remove it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: SessionVerb) -> anyhow::Result<()> {
    match verb {
        SessionVerb::List { account, output } => {
            let sessions = gateway.ask(ListSessions { account }).await?;
            output.print(&sessions, |sessions| sessions_table(sessions))
        }
        SessionVerb::Purge(PurgeArguments { yes, output }) => {
            output.print(&gateway.ask(Purge { remove: yes }).await?, purged_text)
        }
    }
}

fn purged_text(purged: &Purged) -> String {
    let rows = pairs([
        ("sessions that ended by", purged.latest_end.to_string()),
        ("sessions", purged.sessions.to_string()),
        ("former device numbers", purged.former_numbers.to_string()),
        ("quarantines of addresses", purged.quarantines.to_string()),
        ("former values", purged.archived.to_string()),
        ("unconfirmed addresses", purged.unconfirmed.to_string()),
        ("cancelled accounts", purged.accounts.to_string()),
        ("staff log entries", purged.staff_entries.to_string()),
        ("disclosures", purged.disclosures.to_string()),
        ("letters never sent", purged.letters.to_string()),
    ]);
    let outcome = match purged.removed {
        true => "removed from the store and the bytes of its files",
        false => "nothing is removed yet; `tacit session purge --yes` removes these",
    };
    format!("{rows}\n{outcome}")
}

fn sessions_table(sessions: &[Session]) -> String {
    let rows = sessions.iter().map(|session| {
        [
            session.device.clone().unwrap_or_else(|| "(removed)".into()),
            session.connecting_ip.to_string(),
            session.began_at.to_string(),
            session.ended_at.map_or_else(|| "now connected".into(), |ended| ended.to_string()),
        ]
    });
    table(["DEVICE", "CONNECTING IP", "BEGAN", "ENDED"], rows, "no sessions")
}
