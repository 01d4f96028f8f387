//! The letters that account life asks for. Each is queued in the change that asks for it, so that none is lost with a
//! process. What they say, and how they are sent, is not decided here.

use tacit_messages::UnixSeconds;

use crate::{EmailAddress, token::Token};

/// A letter to be sent to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// A link that confirms the address; it works once.
    ConfirmAddress {
        /// Whose address it is said to be.
        to: EmailAddress,
        /// What the link carries.
        token: Token,
        /// When it stops working.
        expires_at: UnixSeconds,
        /// What it is for.
        occasion: Occasion,
    },
    /// Somebody tried to register with the address of a customer.
    AlreadyRegistered {
        /// The customer.
        to: EmailAddress,
    },
    /// A change of the account's address was begun; goes to the present one.
    ChangeBegun {
        /// The customer.
        to: EmailAddress,
    },
    /// The account's address was changed; goes to the former one and the new one.
    AddressChanged {
        /// One of the two.
        to: EmailAddress,
    },
    /// The account's password was changed.
    PasswordChanged {
        /// The customer.
        to: EmailAddress,
    },
    /// The account was cancelled.
    Cancelled {
        /// Who was the customer.
        to: EmailAddress,
    },
}

/// What an address is confirmed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A registration: the link makes the account.
    Registration,
    /// A change of address: the link makes it.
    Change,
}

impl Letter {
    /// Where the letter goes.
    #[must_use]
    pub const fn to(&self) -> &EmailAddress {
        match self {
            Self::ConfirmAddress { to, .. }
            | Self::AlreadyRegistered { to }
            | Self::ChangeBegun { to }
            | Self::AddressChanged { to }
            | Self::PasswordChanged { to }
            | Self::Cancelled { to } => to,
        }
    }
}
