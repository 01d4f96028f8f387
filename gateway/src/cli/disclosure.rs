//! `tacit disclosure`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::{civil::Date, tz::TimeZone};
use tacit_messages::UnixSeconds;

use super::{
    RunningGateway,
    print::{Output, pairs, table},
    private_output::PrivateOutput,
    staff::user_text,
};
use crate::{
    admin::records::{Basis, Disclosure, ListDisclosures, MakeDisclosure},
    rfc3339::Rfc3339,
};

#[derive(Subcommand)]
pub(super) enum DisclosureVerb {
    /// Write everything that is held about an account to a file, and enter that in the register.
    ///
    /// For root and members of the group tacit-legal. Nothing leaves without a basis, a reference and a recipient. The
    /// customer is told on the site, unless the order forbids it until a date. There is no record of traffic to disclose.
    #[command(after_help = "Examples:
  tacit disclosure make ann@example.org --basis lawful-order --reference '1 Gs 17/26' \\
      --recipient 'Court of Anytown' --secret-until 2027-01-31 --output answer.json
  tacit disclosure make 17 --basis consent --reference 'letter of 3 May' --recipient 'Dr. Who, notary' \\
      --output answer.json")]
    Make(MakeArguments),

    /// List what was disclosed about one account or all.
    #[command(after_help = "Examples:
  tacit disclosure list
  tacit disclosure list ann@example.org --json")]
    List {
        /// E-mail address or number of an account [default: all].
        account: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct MakeArguments {
    /// E-mail address or number of the account; a cancelled one has its number only.
    account: String,
    /// What allows it.
    #[arg(long, value_name = "B")]
    basis: Basis,
    /// Reference of the order, letter or case.
    #[arg(long, value_name = "R")]
    reference: String,
    /// Who receives it; for a consent, exactly as the customer named them.
    #[arg(long, value_name = "W")]
    recipient: String,
    /// The day, in UTC, until which the order forbids to tell the customer.
    #[arg(long, value_name = "DATE", value_parser = midnight)]
    secret_until: Option<Rfc3339>,
    /// New file, which only its owner can read.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    format: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: DisclosureVerb) -> anyhow::Result<()> {
    match verb {
        DisclosureVerb::Make(arguments) => make(gateway, arguments).await,
        DisclosureVerb::List { account, output } => {
            let disclosures = gateway.ask(ListDisclosures { account }).await?;
            output.print(&disclosures, |disclosures| disclosures_table(disclosures))
        }
    }
}

async fn make(gateway: &RunningGateway<'_>, arguments: MakeArguments) -> anyhow::Result<()> {
    let mut file = PrivateOutput::create(&arguments.output)?;
    let request = MakeDisclosure {
        account: arguments.account,
        basis: arguments.basis,
        reference: arguments.reference,
        recipient: arguments.recipient,
        secret_until: arguments.secret_until,
    };
    let made = gateway.ask(request).await?;
    file.write(&made.content.0).with_context(|| {
        format!("disclosure {} is registered, but lost", made.disclosure.number)
    })?;
    arguments.format.print(&made.disclosure, disclosure_text)?;
    eprintln!("What leaves is in {}.", file.path().display());
    Ok(())
}

/// The begin of a day, in UTC.
fn midnight(text: &str) -> Result<Rfc3339, String> {
    let date: Date = text.parse().map_err(|_| "a date is written as in 2027-01-31".to_owned())?;
    let begin = date.to_zoned(TimeZone::UTC).map_err(|_| "no calendar has this date".to_owned())?;
    let seconds = u64::try_from(begin.timestamp().as_second()).unwrap_or(0);
    Ok(Rfc3339(UnixSeconds(seconds)))
}

fn disclosure_text(disclosure: &Disclosure) -> String {
    pairs([
        ("disclosure", disclosure.number.to_string()),
        ("account", disclosure.account.to_string()),
        ("made", disclosure.at.to_string()),
        ("by", user_text(disclosure.uid)),
        ("basis", basis_text(disclosure.basis).into()),
        ("reference", disclosure.reference.clone()),
        ("recipient", disclosure.recipient.clone()),
        ("secret until", secret_text(disclosure)),
        ("SHA-256", disclosure.sha256.clone()),
    ])
}

fn disclosures_table(disclosures: &[Disclosure]) -> String {
    let rows = disclosures.iter().map(|disclosure| {
        [
            disclosure.number.to_string(),
            disclosure.account.to_string(),
            disclosure.at.to_string(),
            user_text(disclosure.uid),
            basis_text(disclosure.basis).into(),
            disclosure.reference.clone(),
            disclosure.recipient.clone(),
            secret_text(disclosure),
        ]
    });
    let heads =
        ["DISCLOSURE", "ACCOUNT", "MADE", "BY", "BASIS", "REFERENCE", "RECIPIENT", "SECRET UNTIL"];
    table(heads, rows, "no disclosures")
}

fn basis_text(basis: Basis) -> &'static str {
    match basis {
        Basis::Consent => "consent",
        Basis::LawfulOrder => "lawful order",
        Basis::TermsBreach => "breach of the terms",
    }
}

fn secret_text(disclosure: &Disclosure) -> String {
    disclosure.secret_until.map_or_else(|| "not secret".into(), |until| until.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_a_day_in_utc() {
        assert_eq!(midnight("2027-01-31").unwrap().to_string(), "2027-01-31T00:00:00Z");
        for text in ["", "31.1.2027", "2027-02-30", "tomorrow", "2027-01-31\n"] {
            assert!(midnight(text).is_err(), "{text:?}");
        }
    }
}
