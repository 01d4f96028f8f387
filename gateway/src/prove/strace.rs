//! How strace writes a system call down.

use std::{
    iter::Peekable,
    net::{IpAddr, SocketAddr},
    str::Bytes,
};

/// What stands in angle brackets behind each number, such as `/a/file` of `5</a/file>`.
pub(super) fn descriptors(arguments: &str) -> impl Iterator<Item = &str> {
    let mut rest = arguments;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('<')?;
            let is_descriptor = rest[..open].ends_with(|last: char| last.is_ascii_digit())
                || rest[..open].ends_with("FDCWD");
            let inside = &rest[open + 1..];
            let close = closing(inside)?;
            rest = &inside[close + 1..];
            if is_descriptor {
                return Some(&inside[..close]);
            }
        }
    })
}

/// Where the bracket that is open already is closed; arrows and brackets within are passed over.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut before = ' ';
    for (place, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
        before = character;
    }
    None
}

/// The call without the number of the thread that made it.
pub(super) fn without_pid(line: &str) -> String {
    line.trim_start_matches(|digit: char| digit.is_ascii_digit()).trim_start().to_owned()
}

/// Whom the addresses in a call name; none if one of them is not understood.
pub(super) fn recipients(arguments: &str) -> Option<Vec<SocketAddr>> {
    arguments.split("sa_family=").skip(1).map(recipient).collect()
}

/// Whom `AF_INET, sin_port=htons(7), sin_addr=inet_addr("192.0.2.1")}` and the like of IPv6 name.
fn recipient(name: &str) -> Option<SocketAddr> {
    let (_, port) = name.split_once("_port=htons(")?;
    let (port, rest) = port.split_once(')')?;
    let before =
        if name.starts_with("AF_INET6") { "inet_pton(AF_INET6, \"" } else { "inet_addr(\"" };
    let (_, ip) = rest.split_once(before)?;
    let ip: IpAddr = ip.split_once('"')?.0.parse().ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port.parse().ok()?))
}

/// What stands in quotes, as it was before strace put it there.
pub(super) fn strings(arguments: &str) -> Vec<Vec<u8>> {
    let mut strings = Vec::new();
    let mut bytes = arguments.bytes().peekable();
    while bytes.any(|byte| byte == b'"') {
        let mut string = Vec::new();
        while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
            string.extend(if byte == b'\\' { escaped(&mut bytes) } else { Some(byte) });
        }
        strings.push(string);
    }
    strings
}

/// The byte that follows a backslash: a letter for it, or up to three octal digits.
fn escaped(bytes: &mut Peekable<Bytes<'_>>) -> Option<u8> {
    let first = bytes.next()?;
    let control = [(b'n', b'\n'), (b't', b'\t'), (b'r', b'\r'), (b'v', 0x0b), (b'f', 0x0c)];
    if let Some((_, byte)) = control.iter().find(|(letter, _)| *letter == first) {
        return Some(*byte);
    }
    let is_octal = |byte: &u8| (b'0'..=b'7').contains(byte);
    if !is_octal(&first) {
        return Some(first);
    }
    let mut byte = first - b'0';
    for _ in 0..2 {
        let Some(digit) = bytes.next_if(is_octal) else { break };
        byte = byte << 3 | (digit - b'0');
    }
    Some(byte)
}

/// What stands in quotes.
pub(super) fn quoted(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_is_read_as_it_was() {
        let read = strings(r#""/a\"b\\c\310\7x\0001\n", 0700, "d""#);
        assert_eq!(read, [b"/a\"b\\c\xc8\x07x\x001\n".to_vec(), b"d".to_vec()]);
    }

    #[test]
    fn all_whom_a_call_names_are_read() {
        let v4 = r#"{sa_family=AF_INET, sin_port=htons(7), sin_addr=inet_addr("192.0.2.1")}"#;
        let mapped = r#"{sa_family=AF_INET6, sin6_port=htons(8), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:192.0.2.2", &sin6_addr), sin6_scope_id=0}"#;
        let both = ["192.0.2.1:7", "192.0.2.2:8"].map(|to| to.parse().unwrap());
        assert_eq!(recipients(&format!("{v4}, {mapped}")), Some(both.to_vec()));
        assert_eq!(recipients("NULL"), Some(Vec::new()));
        assert_eq!(recipients("{sa_family=AF_INET, ...}"), None);
    }
}
