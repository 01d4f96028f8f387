//! The lines of a backup: JSON, one object each.

use std::{collections::BTreeMap, mem};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::BackupError;

/// The version of the lines.
const FORMAT: u32 = 1;

/// Longest line in bytes, more than the longest rules take.
pub(super) const MAX_LINE: usize = 16 * 1024 * 1024;

/// A line.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The first one.
    Tacit(Head),
    /// The rows that follow are of this table.
    Table { name: String, columns: Vec<String> },
    /// A row.
    Row(Vec<Value>),
    /// The highest number that a row of each numbered table ever had.
    Numbers(BTreeMap<String, i64>),
    /// The last one.
    End { rows: u64 },
}

/// What a backup says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Head {
    format: u32,
    /// The version of the tables.
    pub(super) tables: i64,
    /// When it was made, in seconds since 1970.
    at: u64,
    /// How many rows there are.
    rows: u64,
}

impl Head {
    pub(super) const fn new(tables: i64, at: u64, rows: u64) -> Self {
        Self { format: FORMAT, tables, at, rows }
    }
}

/// A value of a row.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Nothing(()),
    Number(i64),
    Text(String),
    Bytes { bytes: Base64 },
}

/// Bytes as text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Base64(pub(super) Vec<u8>);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        STANDARD.encode(bytes.0)
    }
}

/// What a backup holds, about nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows in all.
    pub rows: u64,
    /// Accounts.
    pub accounts: u64,
    /// When it was made, in seconds since 1970.
    pub at: u64,
}

impl Line {
    /// Appends the line to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // No value of a line can fail to be written.
        let _ = serde_json::to_writer(&mut *out, self);
        out.push(b'\n');
    }
}

/// Reads lines without keeping them, and says what the backup holds.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Lines read so far.
    number: u64,
    is_of_accounts: bool,
    said: u64,
    is_at_end: bool,
    summary: Summary,
}

impl Reader {
    /// Takes the next line, without its end.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<Line, BackupError> {
        self.number += 1;
        let wrong = BackupError::Line(self.number);
        let Ok(line) = serde_json::from_slice::<Line>(text) else { return Err(wrong) };
        match &line {
            _ if self.is_at_end => return Err(wrong),
            Line::Tacit(head) if self.number == 1 => {
                if head.format > FORMAT {
                    return Err(BackupError::Newer);
                }
                (self.summary.at, self.said) = (head.at, head.rows);
            }
            _ if self.number == 1 => return Err(wrong),
            Line::Tacit(_) => return Err(wrong),
            Line::Table { name, .. } => self.is_of_accounts = name == "accounts",
            Line::Row(_) => {
                self.summary.rows += 1;
                self.summary.accounts += u64::from(self.is_of_accounts);
            }
            Line::Numbers(_) => {}
            Line::End { rows } if *rows == self.said => self.is_at_end = true,
            Line::End { .. } => return Err(wrong),
        }
        Ok(line)
    }

    /// The number of the line that was read last.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// What was read.
    pub(super) const fn finish(self) -> Result<Summary, BackupError> {
        let (found, said) = (self.summary.rows, self.said);
        if !self.is_at_end {
            return Err(BackupError::CutOff);
        }
        if found != said {
            return Err(BackupError::Rows { found, said });
        }
        Ok(self.summary)
    }
}

/// Looks at a backup's pieces as they pass: whether they are one, whole, and what it holds.
#[derive(Debug, Default)]
pub struct Counting {
    reader: Reader,
    /// The begin of a line.
    rest: Vec<u8>,
    fault: Option<BackupError>,
}

impl Counting {
    /// Takes the next piece, wherever it begins and ends.
    pub fn take(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let line = &piece[..end];
            piece = &piece[end + 1..];
            if self.rest.is_empty() {
                self.line(line);
            } else {
                self.rest.extend_from_slice(line);
                let whole = mem::take(&mut self.rest);
                self.line(&whole);
            }
        }
        if self.rest.len() + piece.len() > MAX_LINE {
            self.fault.get_or_insert(BackupError::Line(self.reader.number() + 1));
        }
        if self.fault.is_none() {
            self.rest.extend_from_slice(piece);
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.reader.take(line).err();
        }
    }

    /// Rows so far, and in all.
    #[must_use]
    pub const fn progress(&self) -> (u64, u64) {
        (self.reader.summary.rows, self.reader.said)
    }

    /// What the backup holds.
    ///
    /// # Errors
    /// [`BackupError`] if it is none, or not whole.
    pub fn finish(self) -> Result<Summary, BackupError> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.rest.is_empty() => self.reader.finish(),
            None => Err(BackupError::CutOff),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(line: &Line) -> Vec<u8> {
        let mut out = Vec::new();
        line.write(&mut out);
        out
    }

    fn head(rows: u64) -> Line {
        Line::Tacit(Head::new(1, 7, rows))
    }

    fn take(reader: &mut Reader, line: &Line) -> Result<Line, BackupError> {
        reader.take(written(line).trim_ascii_end())
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were(number in any::<i64>(), text in ".*", bytes in any::<Vec<u8>>()) {
            let row = Line::Row(vec![
                Value::Nothing(()),
                Value::Number(number),
                Value::Text(text),
                Value::Bytes { bytes: Base64(bytes) },
            ]);
            let written = written(&row);
            prop_assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(serde_json::from_slice::<Line>(&written).unwrap(), row);
        }
    }

    #[test]
    fn lines_out_of_place_are_refused() {
        let row = || Line::Row(Vec::new());
        assert!(take(&mut Reader::default(), &row()).is_err(), "no head");
        let newer = br#"{"tacit":{"format":2,"tables":1,"at":7,"rows":1}}"#;
        assert!(matches!(Reader::default().take(newer), Err(BackupError::Newer)));
        let mut reader = Reader::default();
        assert!(take(&mut reader, &head(1)).is_ok());
        assert!(take(&mut reader, &head(1)).is_err(), "a second head");
        assert!(reader.take(br#"{"row":[1.5]}"#).is_err());
        assert!(take(&mut reader, &row()).is_ok());
        assert!(take(&mut reader, &Line::End { rows: 2 }).is_err(), "not what the head said");
        assert!(take(&mut reader, &Line::End { rows: 1 }).is_ok());
        assert!(take(&mut reader, &row()).is_err(), "after the end");
        assert_eq!(reader.finish().unwrap(), Summary { rows: 1, accounts: 0, at: 7 });
    }

    #[test]
    fn pieces_are_counted_wherever_they_are_cut() {
        let table = Line::Table { name: "accounts".into(), columns: Vec::new() };
        let lines = |rows| {
            [written(&head(rows)), written(&table), written(&Line::Row(Vec::new()))].concat()
        };
        let whole = [lines(1), written(&Line::End { rows: 1 })].concat();
        let count = |bytes: &[u8], size| {
            let mut counting = Counting::default();
            bytes.chunks(size).for_each(|piece| counting.take(piece));
            counting.finish()
        };
        for size in [1, 7, 1000] {
            assert_eq!(count(&whole, size).unwrap(), Summary { rows: 1, accounts: 1, at: 7 });
        }
        assert!(matches!(count(&lines(1), 7), Err(BackupError::CutOff)));
        assert!(matches!(count(&whole[..whole.len() - 2], 7), Err(BackupError::CutOff)));
        let false_end = [lines(2), written(&Line::End { rows: 2 })].concat();
        assert!(matches!(count(&false_end, 7), Err(BackupError::Rows { found: 1, said: 2 })));
        assert!(matches!(count(b"hello\n", 7), Err(BackupError::Line(1))));
    }
}
