//! `tacit key`.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::{
    RunningGateway,
    print::{Output, pairs},
};
use crate::admin::{DataKeyStatus, RotateDataKey, ShowDataKey};

/// Between two looks at how far the gateway is.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(super) enum KeyVerb {
    /// Make a new data key, seal everything in the store with it, then remove the former one.
    ///
    /// The gateway goes on working meanwhile. If it is stopped or killed, its next start carries on.
    #[command(after_help = "Examples:
  tacit key rotate
  tacit key rotate --wait
  tacit key show")]
    Rotate(RotateArguments),

    /// Show which data key is in use, and how far a change of it is.
    #[command(after_help = "Examples:
  tacit key show
  tacit key show --json")]
    Show {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct RotateArguments {
    /// Show the progress and return when nothing is sealed with the former key.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: KeyVerb) -> anyhow::Result<()> {
    match verb {
        KeyVerb::Rotate(RotateArguments { wait, output }) => {
            let mut status = gateway.ask(RotateDataKey {}).await?;
            if wait {
                status = follow(gateway, status).await?;
            }
            output.print(&status, text)
        }
        KeyVerb::Show { output } => output.print(&gateway.ask(ShowDataKey {}).await?, text),
    }
}

/// Draws the progress on stderr until it is done.
async fn follow(
    gateway: &RunningGateway<'_>,
    mut status: DataKeyStatus,
) -> anyhow::Result<DataKeyStatus> {
    let style = ProgressStyle::with_template("sealing anew {bar:40} {pos} of {len}, {eta} left")?;
    let bar = ProgressBar::new(status.total).with_style(style);
    while status.changing {
        bar.set_length(status.total);
        bar.set_position(status.done);
        sleep(INTERVAL).await;
        status = gateway.ask(ShowDataKey {}).await?;
        anyhow::ensure!(
            !status.failed,
            "sealing anew failed; the gateway's log says why, and it tries again by itself"
        );
    }
    bar.finish_and_clear();
    Ok(status)
}

fn text(status: &DataKeyStatus) -> String {
    let change = match (status.changing, status.failed) {
        (false, _) => "none".into(),
        (true, false) => format!("{} of {} values sealed anew", status.done, status.total),
        (true, true) => "failed, is tried again; see the gateway's log".into(),
    };
    pairs([("data key", status.key.clone()), ("change", change)])
}
