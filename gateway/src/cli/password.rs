//! Asking for a password, which never is an argument: other users of the machine see those.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::{Context, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// More than any password has.
const MAX_LEN: u64 = 1024;

/// Reads a password from stdin: typed without an echo, or a line from a file or program.
pub(super) fn read(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(&mut stdin.lock());
    }
    eprint!("{prompt}");
    let silence = Silence::begin()?;
    let password = read_line(&mut stdin.lock());
    drop(silence);
    eprintln!();
    password
}

/// Reads a new passphrase: typed twice, because nothing opens what it seals if it was mistyped.
pub(super) fn read_new_passphrase() -> anyhow::Result<Zeroizing<String>> {
    let passphrase = read("New passphrase: ")?;
    if io::stdin().is_terminal() {
        ensure!(read("The same again: ")? == passphrase, "the two are not the same");
    }
    Ok(passphrase)
}

fn read_line(input: &mut impl BufRead) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(MAX_LEN as usize + 1));
    input.take(MAX_LEN).read_line(&mut line).context("reading the password")?;
    let len = line.trim_end_matches(['\r', '\n']).len();
    ensure!(len > 0, "no password came from stdin; type one, or pipe a line in");
    line.truncate(len);
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("asking the terminal for its settings")?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO;
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).context("turning the echo off")?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_the_first_line_without_its_end() {
        let read = |text: &str| read_line(&mut text.as_bytes());
        assert_eq!(**read("a b\r\nc").unwrap(), *"a b");
        assert_eq!(**read(" a ").unwrap(), *" a ");
        assert!(read("").is_err() && read("\n").is_err());
        assert_eq!(read(&"x".repeat(5000)).unwrap().len() as u64, MAX_LEN);
    }
}
