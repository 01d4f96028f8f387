//! Everything that control and the starter can say to each other: a kind and at most two numbers.

use std::io;

use tacit_messages::SealPart;
use tacit_seal::Failure;

/// Length of every message in bytes.
pub(crate) const SIZE: usize = 9;

/// What control asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Descriptors of the TUN driver that belong to no device yet.
    Devices {
        /// How many.
        count: u32,
    },
    /// A forwarder with the descriptors that come along.
    Start {
        /// Whether the TUN device takes UDP super-packets: the one switch that control finds out later.
        uso: bool,
    },
    /// The forwarder's end. It is answered by [`Answer::Ended`], unless there is none.
    Kill,
}

/// What the starter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is sealed.
    Ready,
    /// It could not be sealed and ends; or, once it is ready, a forwarder could not be.
    SealFailed {
        /// The part that failed.
        part: SealPart,
        /// What the kernel said.
        errno: i32,
    },
    /// The descriptors that were asked for come along.
    Devices,
    /// A forwarder runs.
    Started {
        /// Its process number.
        pid: u32,
    },
    /// What was asked for could not be done.
    Failed {
        /// What the kernel said.
        errno: i32,
    },
    /// The forwarder has ended.
    Ended {
        /// Its process number.
        pid: u32,
        /// How, as `wait` reports it.
        status: i32,
    },
}

impl Request {
    /// The message's bytes.
    pub(crate) fn encode(self) -> [u8; SIZE] {
        match self {
            Self::Devices { count } => message(1, count, 0),
            Self::Start { uso } => message(2, uso.into(), 0),
            Self::Kill => message(3, 0, 0),
        }
    }

    /// The message of `bytes`, if it is one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match numbers(bytes)? {
            (1, count, 0) => Some(Self::Devices { count }),
            (2, uso @ (0 | 1), 0) => Some(Self::Start { uso: uso == 1 }),
            (3, 0, 0) => Some(Self::Kill),
            _ => None,
        }
    }
}

impl Answer {
    /// What the system said of a failure.
    pub(crate) fn failed(error: &io::Error) -> Self {
        Self::Failed { errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    /// The message's bytes.
    pub(crate) fn encode(self) -> [u8; SIZE] {
        match self {
            Self::Ready => message(1, 0, 0),
            Self::SealFailed { part, errno } => message(2, part as u32, errno.cast_unsigned()),
            Self::Devices => message(3, 0, 0),
            Self::Started { pid } => message(4, pid, 0),
            Self::Failed { errno } => message(5, errno.cast_unsigned(), 0),
            Self::Ended { pid, status } => message(6, pid, status.cast_unsigned()),
        }
    }

    /// The message of `bytes`, if it is one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match numbers(bytes)? {
            (1, 0, 0) => Some(Self::Ready),
            (2, part, errno) => {
                let part = SealPart::from_number(part.try_into().ok()?)?;
                Some(Self::SealFailed { part, errno: errno.cast_signed() })
            }
            (3, 0, 0) => Some(Self::Devices),
            (4, pid, 0) => Some(Self::Started { pid }),
            (5, errno, 0) => Some(Self::Failed { errno: errno.cast_signed() }),
            (6, pid, status) => Some(Self::Ended { pid, status: status.cast_signed() }),
            _ => None,
        }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::SealFailed { part: failure.part, errno: failure.errno.raw_os_error() }
    }
}

fn message(kind: u8, first: u32, second: u32) -> [u8; SIZE] {
    let mut bytes = [kind; SIZE];
    bytes[1..5].copy_from_slice(&first.to_le_bytes());
    bytes[5..].copy_from_slice(&second.to_le_bytes());
    bytes
}

fn numbers(bytes: &[u8]) -> Option<(u8, u32, u32)> {
    let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
    let number = |from: usize| bytes[from..from + 4].try_into().map(u32::from_le_bytes).ok();
    Some((bytes[0], number(1)?, number(5)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for request in [
            Request::Devices { count: 7 },
            Request::Start { uso: true },
            Request::Start { uso: false },
            Request::Kill,
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for answer in [
            Answer::Ready,
            Answer::SealFailed { part: SealPart::User, errno: 1 },
            Answer::Devices,
            Answer::Started { pid: 70_000 },
            Answer::Failed { errno: 13 },
            Answer::Ended { pid: 70_000, status: -1 },
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn anything_else_is_no_message() {
        assert_eq!(Request::decode(&[]), None);
        assert_eq!(Request::decode(&[2; SIZE]), None);
        assert_eq!(Request::decode(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Answer::decode(&message(2, 200, 1)), None);
        assert_eq!(Answer::decode(&message(9, 0, 0)), None);
    }
}
