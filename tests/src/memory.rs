//! What a process has in its memory, read from outside by root.

use std::{fs, io, os::unix::fs::FileExt, path::Path};

const PAGE: u64 = 4096;
/// Of an entry in `/proc/PID/pagemap`: the page is in memory.
const PRESENT: u64 = 1 << 63;

/// All pages of a process that it can write to and that it ever touched.
pub struct Memory(Vec<u8>);

impl Memory {
    /// Reads the memory of the process that has `directory` in `/proc`.
    ///
    /// # Panics
    /// If the kernel does not let this process read it.
    #[must_use]
    pub fn read(directory: &Path) -> Self {
        let open = |name| fs::File::open(directory.join(name)).expect("opening a file of /proc");
        let (memory, pages) = (open("mem"), open("pagemap"));
        let maps = fs::read_to_string(directory.join("maps")).expect("reading the memory map");
        let mut content = Vec::new();
        for (from, to) in maps.lines().filter_map(writable) {
            append(&memory, &pages, from, to, &mut content).expect("reading the memory");
        }
        assert!(!content.is_empty(), "nothing of the memory could be read");
        Self(content)
    }

    /// How often `bytes` occur.
    #[must_use]
    pub fn count(&self, bytes: &[u8]) -> usize {
        memchr::memmem::find_iter(&self.0, bytes).count()
    }
}

/// The addresses of a line of `/proc/PID/maps`, if what is there can be written to.
fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    words.next()?.contains('w').then_some((address(from)?, address(to)?))
}

/// Appends the pages between two addresses that are in memory: much of a heap is only reserved.
fn append(
    memory: &fs::File,
    pages: &fs::File,
    from: u64,
    to: u64,
    content: &mut Vec<u8>,
) -> io::Result<()> {
    let mut entries = vec![0; ((to - from) / PAGE * 8) as usize];
    pages.read_exact_at(&mut entries, from / PAGE * 8)?;
    for (page, entry) in entries.chunks_exact(8).enumerate() {
        let entry = entry.iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte));
        if entry & PRESENT != 0 {
            let len = content.len();
            content.resize(len + PAGE as usize, 0);
            memory.read_exact_at(&mut content[len..], from + page as u64 * PAGE)?;
        }
    }
    Ok(())
}
