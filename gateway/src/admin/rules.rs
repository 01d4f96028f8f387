//! Publishing rules, and following the letters that tell of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tacit_accounts::{
    DataKind, Deed, EmailAddress,
    post::{Doubt as StoredDoubt, LetterInDoubt, Progress},
    rules::{Change, Date, Draft, Rules, RulesError, RulesText, RulesVersion, Summary, compare},
};
use tacit_messages::UnixSeconds;

use super::{
    ListNotices, ListRules, PublishRules, RetryNotices, SettleNotice, ShowRules, TryMail,
    caller::Caller,
    server::{Answer, Refused},
};
use crate::{
    control::{Gateway, post::MailState},
    log,
    rfc3339::Rfc3339,
};

/// The most letters to look after that are listed.
const MAX_LISTED: u32 = 1000;

/// A version of the rules.
#[derive(Deserialize, Serialize)]
pub(crate) struct Version {
    /// Its number.
    pub(crate) version: i64,
    /// When it was published.
    pub(crate) published_at: Rfc3339,
    /// The day from which it is in force.
    pub(crate) effective: String,
    /// Whether customers must be told by letter.
    pub(crate) significant: bool,
    /// Whether it is in force for new customers now, was, or will be.
    pub(crate) state: VersionState,
    /// What it changes.
    pub(crate) summary: String,
}

/// Where a version is in time, for new customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VersionState {
    /// Another one has followed.
    Former,
    /// It is in force.
    InForce,
    /// Its day has not come.
    Coming,
}

/// A version, its words, and how they differ from those before.
#[derive(Deserialize, Serialize)]
pub(crate) struct VersionWithText {
    /// The version.
    #[serde(flatten)]
    pub(crate) version: Version,
    /// The words.
    pub(crate) text: String,
    /// Their lines and those of the version before, marked with ` `, `+` and `-`; empty for the first.
    pub(crate) differences: Vec<String>,
}

/// How the letters of all versions are.
#[derive(Deserialize, Serialize)]
pub(crate) struct Notices {
    /// How the mail server is: `off`, `works`, or since when it fails.
    pub(crate) mail: MailStatus,
    /// By version, newest first.
    pub(crate) versions: Vec<Notice>,
    /// Letters that somebody has to look after.
    pub(crate) to_look_after: Vec<UnsettledLetter>,
}

/// How the mail server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MailStatus {
    /// None is named in the settings.
    Off,
    /// Nothing went wrong when it was last used.
    Works,
    /// It could not be used, since this time.
    FailsSince(Rfc3339),
}

/// How the letters of a version are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Notice {
    /// The version's number.
    pub(crate) version: i64,
    /// The day from which it is in force for who was told in time.
    pub(crate) effective: String,
    /// Letters in all.
    pub(crate) letters: u64,
    /// Those that the mail server has.
    pub(crate) sent: u64,
    /// Those that wait.
    pub(crate) queued: u64,
    /// Of these, those that were tried before.
    pub(crate) put_off: u64,
    /// Those that are on their way to the server now.
    pub(crate) sending: u64,
    /// Those of which nobody knows whether the server has them.
    pub(crate) doubtful: u64,
    /// Those that the server will not take for their address.
    pub(crate) refused: u64,
    /// Customers for whom the version comes later than on its day.
    pub(crate) late: u64,
    /// When the latest one was sent.
    pub(crate) last_sent_at: Option<Rfc3339>,
}

/// A letter that somebody has to look after.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct UnsettledLetter {
    /// The version that it tells of.
    pub(crate) version: i64,
    /// Whose it is.
    pub(crate) account: i64,
    /// `doubtful`, `refused`, or `held` since a restore.
    pub(crate) state: String,
    /// The mail server's code.
    pub(crate) reply_code: Option<i64>,
    /// The beginning of its Message-ID.
    pub(crate) letter: String,
    /// Since when.
    pub(crate) since: Rfc3339,
}

/// How a letter in doubt is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Doubt {
    /// The mail server had it.
    Arrived,
    /// The mail server never had it.
    Lost,
}

/// How many letters something was done for.
#[derive(Deserialize, Serialize)]
pub(crate) struct Letters {
    /// Their number.
    pub(crate) letters: u64,
}

impl From<RulesError> for Refused {
    fn from(error: RulesError) -> Self {
        Self::request(error)
    }
}

impl Answer for PublishRules {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Version, Refused> {
        let text = RulesText::parse(self.text.as_bytes()).map_err(Refused::request)?;
        let summary = self.summary.as_deref().map(Summary::parse).transpose();
        let effective: Date = self.effective.parse().map_err(Refused::request)?;
        let draft = Draft {
            text,
            summary: summary.map_err(Refused::request)?,
            effective_at: effective.0,
            is_significant: !self.minor,
        };
        let now = UnixSeconds::now();
        let rules = gateway.store.publish_rules(&draft, gateway.post.pace(), now).await?;
        gateway.post.wake();
        log::changed("rules published", caller.uid);
        let current = gateway.store.rules_calendar().await?.general(now);
        Ok(version(rules.version, &rules.summary, current, now))
    }
}

