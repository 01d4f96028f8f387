//! Where the names of users, groups and hosts are looked up.
//!
//! The C library would load whatever modules `/etc/nsswitch.conf` names into the process: code that nobody built with
//! this program, of a library version that a static executable does not have.

use std::ffi::{CStr, c_char, c_int};

/// What is looked up, and where: in files of the host; a host's name also at its name servers.
const SOURCES: [(&CStr, &CStr); 3] =
    [(c"passwd", c"files"), (c"group", c"files"), (c"hosts", c"files dns")];

#[expect(unsafe_code, reason = "glibc's own, of which no crate knows")]
unsafe extern "C" {
    /// Has names of the kind `database` be looked up as `sources` says, in the words of nsswitch.conf(5).
    fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
}

/// Has names be looked up in the host's files and at its name servers alone. It fails only for words that the library
/// does not know.
pub(crate) fn use_built_in() {
    for (database, sources) in SOURCES {
        let _ = configure(database, sources);
    }
}

#[expect(unsafe_code, reason = "glibc's own, of which no crate knows")]
fn configure(database: &CStr, sources: &CStr) -> c_int {
    // SAFETY: both are texts that end, which the library reads during the call alone.
    unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_known_to_the_library() {
        for (database, sources) in SOURCES {
            assert_eq!(configure(database, sources), 0);
        }
        let root = nix::unistd::User::from_name("root").unwrap();
        assert_eq!(root.map(|root| root.uid.as_raw()), Some(0));
    }
}
