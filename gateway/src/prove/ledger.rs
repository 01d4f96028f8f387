//! What was searched, and what was found there.

use std::{collections::BTreeMap, io};

use super::{
    encoding::Encoding,
    search::{Hit, Search, Searched},
};

/// Declares [`PlaceKind`] with its names, so that the list stands once.
macro_rules! place_kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A kind of place in which something could be kept.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum PlaceKind { $($(#[$doc])* $variant,)* }

        impl PlaceKind {
            /// The kind in the report.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

place_kinds! {
    /// SQLite's file, free pages included, its write-ahead log and index.
    Database = "database, with write-ahead log and free pages",
    /// The rest of the data directory.
    DataDir = "data directory",
    /// What the gateway wrote to stdout and stderr.
    Output = "stdout and stderr at level trace",
    /// `/tmp` and `/var/tmp`.
    TemporaryFiles = "temporary files",
    /// `/dev/shm`.
    SharedMemory = "shared memory",
    /// `/run`.
    RunFiles = "files below /run",
    /// Files elsewhere that strace saw.
    OtherFiles = "files elsewhere that strace saw",
    /// Names of files.
    FileNames = "names of files",
    /// Names of threads.
    ThreadNames = "names of processes and threads",
    /// Files that a process has open, deleted ones too.
    OpenFiles = "files held open, deleted ones too",
    /// Memory of a process that knows customers.
    Memory = "memory of processes that know customers",
    /// Memory of the process that packets pass through.
    ForwarderMemory = "memory of the process that packets pass through",
    /// The kernel's connection tracking.
    Conntrack = "connection tracking of the kernel",
    /// What the kernel holds of the gateway's network besides.
    KernelState = "firewall, routes, links and traffic control in the kernel",
    /// Log files of the machine that changed.
    HostLogs = "logs and journal of this machine",
    /// Temporary files and shared memory of the machine that changed.
    HostFiles = "temporary files and shared memory of this machine",
    /// The kernel's log.
    KernelLog = "log of the kernel",
}

/// When a place was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    /// While the clients were connected.
    Live,
    /// After their sessions had ended.
    Ended,
    /// After the gateway had stopped.
    Stopped,
}

impl Moment {
    /// The moment in the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Live => "while clients were connected",
            Self::Ended => "after their sessions had ended",
            Self::Stopped => "after the gateway had stopped",
        }
    }
}

/// A place that was searched.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// How much of it, at most.
    pub(super) bytes: u64,
    /// When.
    pub(super) moments: Vec<Moment>,
}

/// A mark that was found in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Number of the mark.
    pub(super) mark: usize,
    /// How it was written.
    pub(super) encoding: Encoding,
    /// In what.
    pub(super) kind: PlaceKind,
    /// Where in it.
    pub(super) place: String,
    /// How far from its beginning.
    pub(super) offset: u64,
    /// When.
    pub(super) moment: Moment,
}

/// The search, and what it came to so far.
pub(super) struct Ledger {
    /// What is searched for.
    pub(super) search: Search,
    /// What was searched.
    pub(super) places: BTreeMap<(PlaceKind, String), Place>,
    /// What was found.
    pub(super) found: Vec<Found>,
    /// What could not be searched, and why.
    pub(super) unread: Vec<String>,
}

impl Ledger {
    /// A ledger of nothing.
    pub(super) fn new(search: Search) -> Self {
        Self { search, places: BTreeMap::new(), found: Vec::new(), unread: Vec::new() }
    }

    /// Searches `bytes`.
    pub(super) fn bytes(&mut self, kind: PlaceKind, place: &str, moment: Moment, bytes: &[u8]) {
        let searched = self.search.bytes(bytes);
        self.note(kind, place, moment, searched);
    }

    /// Takes what a search came to; what could not be read is said in the report.
    pub(super) fn outcome(
        &mut self,
        kind: PlaceKind,
        place: &str,
        moment: Moment,
        searched: io::Result<Searched>,
    ) {
        match searched {
            Ok(searched) => self.note(kind, place, moment, searched),
            Err(error) => self.unread.push(format!("{}: {place}: {error}", kind.name())),
        }
    }

    fn note(&mut self, kind: PlaceKind, place: &str, moment: Moment, searched: Searched) {
        for Hit { mark, encoding, offset } in searched.hits {
            let is_here = |known: &&mut Found| {
                known.mark == mark && known.kind == kind && known.place == place
            };
            let found = Found { mark, encoding, kind, place: place.into(), offset, moment };
            match self.found.iter_mut().find(is_here) {
                // It is still there, which is worse than to have been there.
                Some(known) => *known = found,
                None => self.found.push(found),
            }
        }
        let place = self
            .places
            .entry((kind, place.to_owned()))
            .or_insert_with(|| Place { bytes: 0, moments: Vec::new() });
        place.bytes = place.bytes.max(searched.bytes);
        if !place.moments.contains(&moment) {
            place.moments.push(moment);
        }
    }
}
