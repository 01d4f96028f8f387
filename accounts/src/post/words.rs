//! What each letter says, and how it looks on its way. No letter asks for anything or has a link that logs in (clause 8).

use lettre::{
    Message,
    address::AddressError,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};

use super::{
    Mail,
    queue::{DueLetter, Kind},
    template::{Filled, fill, html},
};
use crate::rules::{Date, Rules};

const RULES_CHANGE: &str = include_str!("../../letters/rules-change.txt");
const TRIAL: &str = include_str!("../../letters/trial.txt");
const CONFIRM_REGISTRATION: &str = include_str!("../../letters/confirm-registration.txt");
const CONFIRM_CHANGE: &str = include_str!("../../letters/confirm-change.txt");
const ALREADY_REGISTERED: &str = include_str!("../../letters/already-registered.txt");
const CHANGE_BEGUN: &str = include_str!("../../letters/change-begun.txt");
const ADDRESS_CHANGED: &str = include_str!("../../letters/address-changed.txt");
const PASSWORD_CHANGED: &str = include_str!("../../letters/password-changed.txt");
const CANCELLED: &str = include_str!("../../letters/cancelled.txt");
const FOOTER: &str = include_str!("../../letters/footer.txt");

/// Why a letter cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WordsError {
    /// No mail reaches this address, although it looks like one.
    #[error("the address is none that mail reaches")]
    Address(#[from] AddressError),
    /// The rules that it tells of are gone.
    #[error("the letter tells of rules that there are not")]
    Rules,
    /// The link that it is for is missing.
    #[error("the letter has no link")]
    Link,
    /// The letter cannot be put together.
    #[error("the letter cannot be put together: {0}")]
    Form(#[from] lettre::error::Error),
}

/// The letter as it goes to the server.
pub(super) fn message(
    mail: &Mail,
    letter: &DueLetter,
    rules: Option<&Rules>,
) -> Result<Message, WordsError> {
    let simple = |template| fill(template, FOOTER, &[("contact", mail.contact.as_str())]);
    let filled = match letter.kind {
        Kind::RulesChange => rules_change(mail, rules.ok_or(WordsError::Rules)?),
        Kind::Trial => simple(TRIAL),
        Kind::ConfirmRegistration => confirm(CONFIRM_REGISTRATION, mail, letter)?,
        Kind::ConfirmChange => confirm(CONFIRM_CHANGE, mail, letter)?,
        Kind::AlreadyRegistered => simple(ALREADY_REGISTERED),
        Kind::ChangeBegun => simple(CHANGE_BEGUN),
        Kind::AddressChanged => simple(ADDRESS_CHANGED),
        Kind::PasswordChanged => simple(PASSWORD_CHANGED),
        Kind::Cancelled => simple(CANCELLED),
    };
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let page = html(&filled);
    let Filled { subject, text } = filled;
    let message = Message::builder()
        .from(mail.sender.mailbox().clone())
        .to(Mailbox::new(None, letter.to.expose().parse()?))
        .subject(subject)
        .message_id(Some(format!("<{}@{}>", letter.message_id, mail.sender.domain())))
        // So that nobody's machine answers that its owner is away.
        .raw_header(HeaderValue::new(automatic, "auto-generated".into()))
        .multipart(MultiPart::alternative_plain_html(text, page))?;
    Ok(message)
}

/// A letter with a link that confirms its address, and does nothing else.
fn confirm(template: &str, mail: &Mail, letter: &DueLetter) -> Result<Filled, WordsError> {
    let [token, expires] = &letter.lines[..] else { return Err(WordsError::Link) };
    let values = [
        ("confirm", &*mail.site.page(&format!("confirm/{token}"))),
        ("expires", expires),
        ("contact", mail.contact.as_str()),
    ];
    Ok(fill(template, FOOTER, &values))
}

fn rules_change(mail: &Mail, rules: &Rules) -> Filled {
    let values = [
        ("date", &*Date(rules.version.effective_at).to_string()),
        ("summary", rules.summary.as_str()),
        ("rules", &mail.site.rules(rules.version.number)),
        ("contact", mail.contact.as_str()),
    ];
    fill(RULES_CHANGE, FOOTER, &values)
}
