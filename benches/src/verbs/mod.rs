//! What can be measured, one file per verb of the command line.

pub(crate) mod compare;
pub(crate) mod flood;
pub(crate) mod pair;
pub(crate) mod scale;
pub(crate) mod site;
pub(crate) mod store;
