//! `tacit code`.

use clap::Subcommand;

use super::{
    RunningGateway,
    print::{Output, table},
};
use crate::admin::people::{ListCodes, MakeCodes, UnusedCode};

#[derive(Subcommand)]
pub(super) enum CodeVerb {
    /// Make activation codes, each of which switches a service on once. They are shown this once and kept as hashes.
    #[command(after_help = "Examples:
  tacit code make --service vpn --days 30
  tacit code make 100 --service vpn --days 365 > codes.txt")]
    Make {
        /// How many.
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// Service that they switch on.
        #[arg(long, value_name = "S", default_value = "vpn")]
        service: String,
        /// For how many days.
        #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=3660))]
        days: u32,
        #[command(flatten)]
        output: Output,
    },

    /// List the codes that nobody has redeemed: not themselves, which are known to who has them only.
    #[command(after_help = "Examples:
  tacit code list
  tacit code list --json")]
    List(Output),
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: CodeVerb) -> anyhow::Result<()> {
    match verb {
        CodeVerb::Make { count, service, days, output } => {
            let codes = gateway.ask(MakeCodes { service, days, count }).await?;
            output.print(&codes, |codes| codes.0.join("\n"))
        }
        CodeVerb::List(output) => {
            output.print(&gateway.ask(ListCodes {}).await?, |codes| codes_table(codes))
        }
    }
}

fn codes_table(codes: &[UnusedCode]) -> String {
    let rows = codes.iter().map(|code| {
        [code.id.to_string(), code.service.clone(), code.days.to_string(), code.made_at.to_string()]
    });
    table(["CODE", "SERVICE", "DAYS", "MADE"], rows, "no unused codes")
}
