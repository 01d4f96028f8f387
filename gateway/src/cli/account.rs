//! `tacit account`.

use clap::{Args, Subcommand};

use super::{
    RunningGateway, device,
    print::{Output, pairs, table},
};
use crate::admin::{
    Account, AccountWithDevices, AddAccount, Confirmation, ListAccounts, ShowAccount,
};

#[derive(Subcommand)]
pub(super) enum AccountVerb {
    /// Add an account.
    #[command(after_help = "Examples:
  tacit account add ann@example.org --of-age
  tacit account add parent@example.org --responsible-adult --days 30")]
    Add(AddArguments),

    /// List all accounts.
    #[command(after_help = "Examples:
  tacit account list
  tacit account list --json")]
    List(Output),

    /// Show an account and its devices.
    #[command(after_help = "Examples:
  tacit account show ann@example.org
  tacit account show 17 --json")]
    Show {
        /// E-mail address or number of the account.
        account: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct AddArguments {
    /// E-mail address of the account's holder.
    email: String,
    #[command(flatten)]
    confirmation: ConfirmationArguments,
    /// Days until the service ends [default: it does not end].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct ConfirmationArguments {
    /// The holder confirmed to be of age.
    #[arg(long)]
    of_age: bool,
    /// A responsible adult agreed for the holder.
    #[arg(long)]
    responsible_adult: bool,
}

impl ConfirmationArguments {
    fn confirmation(&self) -> Confirmation {
        match self.of_age {
            true => Confirmation::OfAge,
            false => Confirmation::ResponsibleAdult,
        }
    }
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: AccountVerb) -> anyhow::Result<()> {
    match verb {
        AccountVerb::Add(arguments) => {
            let confirmation = arguments.confirmation.confirmation();
            let request = AddAccount { email: arguments.email, confirmation, days: arguments.days };
            arguments.output.print(&gateway.ask(request).await?, account_text)
        }
        AccountVerb::List(output) => {
            output.print(&gateway.ask(ListAccounts {}).await?, |accounts| accounts_table(accounts))
        }
        AccountVerb::Show { account, output } => {
            output.print(&gateway.ask(ShowAccount { account }).await?, account_with_devices_text)
        }
    }
}

fn account_text(account: &Account) -> String {
    pairs([
        ("account", account.id.to_string()),
        ("e-mail", account.email.clone()),
        ("confirmed", confirmation_text(account.confirmation).into()),
        ("added", account.created_at.to_string()),
        ("service until", service_text(account)),
        ("devices", devices_text(account)),
    ])
}

fn accounts_table(accounts: &[Account]) -> String {
    let rows = accounts.iter().map(|account| {
        [
            account.id.to_string(),
            account.email.clone(),
            confirmation_text(account.confirmation).into(),
            account.created_at.to_string(),
            service_text(account),
            devices_text(account),
        ]
    });
    let heads = ["ACCOUNT", "E-MAIL", "CONFIRMED", "ADDED", "SERVICE UNTIL", "DEVICES"];
    table(heads, rows, "no accounts")
}

fn account_with_devices_text(shown: &AccountWithDevices) -> String {
    format!("{}\n\n{}", account_text(&shown.account), device::devices_table(&shown.devices))
}

fn confirmation_text(confirmation: Confirmation) -> &'static str {
    match confirmation {
        Confirmation::OfAge => "of age",
        Confirmation::ResponsibleAdult => "responsible adult",
    }
}

fn service_text(account: &Account) -> String {
    account.service_until.map_or_else(|| "no end".into(), |until| until.to_string())
}

fn devices_text(account: &Account) -> String {
    format!("{} of {}", account.devices, account.device_limit)
}
