//! What the site says besides its pages.
//!
//! All of the site's English is in three places: the pages in `accounts/templates`, what depends on what happened here,
//! and, for an address, a name, a password or a code that is wrong, the messages of those errors. The scripts have no words
//! of their own. Another language is another set of the first two, with words of its own in place of the third; there
//! is none yet, and so nothing that chooses one.

use std::time::Duration;

use tacit_messages::UnixSeconds;

use super::answer::Failure;
use crate::{DoorError, PasswordError, StoreError, times::rfc3339};

/// Title and text of the page that says why there is no other.
pub(super) fn failure(failure: &Failure) -> (&'static str, &'static str) {
    match failure {
        Failure::NotFound => {
            ("There is no such page", "The address may be mistyped, or what was here is gone.")
        }
        Failure::Method => (
            "This cannot be done here",
            "Pages of this site are read, and their forms are sent; nothing else.",
        ),
        Failure::NotIn => ("You are not logged in", "Log in first."),
        Failure::Foreign => (
            "This did not come from this site",
            "What was sent did not come from a page of this site, or from a browser that is too old to say so. Nothing was changed. Open the page here and try again.",
        ),
        Failure::Stale => (
            "This page was from another visit",
            "The page was opened before you logged in. Nothing was changed. Open it again and repeat what you did.",
        ),
        Failure::NotUnderstood => {
            ("This was not understood", "What was sent is not what a form of this site sends.")
        }
        Failure::TooLarge => {
            ("This is too much", "What was sent is larger than any form of this site.")
        }
        Failure::TooSlow => {
            ("This took too long", "What was sent did not arrive in time. Try again.")
        }
        Failure::Store(_) | Failure::Fault => (
            "Something went wrong here",
            "That was not your fault, and we have noted that it happened. Try again in a moment.",
        ),
    }
}

/// What the last step did, as its page says when it comes back.
pub(super) fn done(what: &str) -> Option<&'static str> {
    Some(match what {
        "code" => "The code was good: your service has been extended.",
        "email" => {
            "A letter is on its way to the new address. The change is made when you follow the link in it."
        }
        "password" => "Your password is changed. Everywhere else you are logged out.",
        "device" => "The device is removed. It is being disconnected.",
        "name" => "The device has its new name.",
        "consent" => "Your consent is recorded. You can withdraw it at any time.",
        "withdrawn" => "Your consent is withdrawn.",
        _ => return None,
    })
}

/// What the log-in page says.
pub(super) const WRONG: &str = "The e-mail address or the password is wrong.";

/// What the pages with a password say.
pub(super) const WRONG_PASSWORD: &str = "The password is wrong. Nothing was changed.";

/// What registering says of what is missing.
pub(super) const WHO_IS_MISSING: &str =
    "Say whether you are of age, or the adult responsible for the child who will use the account.";
pub(super) const RULES_ARE_MISSING: &str =
    "There is no account without accepting the privacy rules.";
pub(super) const PASSWORDS_DIFFER: &str = "The two passwords are not the same.";
pub(super) const NOT_SURE: &str = "Tick the box to say that you are sure.";
pub(super) const OWN_KEY: &str = "This is a gateway's own key. Give the public key of your device.";
pub(super) const NO_KEY: &str =
    "This is no WireGuard public key: it has 44 characters and ends with “=”.";
pub(super) const TOO_MANY_CONSENTS: &str = "You have given as many consents as can be kept.";
pub(super) const NO_SUCH_GATEWAY: &str =
    "The place that you chose is not there at present. Choose another.";
pub(super) const NO_ENTRANCE: &str =
    "This gateway has no address that your device could reach. Please tell us.";

/// What keeps the door shut, as a customer should read it; the rest is a failure of the site.
pub(super) fn door(error: DoorError) -> Result<String, Failure> {
    match error {
        DoorError::Wrong => Ok(WRONG_PASSWORD.to_owned()),
        DoorError::TooOften(wait) => Ok(too_often(wait)),
        DoorError::Password(PasswordError::Busy) => {
            Ok("Many are logging in right now. Try again in a moment.".to_owned())
        }
        DoorError::Password(error) => Ok(sentence(&error.to_string())),
        DoorError::Store(error) => store(error),
    }
}

/// Why the store did not do it, as a customer should read it; the rest is a failure of the site.
pub(super) fn store(error: StoreError) -> Result<String, Failure> {
    let text = match error {
        StoreError::NoSuchCode => "There is no such code, or it was used before.",
        StoreError::WithoutEnd => {
            "Your service runs without end already, so the code was not used. It is still good."
        }
        StoreError::NameTaken => "You have a device of this name already. Choose another name.",
        StoreError::KeyTaken => "A device has this key already. Make a new one.",
        StoreError::NoSuchDevice => "There is no such device any more.",
        StoreError::DeviceLimit { limit } => {
            return Ok(format!("You have all of your {limit} devices. Remove one first."));
        }
        StoreError::PoolFull { .. } => "No address is free on this gateway. Please tell us.",
        error => return Err(Failure::Store(error)),
    };
    Ok(text.to_owned())
}

/// A message of the library as a sentence.
pub(super) fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    let mut text: String = first.chain(letters).collect();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn too_often(wait: Duration) -> String {
    let seconds = wait.as_secs() + 1;
    match seconds {
        ..120 => format!("Too many tries. Wait {seconds} seconds and try again."),
        _ => format!("Too many tries. Wait {} minutes and try again.", seconds.div_ceil(60)),
    }
}

/// A time as the pages show it.
pub(super) fn when(time: UnixSeconds) -> String {
    readable(&rfc3339(time))
}

/// A time in RFC 3339's form as the pages show it.
pub(super) fn readable(time: &str) -> String {
    time.replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_becomes_a_sentence() {
        assert_eq!(sentence("a code has 25 letters"), "A code has 25 letters.");
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn time_is_readable() {
        assert_eq!(when(UnixSeconds(0)), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn waits_are_in_seconds_or_minutes() {
        assert!(too_often(Duration::from_secs(4)).contains("5 seconds"));
        assert!(too_often(Duration::from_secs(299)).contains("5 minutes"));
    }
}
