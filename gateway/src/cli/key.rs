//! `tacit key`.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::{
    RunningGateway,
    print::{Output, pairs},
};
use crate::admin::keys::{
    DataKeyStatus, GatewayKeyStatus, KeysStatus, RetireGatewayKey, RotateDataKey, RotateGatewayKey,
    ShowKeys,
};

/// Between two looks at how far the gateway is.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(super) enum KeyVerb {
    /// Make a new data key, or a new key of the gateway's own.
    ///
    /// Everything in the store is sealed with a new data key, then the former one is removed. The gateway goes on working
    /// meanwhile. If it is stopped or killed, its next start carries on.
    ///
    /// A new gateway key is in all client configs that are made from then on. Clients with the former one stay connected and
    /// can connect until it is retired, so that their customers have time to change one line.
    #[command(after_help = "Examples:
  tacit key rotate
  tacit key rotate --wait
  tacit key rotate --gateway
  tacit key show")]
    Rotate(RotateArguments),

    /// Answer the gateway's former key no longer: who still uses it can connect no more.
    #[command(after_help = "Examples:
  tacit key show            # how many sessions use the former key?
  tacit key retire
  tacit key retire --force  # cut off those that do")]
    Retire {
        /// Also if sessions that use the former key are cut off by that.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        output: Output,
    },

    /// Show which keys are in use, and how far a change of them is.
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
    /// Show the progress and return when nothing is sealed with the former data key.
    #[arg(long, conflicts_with = "gateway")]
    wait: bool,
    /// Make a new key of the gateway's own instead, and answer the former one too.
    #[arg(long)]
    gateway: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: KeyVerb) -> anyhow::Result<()> {
    match verb {
        KeyVerb::Rotate(RotateArguments { gateway: true, output, .. }) => {
            let status = gateway.ask(RotateGatewayKey {}).await?;
            eprintln!(
                "configs that were made before have the former key; it works until `tacit key retire`"
            );
            output.print(&status, gateway_text)
        }
        KeyVerb::Rotate(RotateArguments { wait, output, .. }) => {
            let mut status = gateway.ask(RotateDataKey {}).await?;
            if wait {
                status = follow(gateway, status).await?;
            }
            output.print(&status, data_text)
        }
        KeyVerb::Retire { force, output } => {
            output.print(&gateway.ask(RetireGatewayKey { force }).await?, gateway_text)
        }
        KeyVerb::Show { output } => output.print(&gateway.ask(ShowKeys {}).await?, text),
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
        status = gateway.ask(ShowKeys {}).await?.data;
        anyhow::ensure!(
            !status.failed,
            "sealing anew failed; the gateway's log says why, and it tries again by itself"
        );
    }
    bar.finish_and_clear();
    Ok(status)
}

fn text(status: &KeysStatus) -> String {
    pairs(data_lines(&status.data).into_iter().chain(gateway_lines(&status.gateway)))
}

fn data_text(status: &DataKeyStatus) -> String {
    pairs(data_lines(status))
}

fn gateway_text(status: &GatewayKeyStatus) -> String {
    pairs(gateway_lines(status))
}

fn data_lines(status: &DataKeyStatus) -> Vec<(&'static str, String)> {
    let change = match (status.changing, status.failed) {
        (false, _) => "none".into(),
        (true, false) => format!("{} of {} values sealed anew", status.done, status.total),
        (true, true) => "failed, is tried again; see the gateway's log".into(),
    };
    vec![("data key", status.key.clone()), ("change", change)]
}

fn gateway_lines(status: &GatewayKeyStatus) -> Vec<(&'static str, String)> {
    let mut lines = vec![("gateway key", status.gateway_key.to_string())];
    if let Some(former) = status.former_gateway_key {
        let sessions = status.former_gateway_key_sessions;
        lines.push(("former key", former.to_string()));
        lines.push(("in use by", format!("{sessions} sessions")));
    }
    lines
}
