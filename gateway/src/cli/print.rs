//! What verbs print: tables for people, JSON for programs.

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Context;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How a verb prints what it is answered.
#[derive(Args, Clone, Copy)]
pub(super) struct Output {
    /// Print JSON for programs.
    #[arg(long)]
    pub(super) json: bool,
}

impl Output {
    /// Prints `answer` as JSON, or for people as `text` of it.
    pub(super) fn print<A: Serialize>(
        self,
        answer: &A,
        text: impl FnOnce(&A) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(answer)? } else { text(answer) };
        print_text(&text)
    }
}

/// Prints `text`.
pub(super) fn print_text(text: &str) -> anyhow::Result<()> {
    match write_line(text) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to stdout"),
    }
}

/// Writes `text` to stdout, ending its last line if need be.
pub(super) fn write_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// Rows below their heads, or `nothing` where there are none.
pub(super) fn table<const COLUMNS: usize>(
    heads: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
    nothing: &str,
) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    if rows.is_empty() {
        return nothing.into();
    }
    let mut table = plain_table();
    table.set_header(heads);
    for row in rows {
        table.add_row(row.map(|cell| Printable(&cell).to_string()));
    }
    aligned(table)
}

/// Names and their values, one pair a line.
pub(super) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = plain_table();
    for (name, value) in pairs {
        table.add_row([name.to_string(), Printable(&value).to_string()]);
    }
    aligned(table)
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Returns the table with two spaces between its columns and none before or after.
fn aligned(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.trim_fmt()
}

/// Text in one line that no terminal takes for a command: control and direction characters are written out.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            let turns_text = matches!(
                character,
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            );
            if character == '\n' {
                f.write_str(" ")?;
            } else if character.is_control() || turns_text {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_commands_are_written_out() {
        assert_eq!(Printable("a\u{1b}[2Jb").to_string(), "a\\u{1b}[2Jb");
        assert_eq!(Printable("a\u{9b}b\u{202e}c\r").to_string(), "a\\u{9b}b\\u{202e}c\\u{d}");
        assert_eq!(Printable("two\nlines").to_string(), "two lines");
        assert_eq!(Printable("Ännchens Gerät").to_string(), "Ännchens Gerät");
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let table = table(["NAME", "N"], [["a\u{7}".into(), "1".into()]], "none");
        assert_eq!(table, "NAME    N\na\\u{7}  1");
    }

    #[test]
    fn empty_table_says_so() {
        assert_eq!(table(["NAME"], [], "no devices"), "no devices");
    }
}
