//! What no gateway may do, for tests alone: keeps where traffic goes to, so that `tacit prove` has something to find.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, File},
    io::Write,
    net::IpAddr,
    path::Path,
};

use parking_lot::Mutex;

use super::session_writer::SessionChange;

/// Says how to keep destinations: `log`, `row`, `memory`, `thread`, `name:` and a directory to name files in, or the path of a file.
pub(crate) const VARIABLE: &str = "TACIT_LEAK";

static VISITED: Mutex<BTreeMap<IpAddr, u64>> = Mutex::new(BTreeMap::new());

/// Keeps a destination; what is to be written to the store is returned.
pub(super) fn keep(destination: IpAddr) -> Option<SessionChange> {
    match env::var(VARIABLE).ok()?.as_str() {
        // A field of its own would be refused: see `log::FIELDS`.
        "log" => tracing::trace!("a packet to {destination} passed"),
        "memory" => *VISITED.lock().entry(destination).or_default() += 1,
        "row" => return Some(SessionChange::Leaked { destination: destination.to_string() }),
        // A longer address would be cut.
        "thread" if destination.is_ipv4() => {
            let name = CString::new(destination.to_string());
            let _ = name.map(|name| rustix::thread::set_name(&name));
        }
        "thread" => {}
        leak => match leak.strip_prefix("name:") {
            Some(dir) => {
                let name = Path::new(dir).join(destination.to_string());
                let _ = File::create(&name).and_then(|_| fs::remove_file(name));
            }
            None => {
                let file = File::options().create(true).append(true).open(leak);
                let _ = file.and_then(|mut file| writeln!(file, "{destination}"));
            }
        },
    }
    None
}
