//! A gateway without a seal, for benchmarks alone.

/// What asks for it. The forwarder has no other variable.
#[cfg(feature = "unsealed")]
pub const VARIABLE: &str = "TACIT_UNSEALED";

/// Whether nothing is to be sealed: never, but in a program that was built to measure what the seal costs and is asked.
///
/// That program can do both, so that what is compared is the seal and not how two programs lie in memory.
#[must_use]
pub fn is_left_out() -> bool {
    #[cfg(feature = "unsealed")]
    return std::env::var_os(VARIABLE).is_some();
    #[cfg(not(feature = "unsealed"))]
    false
}
