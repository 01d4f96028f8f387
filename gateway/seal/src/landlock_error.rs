//! What the kernel said when Landlock failed.

use std::{error::Error, io};

use landlock::RulesetError;
use rustix::io::Errno;

/// The kernel's number for why a ruleset could not be applied.
#[must_use]
pub fn errno(error: &RulesetError) -> Errno {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Errno::from_io_error(error).unwrap_or(Errno::IO);
        }
        cause = error.source();
    }
    // The library found out that the kernel has no Landlock before it asked for anything.
    Errno::OPNOTSUPP
}
