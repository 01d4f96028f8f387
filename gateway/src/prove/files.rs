//! The gateway's files. Each is held open once it was seen, so that one that is deleted later is searched all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::{
        ffi::OsStringExt,
        fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use super::{
    gateway::{PRIVATE_DIRS, PrivateGateway},
    ledger::{Ledger, Moment, PlaceKind},
    namespace::Namespace,
    processes::Process,
    watch::Witness,
};

/// Files by device and inode, under the path by which they were first seen.
#[derive(Default)]
pub(super) struct Files {
    held: BTreeMap<(u64, u64), (PathBuf, File)>,
}

impl Files {
    /// Searches all files in the directories that are the gateway's own, those elsewhere that `witness` saw written to,
    /// and all that were seen before; and the names of files, with all others that it saw given.
    ///
    /// # Errors
    /// If the gateway's files cannot be reached.
    pub(super) fn search(
        &mut self,
        inside: &Namespace,
        witness: &Witness,
        ledger: &mut Ledger,
        moment: Moment,
    ) -> anyhow::Result<()> {
        inside.within(|| {
            let mut names = Vec::new();
            for dir in PRIVATE_DIRS.map(Path::new).iter().filter(|dir| dir.is_dir()) {
                self.hold_below(dir, dir.metadata()?.dev(), &mut names);
            }
            for path in witness.files.iter().map(Path::new) {
                self.hold(path);
                names.push(path.to_owned());
            }
            let mut names: Vec<Vec<u8>> =
                names.into_iter().map(|path| path.into_os_string().into_vec()).collect();
            names.extend(witness.names.iter().cloned());
            ledger.bytes(PlaceKind::FileNames, "all", moment, &names.join(&b'\n'));
            Ok(())
        })?;
        for (path, file) in self.held.values() {
            let place = path.display().to_string();
            let searched = ledger.search.read(FromStart { file, at: 0 });
            ledger.outcome(kind_of(path), &place, moment, searched);
        }
        Ok(())
    }

    /// The paths that were searched.
    pub(super) fn paths(&self) -> BTreeSet<String> {
        self.held.values().map(|(path, _)| path.display().to_string()).collect()
    }

    fn hold_below(&mut self, dir: &Path, device: u64, names: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            // What is mounted here is another's.
            if metadata.dev() != device || path.metadata().is_ok_and(|found| found.dev() != device)
            {
                continue;
            }
            if metadata.is_dir() {
                self.hold_below(&path, device, names);
            } else if metadata.is_file() {
                self.hold(&path);
            }
            names.push(path);
        }
    }

    fn hold(&mut self, path: &Path) {
        let Ok(file) = open(path) else { return };
        let Ok(metadata) = file.metadata() else { return };
        if metadata.is_file() {
            let key = (metadata.dev(), metadata.ino());
            self.held.entry(key).or_insert_with(|| (path.to_owned(), file));
        }
    }
}

/// Searches the files that a process has open, which need no name.
pub(super) fn search_open(process: &Process, ledger: &mut Ledger, moment: Moment) {
    for entry in fs::read_dir(process.dir().join("fd")).into_iter().flatten().flatten() {
        let is_file = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file());
        let Ok(name) = fs::read_link(entry.path()) else { continue };
        if is_file {
            let place = format!("{}: {}", process.role(), name.display());
            let searched = open(&entry.path()).and_then(|file| ledger.search.read(file));
            ledger.outcome(PlaceKind::OpenFiles, &place, moment, searched);
        }
    }
}

/// Opens what may be a file, without waiting if it is a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn kind_of(path: &Path) -> PlaceKind {
    let data_dir = PrivateGateway::data_dir();
    if let Ok(name) = path.strip_prefix(&data_dir) {
        let is_database = name.to_string_lossy().contains("sqlite");
        return if is_database { PlaceKind::Database } else { PlaceKind::DataDir };
    }
    match path {
        path if path.starts_with("/tmp") || path.starts_with("/var/tmp") => {
            PlaceKind::TemporaryFiles
        }
        path if path.starts_with("/dev/shm") => PlaceKind::SharedMemory,
        path if path.starts_with("/run") => PlaceKind::RunFiles,
        _ => PlaceKind::OtherFiles,
    }
}

/// Reads a file that is open from its first byte.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
