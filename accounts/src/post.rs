//! Letters to customers: a queue in the store, and the postman who takes what is due to a mail server.
//!
//! A letter is `queued`, then `sending` from before its last byte goes to the server until the server's answer is in the
//! store, then `sent`. What is found in `sending` after a crash, or lost its connection there, is `doubtful`: nobody can
//! know whether the server has it. One that tells of rules is not sent again by itself then, because nobody may get
//! two; an operator who looked the letter's number up in the mail server's records settles it. Any other is sent again,
//! under the same number.

mod account_life;
mod mail;
mod outcome;
mod postman;
mod progress;
mod queue;
mod template;
mod words;

pub use lettre::transport::smtp::authentication::Credentials;
pub use mail::{
    Contact, ContactError, Mail, Security, Sender, SenderError, SiteUrl, SiteUrlError, TlsError,
    TlsTrust,
};
pub use postman::{DeliveryError, Postman, Round};
pub use progress::{LetterInDoubt, Progress};
pub use queue::{Doubt, Kind, LetterId};
pub(crate) use queue::{
    GIVEN_UP_AFTER, forget_account, give_up_letters, queue_rules_letters, retry_at_new_address,
};
