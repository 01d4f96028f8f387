//! What a process holds in memory, read from `/proc/PID/mem`.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
};

use super::{
    processes::Process,
    search::{Search, Searched},
};

/// Size of a page, and of its entry in `/proc/PID/pagemap`, in bytes.
const PAGE: u64 = 4096;
const ENTRY: usize = 8;
/// Entries that are read at once.
const ENTRIES: usize = 1 << 15;
/// A page is in memory, or in swap.
const IS_THERE: u64 = 0b11 << 62;

/// A part of memory, as a line of `/proc/PID/maps` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    start: u64,
    end: u64,
    /// Its pages are made when they are first used; until then there is nothing in them.
    is_anonymous: bool,
}

/// Searches everything that the process can read.
///
/// # Errors
/// If its memory cannot be read at all.
pub(super) fn search(search: &Search, process: &Process) -> io::Result<Searched> {
    let maps = fs::read_to_string(process.dir().join("maps"))?;
    let memory = File::open(process.dir().join("mem"))?;
    let pages = File::open(process.dir().join("pagemap"))?;
    let mut all = Searched::default();
    for region in maps.lines().filter_map(region) {
        let parts = if region.is_anonymous { used(&pages, region)? } else { vec![region] };
        for part in parts {
            let mut reader = RegionReader { memory: &memory, at: part.start, end: part.end };
            let mut found = search.read(&mut reader)?;
            found.hits.iter_mut().for_each(|hit| hit.offset += part.start);
            all.merge(found);
        }
    }
    if all.bytes == 0 {
        return Err(io::Error::other("nothing of its memory can be read"));
    }
    Ok(all)
}

fn region(line: &str) -> Option<Region> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    let is_readable = words.next()?.starts_with('r');
    let is_anonymous = words.nth(2)? == "0";
    // The kernel's own pages, which hold nothing of the process.
    let is_kernels = words.next().is_some_and(|name| name.starts_with("[v"));
    (is_readable && !is_kernels).then_some(Region { start, end, is_anonymous })
}

/// The parts of an anonymous region that have been used: a heap can be reserved that is larger than memory.
fn used(pages: &File, region: Region) -> io::Result<Vec<Region>> {
    let mut parts: Vec<Region> = Vec::new();
    let mut entries = vec![0; ENTRIES * ENTRY];
    let mut at = region.start;
    while at < region.end {
        let got = pages.read_at(&mut entries, at / PAGE * ENTRY as u64)?;
        if got < ENTRY {
            break;
        }
        for entry in entries[..got].chunks_exact(ENTRY) {
            let entry = entry.iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte));
            if at < region.end && entry & IS_THERE != 0 {
                match parts.last_mut() {
                    Some(last) if last.end == at => last.end += PAGE,
                    _ => parts.push(Region { start: at, end: at + PAGE, ..region }),
                }
            }
            at += PAGE;
        }
    }
    Ok(parts)
}

struct RegionReader<'a> {
    memory: &'a File,
    at: u64,
    end: u64,
}

impl Read for RegionReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        // A region that went since it was listed holds nothing any longer.
        let got = self.memory.read_at(&mut buffer[..len], self.at).unwrap_or(0);
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::mark::Mark, *};

    #[test]
    fn value_in_a_process_is_found_once_it_is_there() {
        let mark = Mark::text("kept");
        let searching = Search::new(std::slice::from_ref(&mark)).unwrap();
        let mut child = std::process::Command::new("sleep");
        child.arg("60");
        let hits = |child: &mut std::process::Command| {
            let mut running = child.spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(200));
            let process = Process { pid: running.id(), name: "sleep".into() };
            let searched = search(&searching, &process).unwrap();
            running.kill().unwrap();
            running.wait().unwrap();
            searched.hits.len()
        };
        assert_eq!(hits(child.env_clear()), 0);
        assert_eq!(hits(child.env("MARK", mark.shown())), 1);
    }

    #[test]
    fn kernels_pages_are_left_out() {
        assert!(region("7ffd1000-7ffd3000 r--p 00000000 00:00 0  [vvar]").is_none());
        assert!(region("1000-3000 ---p 00000000 00:00 0").is_none());
        let heap = region("1000-3000 rw-p 00000000 00:00 0  [heap]").unwrap();
        assert_eq!(heap, Region { start: 0x1000, end: 0x3000, is_anonymous: true });
        assert!(!region("1000-3000 r-xp 00000000 fe:01 9  /usr/bin/tacit").unwrap().is_anonymous);
    }
}
