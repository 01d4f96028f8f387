//! A name server that knows one name.

use crate::lab::{TARGET_V4, TARGET_V6};

/// The name that leads to the target.
pub const NAME: &str = "web.tacit.test";

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// Answers a question of one name (RFC 1035 section 4), or nothing if it is not one.
#[must_use]
pub fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let (name, end) = read_name(question)?;
    let kind = u16::from_be_bytes([*question.get(end)?, *question.get(end + 1)?]);
    let known = name.eq_ignore_ascii_case(NAME);
    let address: Vec<u8> = match kind {
        TYPE_A if known => TARGET_V4.octets().to_vec(),
        TYPE_AAAA if known => TARGET_V6.octets().to_vec(),
        _ => Vec::new(),
    };

    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(!address.is_empty()), 0, 0, 0, 0]);
    answer.extend(question.get(12..end + 4)?);
    if !address.is_empty() {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend((address.len() as u16).to_be_bytes());
        answer.extend(address);
    }
    Some(answer)
}

/// Reads the name that starts after the header; gives it and where it ends.
fn read_name(message: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + len)?).into_owned());
        at += len;
    }
}
