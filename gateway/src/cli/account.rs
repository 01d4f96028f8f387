//! `tacit account`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tacit_messages::UnixSeconds;

use super::{
    RunningGateway, device, password,
    print::{Output, pairs, print_text, table},
    private_output::PrivateOutput,
};
use crate::{
    admin::{
        Account, AccountWithDevices, AddAccount, Confirmation, ListAccounts, ShowAccount,
        people::{
            CancelAccount, Cancelled, ChangeEmail, Consent, ExportAccount, GrantService,
            PasswordText, Service, SetPassword, Term,
        },
    },
    rfc3339::Rfc3339,
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

    /// Show an account, its services and devices, and to whom its customer agreed that data is disclosed.
    #[command(after_help = "Examples:
  tacit account show ann@example.org
  tacit account show 17 --json")]
    Show {
        /// E-mail address or number of the account.
        account: String,
        #[command(flatten)]
        output: Output,
    },

    /// Give an account a service, or more days of it.
    #[command(after_help = "Examples:
  tacit account grant ann@example.org --days 30
  tacit account grant ann@example.org --days 7 --from-now --service vpn
  tacit account grant 17 --without-end")]
    Grant(GrantArguments),

    /// Change an account's e-mail address; the former one goes to the archive.
    #[command(after_help = "Examples:
  tacit account email ann@example.org ann@example.net")]
    Email {
        /// E-mail address or number of the account.
        account: String,
        /// The new address.
        email: String,
        #[command(flatten)]
        output: Output,
    },

    /// Change an account's password, which ends its customer's visits of the site. Reads the new one from stdin.
    #[command(after_help = "Examples:
  tacit account password ann@example.org
  pwgen -s 20 1 | tacit account password ann@example.org")]
    Password {
        /// E-mail address or number of the account.
        account: String,
        #[command(flatten)]
        output: Output,
    },

    /// Cancel an account: disconnects and removes its devices, ends its services, archives what may be kept.
    #[command(after_help = "Examples:
  tacit account cancel ann@example.org")]
    Cancel {
        /// E-mail address or number of the account.
        account: String,
        #[command(flatten)]
        output: Output,
    },

    /// Show everything that is held about an account's customer, whose right it is to see it.
    #[command(after_help = "Examples:
  tacit account export ann@example.org
  tacit account export 17 --json --output ann.json")]
    Export {
        /// E-mail address or number of the account; a cancelled one has its number only.
        account: String,
        /// Write it to a new file that only its owner can read.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        format: Output,
    },
}

#[derive(Args)]
pub(super) struct GrantArguments {
    /// E-mail address or number of the account.
    account: String,
    #[command(flatten)]
    term: TermArguments,
    /// Count the days from now on, whatever end the service has.
    #[arg(long, conflicts_with = "without_end")]
    from_now: bool,
    /// Name of the service [default: vpn].
    #[arg(long, value_name = "S")]
    service: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct TermArguments {
    /// Days that the service runs on, after its end or from now on if it does not run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: Option<u32>,
    /// The service has no end.
    #[arg(long)]
    without_end: bool,
}

impl GrantArguments {
    fn term(&self) -> Term {
        match self.term.days {
            None => Term::WithoutEnd,
            Some(days) if self.from_now => Term::DaysFromNow(days),
            Some(days) => Term::MoreDays(days),
        }
    }
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
        AccountVerb::Grant(arguments) => {
            let term = arguments.term();
            let GrantArguments { account, service, output, .. } = arguments;
            let granted = gateway.ask(GrantService { account, service, term }).await?;
            output.print(&granted, |service| services_table(std::slice::from_ref(service)))
        }
        AccountVerb::Email { account, email, output } => {
            let changed = gateway.ask(ChangeEmail { account, email }).await?;
            output.print(&changed, |changed| {
                format!("account {} has the new address", changed.account)
            })
        }
        AccountVerb::Password { account, output } => {
            let password = PasswordText(password::read("New password: ")?.to_string());
            let changed = gateway.ask(SetPassword { account, password }).await?;
            output.print(&changed, |changed| {
                format!("account {} has the new password", changed.account)
            })
        }
        AccountVerb::Cancel { account, output } => {
            let cancelled = gateway.ask(CancelAccount { account }).await?;
            output.print(&cancelled, |Cancelled { account, devices }| {
                format!(
                    "account {account} is cancelled, {devices} devices are disconnected and removed"
                )
            })
        }
        AccountVerb::Export { account, output, format } => {
            let mut file = output.as_deref().map(PrivateOutput::create).transpose()?;
            let export = gateway.ask(ExportAccount { account }).await?;
            let text = if format.json { &export.json } else { &export.text };
            match &mut file {
                Some(file) => file.write(text),
                None => print_text(text),
            }
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
    let services = services_table(&shown.services);
    let devices = device::devices_table(&shown.devices);
    let consents = consents_table(&shown.consents);
    format!("{}\n\n{services}\n\n{devices}\n\n{consents}", account_text(&shown.account))
}

fn services_table(services: &[Service]) -> String {
    let rows = services.iter().map(|service| {
        let ends_at =
            service.ends_at.map_or_else(|| "no end".into(), |ends_at| ends_at.to_string());
        [service.name.clone(), ends_at]
    });
    table(["SERVICE", "UNTIL"], rows, "no services")
}

fn consents_table(consents: &[Consent]) -> String {
    let rows = consents.iter().map(|consent| {
        [
            consent.recipient.clone(),
            consent.given_at.to_string(),
            consent.withdrawn_at.map_or_else(|| "no".into(), |at| at.to_string()),
        ]
    });
    table(["CONSENT TO DISCLOSURE TO", "GIVEN", "WITHDRAWN"], rows, "no consents to disclosures")
}

fn confirmation_text(confirmation: Confirmation) -> &'static str {
    match confirmation {
        Confirmation::OfAge => "of age",
        Confirmation::ResponsibleAdult => "responsible adult",
    }
}

fn service_text(account: &Account) -> String {
    match account.service_until {
        None => "no end".into(),
        Some(Rfc3339(UnixSeconds(0))) => "no service".into(),
        Some(until) => until.to_string(),
    }
}

fn devices_text(account: &Account) -> String {
    format!("{} of {}", account.devices, account.device_limit)
}
