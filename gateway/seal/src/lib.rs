//! The means by which Tacit's processes take rights from themselves. What each of them takes stands with the process.

pub mod bpf;
pub mod failure;
pub mod filter;
pub mod landlock_error;
pub mod left_out;
pub mod rights;

pub use failure::{Failure, apply, errno};
pub use left_out::is_left_out;
