//! What became of a letter at a server, by what that said and when.

use lettre::transport::smtp::Error;

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server has it.
    Sent,
    /// The server does not have it and may take it later.
    PutOff(Option<u16>),
    /// The server will not take it for this address.
    Refused(Option<u16>),
    /// The connection failed, or the gateway is not welcome: the server does not have the letter.
    Untouched,
    /// The connection failed once the letter's end was on its way: nobody knows.
    Doubtful,
    /// Another gateway has taken it meanwhile.
    Elsewhere,
}

/// How far a letter was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The server hears who the letter is from.
    Sender,
    /// It hears who it is for.
    Recipient,
    /// It is asked to take the text.
    Announced,
    /// It gets the text.
    Text,
    /// It gets the text's end, by which it takes the letter.
    End,
}

/// A server's refusal by its code, or none if it said nothing in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub(super) Option<u16>);

/// The server closes the connection (RFC 5321 section 3.8).
const CLOSING: u16 = 421;

impl Failure {
    /// Whether the connection is of no more use.
    pub(super) fn ends_connection(self) -> bool {
        self.0.is_none_or(|code| code == CLOSING)
    }
}

impl From<Error> for Failure {
    // The rest of it may name people.
    fn from(error: Error) -> Self {
        Self(error.status().map(Into::into))
    }
}

/// The outcome of a failure at a step.
pub(super) fn outcome(step: Step, failure: Failure) -> Outcome {
    match (step, failure.0) {
        (Step::End, None) => Outcome::Doubtful,
        (_, None | Some(CLOSING)) => Outcome::Untouched,
        // That is about the gateway, and so about all letters.
        (Step::Sender, Some(_)) => Outcome::Untouched,
        (Step::Recipient, Some(code)) if code >= 500 => Outcome::Refused(Some(code)),
        (_, Some(code)) => Outcome::PutOff(Some(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_after_the_end_leaves_doubt() {
        for step in [Step::Sender, Step::Recipient, Step::Announced, Step::Text] {
            assert_eq!(outcome(step, Failure(None)), Outcome::Untouched);
        }
        assert_eq!(outcome(Step::End, Failure(None)), Outcome::Doubtful);
        assert_eq!(outcome(Step::End, Failure(Some(421))), Outcome::Untouched);
        assert_eq!(outcome(Step::End, Failure(Some(554))), Outcome::PutOff(Some(554)));
    }

    #[test]
    fn only_the_recipient_can_be_refused_for_good() {
        assert_eq!(outcome(Step::Recipient, Failure(Some(550))), Outcome::Refused(Some(550)));
        assert_eq!(outcome(Step::Recipient, Failure(Some(450))), Outcome::PutOff(Some(450)));
        assert_eq!(outcome(Step::Sender, Failure(Some(550))), Outcome::Untouched);
        assert_eq!(outcome(Step::Announced, Failure(Some(452))), Outcome::PutOff(Some(452)));
    }
}
