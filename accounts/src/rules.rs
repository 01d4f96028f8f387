//! The privacy rules: their versions, who was told of each, and which are in force for whom.

mod acceptance;
pub mod calendar;
mod comparison;
mod publishing;
mod text;

pub use acceptance::Acceptance;
pub use calendar::{
    Calendar, Date, DateError, NOTICE_PERIOD, Publication, PublicationError, RulesVersion, Told,
};
pub use comparison::{Change, compare, summary};
pub use publishing::{Draft, Rules, RulesError};
pub use text::{DEFAULT_RULES, MAX_LEN, RulesText, Summary, TextError};
