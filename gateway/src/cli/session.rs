//! `tacit session`.

use clap::Subcommand;

use super::{
    RunningGateway,
    print::{Output, table},
};
use crate::admin::{ListSessions, Session};

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
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: SessionVerb) -> anyhow::Result<()> {
    let SessionVerb::List { account, output } = verb;
    output.print(&gateway.ask(ListSessions { account }).await?, |sessions| sessions_table(sessions))
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