impl Answer for ListRules {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<Vec<Version>, Refused> {
        let (calendar, now) = (gateway.store.rules_calendar().await?, UnixSeconds::now());
        let mut versions = Vec::new();
        for known in calendar.versions() {
            let rules = gateway.store.rules(known.number).await?;
            versions.push(version(*known, &rules.summary, calendar.general(now), now));
        }
        Ok(versions)
    }
}

impl Answer for ShowRules {
    async fn answer(
        self,
        gateway: Arc<Gateway>,
        _caller: Caller,
    ) -> Result<VersionWithText, Refused> {
        let (calendar, now) = (gateway.store.rules_calendar().await?, UnixSeconds::now());
        let current = calendar.general(now);
        let number = self.version.or(current.map(|version| version.number));
        let number = number.ok_or_else(|| Refused::request(RulesError::NoSuchVersion))?;
        let rules = gateway.store.rules(number).await?;
        let former = match number {
            1 => None,
            number => Some(gateway.store.rules(number - 1).await?),
        };
        Ok(VersionWithText {
            version: version(rules.version, &rules.summary, current, now),
            text: rules.text.as_str().into(),
            differences: former.map(|former| differences(&former, &rules)).unwrap_or_default(),
        })
    }
}

fn differences(former: &Rules, new: &Rules) -> Vec<String> {
    let changes = compare(&former.text, &new.text).into_iter();
    let marked = changes.map(|change| match change {
        Change::Kept(line) => format!(" {line}"),
        Change::Removed(line) => format!("-{line}"),
        Change::Added(line) => format!("+{line}"),
    });
    marked.collect()
}

fn version(
    version: RulesVersion,
    summary: &Summary,
    current: Option<RulesVersion>,
    now: UnixSeconds,
) -> Version {
    let state = match current {
        Some(current) if current.number == version.number => VersionState::InForce,
        _ if version.begins() > now => VersionState::Coming,
        _ => VersionState::Former,
    };
    Version {
        version: version.number,
        published_at: version.published_at.into(),
        effective: Date(version.effective_at).to_string(),
        significant: version.is_significant,
        state,
        summary: summary.as_str().into(),
    }
}

impl Answer for ListNotices {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Notices, Refused> {
        let versions = gateway.store.letter_progress(UnixSeconds::now()).await?;
        let unsettled = match self.to_look_after {
            true => gateway.store.letters_to_look_after(MAX_LISTED).await?,
            false => Vec::new(),
        };
        if !unsettled.is_empty() {
            // It tells whose address does not work.
            let data = &[DataKind::Email];
            gateway.note_look(&caller, Deed { verb: "notice list", account: None, data }).await?;
        }
        Ok(Notices {
            mail: match gateway.post.state() {
                MailState::Off => MailStatus::Off,
                MailState::Works => MailStatus::Works,
                MailState::Fails(since) => MailStatus::FailsSince(since.into()),
            },
            versions: versions.into_iter().map(Notice::from).collect(),
            to_look_after: unsettled.into_iter().map(UnsettledLetter::from).collect(),
        })
    }
}

impl Answer for RetryNotices {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Letters, Refused> {
        let store = gateway.store.for_staff(caller.uid);
        let letters = store.retry_letters(UnixSeconds::now()).await?;
        gateway.post.wake();
        log::changed("letters tried again", caller.uid);
        Ok(Letters { letters })
    }
}

impl Answer for SettleNotice {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Letters, Refused> {
        let doubt = match self.as_doubt {
            Doubt::Arrived => StoredDoubt::Arrived,
            Doubt::Lost => StoredDoubt::Lost,
        };
        let store = gateway.store.for_staff(caller.uid);
        store.settle_letter(&self.letter, doubt, UnixSeconds::now()).await?;
        gateway.post.wake();
        log::changed("letter in doubt settled", caller.uid);
        Ok(Letters { letters: 1 })
    }
}

impl Answer for TryMail {
    async fn answer(self, gateway: Arc<Gateway>, caller: Caller) -> Result<Letters, Refused> {
        let to: EmailAddress = self.to.parse().map_err(Refused::request)?;
        if gateway.post.state() == MailState::Off {
            return Err(Refused::request(
                "no letters are sent: set `mail-server`, `mail-from`, `contact` and `site-url`",
            ));
        }
        gateway.store.post_trial(&to, UnixSeconds::now()).await?;
        gateway.post.wake();
        log::changed("letter to try the mail server queued", caller.uid);
        Ok(Letters { letters: 1 })
    }
}

impl From<Progress> for Notice {
    fn from(progress: Progress) -> Self {
        Self {
            version: progress.version,
            effective: Date(progress.effective_at).to_string(),
            letters: progress.total(),
            sent: progress.sent,
            queued: progress.queued,
            put_off: progress.put_off,
            sending: progress.sending,
            doubtful: progress.doubtful,
            refused: progress.refused,
            late: progress.late,
            last_sent_at: progress.last_sent_at.map(Into::into),
        }
    }
}

impl From<LetterInDoubt> for UnsettledLetter {
    fn from(letter: LetterInDoubt) -> Self {
        Self {
            version: letter.version,
            account: letter.account.0,
            state: match (letter.is_held, letter.is_refused) {
                (true, _) => "held",
                (false, true) => "refused",
                (false, false) => "doubtful",
            }
            .into(),
            reply_code: letter.reply_code,
            letter: letter.message_id,
            since: letter.since.into(),
        }
    }
}
