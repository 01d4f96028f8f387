//! Why something was not done, as a customer should read it.

use std::time::Duration;

use tacit_messages::UnixSeconds;

use super::{Text, Words, when};
use crate::{
    CodeError, DoorError, EmailError, LineError, NameError, PasswordError, StoreError, codes,
    devices, email, passwords, printable, site::answer::Failure,
};

impl Words {
    /// What the last step did, if `step` is one.
    pub(in crate::site) fn done(&'static self, step: &str) -> Option<Text> {
        self.find(&format!("done.{step}")).map(Text::new)
    }

    /// Title and text of the page that says why there is no other.
    pub(in crate::site) fn failure(&'static self, failure: &Failure) -> (Text, Text) {
        let (title, why) = match failure {
            Failure::NotFound => ("failure.not-found", "failure.not-found-why"),
            Failure::Method => ("failure.method", "failure.method-why"),
            Failure::NotIn => ("failure.not-in", "failure.not-in-why"),
            Failure::Foreign => ("failure.foreign", "failure.foreign-why"),
            Failure::Stale => ("failure.stale", "failure.stale-why"),
            Failure::NotUnderstood => ("failure.not-understood", "failure.not-understood-why"),
            Failure::TooLarge => ("failure.too-large", "failure.too-large-why"),
            Failure::TooSlow => ("failure.too-slow", "failure.too-slow-why"),
            Failure::Busy => ("failure.busy", "failure.busy-why"),
            Failure::Store(_) | Failure::Fault => ("failure.fault", "failure.fault-why"),
        };
        (self.say(title), self.say(why))
    }

    /// What keeps the door shut; the rest is a failure of the site.
    pub(in crate::site) fn door(&'static self, error: DoorError) -> Result<Text, Failure> {
        match error {
            DoorError::Wrong => Ok(self.say("problem.wrong-password")),
            DoorError::TooOften(wait) => Ok(self.too_often(wait)),
            DoorError::UsedUp(wait) => {
                Ok(self.say("problem.used-up").put("time", when(UnixSeconds::now().plus(wait))))
            }
            DoorError::Password(error) => Ok(self.password(&error)),
            DoorError::Store(error) => self.store(error),
        }
    }

    /// Why the store did not do it; the rest is a failure of the site.
    pub(in crate::site) fn store(&'static self, error: StoreError) -> Result<Text, Failure> {
        Ok(match error {
            StoreError::NoSuchCode => self.say("problem.no-such-code"),
            StoreError::WithoutEnd => self.say("problem.without-end"),
            StoreError::NameTaken => self.say("problem.name-taken"),
            StoreError::KeyTaken => self.say("problem.key-taken"),
            StoreError::NoSuchDevice => self.say("problem.no-such-device"),
            StoreError::DeviceLimit { limit } => {
                self.say("problem.device-limit").put("limit", limit)
            }
            StoreError::PoolFull { .. } => self.say("problem.pool-full"),
            error => return Err(Failure::Store(error)),
        })
    }

    /// What is wrong with a password.
    pub(in crate::site) fn password(&'static self, error: &PasswordError) -> Text {
        match error {
            PasswordError::Length => {
                self.say("problem.password-length").put("most", passwords::MAX_LEN)
            }
            PasswordError::Weak(hints) => {
                let hints = hints.iter().map(|hint| self.name("hint", &hint.name()).to_string());
                self.say("problem.password-weak").put("hints", hints.collect::<Vec<_>>().join("; "))
            }
            PasswordError::Busy => self.say("problem.busy"),
        }
    }

    /// What is wrong with an e-mail address.
    pub(in crate::site) fn email(&'static self, error: EmailError) -> Text {
        match error {
            EmailError::TooLong => self
                .say("problem.email-length")
                .put("most", email::MAX_LEN)
                .put("local", email::MAX_LOCAL_LEN),
            EmailError::At => self.say("problem.email-at"),
            EmailError::Local => self.say("problem.email-local"),
            EmailError::Domain => self.say("problem.email-domain"),
            EmailError::LookAlike => self.say("problem.email-look-alike"),
        }
    }

    /// What is wrong with a device's name.
    pub(in crate::site) fn device_name(&'static self, error: NameError) -> Text {
        match error {
            NameError::Length => {
                self.say("problem.name-length").put("most", devices::MAX_NAME_CHARS)
            }
            NameError::Character => self.say("problem.name-character"),
        }
    }

    /// What is wrong with a recipient.
    pub(in crate::site) fn recipient(&'static self, error: LineError) -> Text {
        match error {
            LineError::Length => {
                self.say("problem.recipient-length").put("most", printable::MAX_LINE_CHARS)
            }
            LineError::Character => self.say("problem.recipient-character"),
        }
    }

    /// What is wrong with an activation code.
    pub(in crate::site) fn code(&'static self, CodeError: CodeError) -> Text {
        self.say("problem.code-form").put("letters", codes::LEN).put("group", codes::GROUP)
    }

    fn too_often(&'static self, wait: Duration) -> Text {
        let seconds = wait.as_secs() + 1;
        match seconds {
            0 | 1 => self.say("problem.wait-second"),
            2..120 => self.say("problem.wait-seconds").put("count", seconds),
            _ => self.say("problem.wait-minutes").put("count", seconds.div_ceil(60)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Password;

    #[test]
    fn waits_are_a_second_or_in_seconds_or_minutes() {
        let wait = |seconds| Words::first().too_often(Duration::from_secs(seconds)).to_string();
        assert!(wait(0).contains("Wait a second and"));
        assert!(wait(4).contains("5 seconds"));
        assert!(wait(299).contains("5 minutes"));
    }

    #[test]
    fn what_was_done_too_often_is_possible_again_at_a_time() {
        let (before, wait) = (UnixSeconds::now(), Duration::from_secs(3600));
        let said = Words::first().door(DoorError::UsedUp(wait)).unwrap().to_string();
        let times = (0..60).map(|seconds| before.plus(wait + Duration::from_secs(seconds)));
        assert!(times.map(when).any(|time| said.contains(&time)), "{said}");
    }

    #[test]
    fn hints_for_weak_passwords_have_words() {
        let weak = [
            "letmein1",
            "12345678",
            "password",
            "zxcvbn",
            "qwertyuiop",
            "aaaaaaaaaaaa",
            "abcabcabc",
            "abcdefgh",
            "1987",
            "2001",
            "Smith",
            "drowssap",
            "p4ssw0rd",
            "PASSWORD",
            "Password",
            "13.12.1987",
            "ann.lee1985",
            "x",
            "mary",
            "qwer",
            "trustno1x",
        ];
        for weak in weak {
            let Err(error) = Password::new(weak).unwrap().check_strength(&["ann.lee"]) else {
                panic!("{weak} is taken");
            };
            let PasswordError::Weak(hints) = &error else { panic!("{error}") };
            assert!(!hints.is_empty(), "{weak}");
            for hint in hints {
                let key = format!("hint.{}", hint.name());
                assert!(Words::first().find(&key).is_some(), "{key} has no words");
            }
            let said = Words::first().password(&error).to_string();
            assert!(said.len() > 50, "{said}");
        }
    }
}
