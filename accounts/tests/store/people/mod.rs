//! The privacy rules that are about people: each test names its clause.

mod archive;
mod disclosures;
mod log_in;
mod registration;
mod services;
mod staff_log;
mod stolen;

use std::{net::IpAddr, time::Duration};

use tacit_accounts::{AccountId, Confirmation, Door, Letter, Line, Password, Token};

use crate::{Fixture, NOW, email};

const DAY: u64 = 24 * 60 * 60;
const KEEP: Duration = Duration::from_secs(30 * DAY);
const PASSWORD: &str = "thimble-orbit-canvas-7";
const OTHER_PASSWORD: &str = "walnut-9-ferry-lantern";
/// A member of the staff.
const STAFF: u32 = 1_234;

fn line(text: &str) -> Line {
    text.parse().unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn token(letter: &Letter) -> Token {
    match letter {
        Letter::ConfirmAddress { token, .. } => token.clone(),
        other => panic!("{other:?} has no link"),
    }
}

fn from(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An account that its customer registered.
async fn registered(fixture: &Fixture, door: &Door, address: &str) -> AccountId {
    let (email, password) = (email(address), password(PASSWORD));
    let from = from("192.0.2.1");
    let letter = door.register(&fixture.store, &email, &password, Confirmation::OfAge, from).await;
    fixture.store.confirm_registration(&token(&letter.unwrap()), NOW).await.unwrap()
}
