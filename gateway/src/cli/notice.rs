//! `tacit notice`.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::{
    RunningGateway,
    print::{Output, table},
};
use crate::admin::{
    ListNotices, RetryNotices, SettleNotice, TryMail,
    rules::{Doubt, Letters, MailStatus, Notice, Notices, UnsettledLetter},
};

/// Between two looks at how far the letters are.
const INTERVAL: Duration = Duration::from_millis(300);

#[derive(Subcommand)]
pub(super) enum NoticeVerb {
    /// Show how the letters of each version of the rules are, and which of them somebody has to look after.
    #[command(after_help = "Examples:
  tacit notice list
  tacit notice list --wait
  tacit notice list --json")]
    List(ListArguments),

    /// Try letters again that the mail server put off or refused. A letter that was sent is never sent again.
    #[command(after_help = "Examples:
  tacit notice retry")]
    Retry(Output),

    /// Settle a letter in doubt: the gateway or the connection died while the mail server was taking it.
    ///
    /// Nobody may get two letters for one version, so such a letter is not sent again by itself, and the change does not
    /// come into force for its customer. Look its number up in the mail server's records, then say what you found.
    #[command(after_help = "Examples:
  tacit notice settle 6fd41b0a8c7e4ad09f0b1e3d5c7a9b21 --arrived
  tacit notice settle 6fd41b0a8c7e4ad09f0b1e3d5c7a9b21 --lost")]
    Settle(SettleArguments),

    /// Send a letter to an address of yours, to see that letters arrive.
    #[command(after_help = "Examples:
  tacit notice try me@example.org")]
    Try {
        /// Where to.
        to: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct ListArguments {
    /// Show the progress until no letter waits any more.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
#[group(id = "found", required = true, multiple = false)]
struct FoundArguments {
    /// The mail server had it: it counts as sent, and is not sent again.
    #[arg(long)]
    arrived: bool,
    /// The mail server never had it: it is sent again.
    #[arg(long)]
    lost: bool,
}

#[derive(Args)]
pub(super) struct SettleArguments {
    /// Number of the letter: its Message-ID up to the @.
    letter: String,
    #[command(flatten)]
    found: FoundArguments,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: NoticeVerb) -> anyhow::Result<()> {
    match verb {
        NoticeVerb::List(ListArguments { wait, output }) => {
            if wait {
                follow(gateway).await?;
            }
            let notices = gateway.ask(ListNotices { to_look_after: true }).await?;
            output.print(&notices, text)
        }
        NoticeVerb::Retry(output) => {
            let retried = gateway.ask(RetryNotices {}).await?;
            output.print(&retried, |retried: &Letters| match retried.letters {
                0 => "no letter was put off or refused".into(),
                letters => format!("{letters} letters are tried again"),
            })
        }
        NoticeVerb::Settle(SettleArguments { letter, found, output }) => {
            let as_doubt = if found.arrived { Doubt::Arrived } else { Doubt::Lost };
            let settled = gateway.ask(SettleNotice { letter, as_doubt }).await?;
            output.print(&settled, |_| match as_doubt {
                Doubt::Arrived => "the letter counts as sent".into(),
                Doubt::Lost => "the letter is sent again".into(),
            })
        }
        NoticeVerb::Try { to, output } => {
            let queued = gateway.ask(TryMail { to }).await?;
            output.print(&queued, |_| {
                "a letter is on its way; `tacit notice list` tells if not".into()
            })
        }
    }
}

/// Draws the progress on stderr until no letter waits.
async fn follow(gateway: &RunningGateway<'_>) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template("letters {bar:40} {pos} of {len}, {eta} left {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    loop {
        let notices = gateway.ask(ListNotices { to_look_after: false }).await?;
        let letters: u64 = notices.versions.iter().map(|version| version.letters).sum();
        let waiting: u64 =
            notices.versions.iter().map(|version| version.queued + version.sending).sum();
        bar.set_length(letters);
        bar.set_position(letters - waiting);
        if waiting == 0 {
            break;
        }
        anyhow::ensure!(
            notices.mail != MailStatus::Off,
            "letters wait, but none is sent: set `mail-server` and start the gateway again"
        );
        bar.set_message(match notices.mail {
            MailStatus::FailsSince(since) => format!("(the mail server fails since {since})"),
            MailStatus::Off | MailStatus::Works => String::new(),
        });
        sleep(INTERVAL).await;
    }
    bar.finish_and_clear();
    Ok(())
}

fn text(notices: &Notices) -> String {
    let mail = match notices.mail {
        MailStatus::Off => "mail server: none; set `mail-server`".into(),
        MailStatus::Works => "mail server: works".into(),
        MailStatus::FailsSince(since) => format!("mail server: fails since {since}"),
    };
    let rows = notices.versions.iter().map(row);
    let heads = [
        "VERSION",
        "EFFECTIVE",
        "LETTERS",
        "SENT",
        "QUEUED",
        "DOUBTFUL",
        "REFUSED",
        "LATE",
        "LAST SENT",
    ];
    let versions = table(heads, rows, "no version that customers must be told of");
    let mut text = format!("{mail}\n\n{versions}");
    if !notices.to_look_after.is_empty() {
        let rows = notices.to_look_after.iter().map(unsettled_row);
        let heads = ["LETTER", "VERSION", "ACCOUNT", "STATE", "CODE", "SINCE"];
        text.push_str(&format!("\n\n{}\n\n{ADVICE}", table(heads, rows, "")));
    }
    text
}

const ADVICE: &str = "Refused: correct the address, then `tacit notice retry`. Doubtful: look the letter's number up in the mail
server's records, then `tacit notice settle LETTER --arrived` or `--lost`. Held: a restore does not know whether it was sent; once you
do, `tacit notice retry` sends all that are held. Until then the former rules are in force there.";

fn row(notice: &Notice) -> [String; 9] {
    let queued = match notice.put_off {
        0 => (notice.queued + notice.sending).to_string(),
        put_off => format!("{} ({put_off} put off)", notice.queued + notice.sending),
    };
    [
        notice.version.to_string(),
        notice.effective.clone(),
        notice.letters.to_string(),
        notice.sent.to_string(),
        queued,
        notice.doubtful.to_string(),
        notice.refused.to_string(),
        notice.late.to_string(),
        notice.last_sent_at.map_or_else(|| "none".into(), |at| at.to_string()),
    ]
}

fn unsettled_row(letter: &UnsettledLetter) -> [String; 6] {
    [
        letter.letter.clone(),
        letter.version.to_string(),
        letter.account.to_string(),
        letter.state.clone(),
        letter.reply_code.map_or_else(|| "none".into(), |code| code.to_string()),
        letter.since.to_string(),
    ]
}
