//! A part of a seal that could not be applied.

use std::io;

use rustix::io::Errno;
use tacit_messages::{FromForwarder, SealPart};

/// A part of a seal that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The part.
    pub part: SealPart,
    /// What the kernel said.
    pub errno: Errno,
}

impl From<Failure> for FromForwarder {
    fn from(failure: Failure) -> Self {
        let errno = failure.errno.raw_os_error().unsigned_abs() as u16;
        Self::SealFailed { part: failure.part, errno }
    }
}

/// Does `work`, which is `part` of a seal.
///
/// # Errors
/// [`Failure`] if the kernel refused it.
pub fn apply<T>(
    part: SealPart,
    work: impl FnOnce() -> rustix::io::Result<T>,
) -> Result<T, Failure> {
    work().map_err(|errno| Failure { part, errno })
}

/// The number of an error of the standard library.
#[must_use]
pub fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
