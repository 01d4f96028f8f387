//! `tacit gateway`.

use clap::Subcommand;

use super::{
    RunningGateway,
    print::{Output, table},
};
use crate::admin::fleet::{
    DrainGateway, FleetGateway, ListGateways, RemoveGateway, RemovedGateway,
};

/// What is to be done next.
const DRAINED: &str = "Lead its clients elsewhere now. Gateways with the same fleet key, if there are any, are told whom to expect.";

#[derive(Subcommand)]
pub(super) enum GatewayVerb {
    /// List the gateways that share the database: whether they run, what they carry, whether they are being left.
    #[command(after_help = "Examples:
  tacit gateway list
  tacit gateway list --json | jq '.[] | select(.runs | not)'")]
    List(Output),

    /// Have a gateway left by its clients, before it is taken out of use.
    ///
    /// Within a second or two its /readyz says 503, for whatever leads clients to it to lead them elsewhere. Sites offer
    /// it for no new device, as long as there is another gateway to offer. Who is connected stays so for as long as
    /// packets come, and may connect again. Other gateways with the same fleet key are told whom to expect: they shake
    /// hands with each client as soon as its packets come to them.
    #[command(after_help = "Examples:
  tacit gateway drain oslo
  tacit gateway list")]
    Drain {
        /// The gateway's name.
        name: String,
        #[command(flatten)]
        output: Output,
    },

    /// Have a gateway that was drained take clients again; others are told no more.
    #[command(after_help = "Examples:
  tacit gateway resume oslo")]
    Resume {
        /// The gateway's name.
        name: String,
        #[command(flatten)]
        output: Output,
    },

    /// Remove a gateway that is gone for good. Its sessions end when it was last known to run.
    #[command(after_help = "Examples:
  tacit gateway remove oslo")]
    Remove {
        /// The gateway's name.
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: GatewayVerb) -> anyhow::Result<()> {
    match verb {
        GatewayVerb::List(output) => {
            output.print(&gateway.ask(ListGateways {}).await?, |gateways| rows(gateways))
        }
        GatewayVerb::Drain { name, output } => {
            let drained = gateway.ask(DrainGateway { name, is_draining: true }).await?;
            output.print(&drained, |gateway| {
                format!("{}\n\n{DRAINED}", rows(std::slice::from_ref(gateway)))
            })
        }
        GatewayVerb::Resume { name, output } => {
            let resumed = gateway.ask(DrainGateway { name, is_draining: false }).await?;
            output.print(&resumed, |gateway| rows(std::slice::from_ref(gateway)))
        }
        GatewayVerb::Remove { name, output } => {
            let removed = gateway.ask(RemoveGateway { name }).await?;
            output.print(&removed, |RemovedGateway { name, sessions_ended }| {
                format!("{name} is removed; {sessions_ended} sessions ended when it was last known to run")
            })
        }
    }
}

fn rows(gateways: &[FleetGateway]) -> String {
    let rows = gateways.iter().map(|gateway| {
        let state = match (gateway.runs, gateway.is_draining) {
            (true, false) => "runs",
            (true, true) => "runs, is drained",
            (false, _) => "silent",
        };
        let name =
            if gateway.is_this { format!("{} *", gateway.name) } else { gateway.name.clone() };
        let heard = gateway.last_alive_at.map_or_else(|| "never".into(), |at| at.to_string());
        let capacity = gateway.capacity.map_or_else(|| "-".into(), |capacity| capacity.to_string());
        [name, state.into(), gateway.sessions.to_string(), capacity, heard]
    });
    table(["GATEWAY", "STATE", "SESSIONS", "CAPACITY", "LAST HEARD OF"], rows, "no gateways")
}
