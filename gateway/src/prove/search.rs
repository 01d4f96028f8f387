//! One search for all marks in all encodings.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use aho_corasick::{AhoCorasick, MatchKind};

use super::{encoding::Encoding, mark::Mark};

/// How much is looked at in one go, in bytes.
const CHUNK: usize = 1 << 20;

/// Finds marks in bytes.
#[derive(Debug)]
pub(super) struct Search {
    automaton: AhoCorasick,
    patterns: Vec<(usize, Encoding)>,
    longest: usize,
}

/// A mark that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Number of the mark.
    pub(super) mark: usize,
    /// How it was written; its halves count only where it was not found whole.
    pub(super) encoding: Encoding,
    /// Where it begins.
    pub(super) offset: u64,
}

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Searched {
    /// How much was looked at.
    pub(super) bytes: u64,
    /// The first place of each mark that was found.
    pub(super) hits: Vec<Hit>,
}

impl Searched {
    /// Adds what a search elsewhere came to.
    pub(super) fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        for hit in other.hits {
            match self.hits.iter_mut().find(|known| known.mark == hit.mark) {
                Some(known) if is_half(known.encoding) && !is_half(hit.encoding) => *known = hit,
                Some(_) => {}
                None => self.hits.push(hit),
            }
        }
    }
}

impl Search {
    /// Prepares to search for `marks`.
    ///
    /// # Errors
    /// If the marks are too many for memory.
    pub(super) fn new(marks: &[Mark]) -> anyhow::Result<Self> {
        let forms = marks.iter().enumerate().flat_map(|(number, mark)| {
            mark.forms().into_iter().map(move |form| ((number, form.encoding), form.bytes))
        });
        let (patterns, bytes): (Vec<_>, Vec<_>) = forms.unzip();
        let longest = bytes.iter().map(Vec::len).max().unwrap_or(1);
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&bytes)?;
        Ok(Self { automaton, patterns, longest })
    }

    /// How many strings of bytes are searched for.
    pub(super) fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Searches everything that `reader` gives.
    ///
    /// # Errors
    /// If reading fails.
    pub(super) fn read(&self, mut reader: impl Read) -> io::Result<Searched> {
        let mut first = BTreeMap::new();
        let (mut buffer, mut kept, mut base) = (vec![0; CHUNK + self.longest], 0, 0_u64);
        loop {
            let got = match reader.read(&mut buffer[kept..]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let len = kept + got;
            if got == 0 {
                let hits = first.into_values().collect();
                return Ok(Searched { bytes: base + kept as u64, hits });
            }
            self.collect(&buffer[..len], base, &mut first);
            // A mark may go on in what is read next.
            let keep = len.min(self.longest - 1);
            buffer.copy_within(len - keep..len, 0);
            base += (len - keep) as u64;
            kept = keep;
        }
    }

    /// Searches `bytes`.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Searched {
        let mut first = BTreeMap::new();
        self.collect(bytes, 0, &mut first);
        Searched { bytes: bytes.len() as u64, hits: first.into_values().collect() }
    }

    fn collect(&self, bytes: &[u8], base: u64, first: &mut BTreeMap<usize, Hit>) {
        for found in self.automaton.find_overlapping_iter(bytes) {
            let (mark, encoding) = self.patterns[found.pattern().as_usize()];
            let hit = Hit { mark, encoding, offset: base + found.start() as u64 };
            let known = first.entry(mark).or_insert(hit);
            if is_half(known.encoding) && !is_half(encoding) {
                *known = hit;
            }
        }
    }
}

fn is_half(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::FirstHalf | Encoding::SecondHalf)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(3).min(self.0.len());
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn every_form_of_a_mark_is_found_where_it_stands() {
        let marks = [Mark::text("name"), Mark::bytes("payload")];
        let search = Search::new(&marks).unwrap();
        for (number, mark) in marks.iter().enumerate() {
            for form in mark.forms() {
                let bytes = [b"before".as_slice(), &form.bytes, b"after"].concat();
                let searched = search.read(Dribble(&bytes)).unwrap();
                let hit = searched.hits[0];
                assert_eq!((searched.hits.len(), hit.mark, hit.offset), (1, number, 6), "{form:?}");
                assert_eq!(searched.bytes, bytes.len() as u64);
            }
        }
    }

    #[test]
    fn mark_is_found_across_two_chunks() {
        let mark = Mark::text("name");
        let search = Search::new(std::slice::from_ref(&mark)).unwrap();
        let mut bytes = vec![0; CHUNK + search.longest - 5];
        bytes.extend(mark.content());
        bytes.extend([0; 100]);
        let searched = search.read(bytes.as_slice()).unwrap();
        let offset = (CHUNK + search.longest - 5) as u64;
        assert_eq!(searched.hits, [Hit { mark: 0, encoding: Encoding::Plain, offset }]);
        assert_eq!(searched.bytes, bytes.len() as u64);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let search = Search::new(&[Mark::text("name"), Mark::bytes("payload")]).unwrap();
        assert!(search.bytes(b"somebody else's words, and only these").hits.is_empty());
    }
}
