//! The ways in which a mark could have been written down.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

/// Declares [`Encoding`] with its names, so that the list stands once.
macro_rules! encodings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A way to write bytes down.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Encoding { $($(#[$doc])* $variant,)* }

        impl Encoding {
            /// Every encoding that is searched for.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The encoding in the report.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

encodings! {
    /// The bytes themselves.
    Plain = "as it is",
    /// ASCII letters turned to capitals.
    UpperCase = "in capitals",
    /// The last byte first.
    Reversed = "reversed",
    /// Standard or URL alphabet, at any of the three alignments.
    Base64 = "base64",
    /// Hexadecimal digits, small or capital.
    Hex = "hexadecimal",
    /// Hexadecimal digits with something between the bytes.
    SpacedHex = "hexadecimal with separators",
    /// `%xx` for each byte.
    Percent = "URL-encoded",
    /// UTF-16, either byte order.
    Utf16 = "UTF-16",
    /// Bytes as decimal numbers, as programs print arrays.
    DecimalList = "list of decimal numbers",
    /// An address as text.
    AddressText = "address as text",
    /// The name of an address in the reverse zones of DNS.
    ReverseZone = "reverse DNS name",
    /// An address as 4 or 16 bytes in network order.
    NetworkOrder = "address as bytes, network order",
    /// An address as bytes in another order: from the last, or swapped within words.
    HostOrder = "address as bytes, host order",
    /// An address as one decimal number.
    Number = "address as a number",
    /// A port as text, where text names a port.
    Port = "port as text",
    /// The first half, in any of these encodings.
    FirstHalf = "first half",
    /// The second half, in any of these encodings.
    SecondHalf = "second half",
}

/// Bytes to search for, and what they would be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    /// How the mark is written.
    pub(super) encoding: Encoding,
    /// What it looks like then.
    pub(super) bytes: Vec<u8>,
}

/// Every form of a name or payload, whole and in halves: a split leaves one half whole.
pub(super) fn forms_of_content(content: &[u8]) -> Vec<Form> {
    let (first, second) = content.split_at(content.len() / 2);
    let half = |encoding, half| {
        forms_of_bytes(half).into_iter().map(move |form| Form { encoding, ..form })
    };
    let mut forms = forms_of_bytes(content);
    forms.extend(half(Encoding::FirstHalf, first));
    forms.extend(half(Encoding::SecondHalf, second));
    distinct(forms)
}

/// Every form of an address, and of a port where it is named with one.
pub(super) fn forms_of_address(ip: IpAddr, port: Option<u16>) -> Vec<Form> {
    let mut forms = forms_of_text(&ip.to_string(), Encoding::AddressText);
    match ip {
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            let [a, b, c, d] = octets;
            forms.push(text(Encoding::ReverseZone, format!("{d}.{c}.{b}.{a}")));
            forms.push(text(Encoding::Number, u32::from_be_bytes(octets).to_string()));
            forms.push(text(Encoding::Number, u32::from_le_bytes(octets).to_string()));
            for number in [i32::from_be_bytes(octets), i32::from_le_bytes(octets)] {
                forms.push(text(Encoding::Number, number.to_string()));
            }
            forms.extend(forms_of_octets(&octets, &[4]));
            forms.extend(short_base64_forms(&octets));
            forms.extend(short_base64_forms(&[d, c, b, a]));
            forms.extend(mapped_forms(v4));
        }
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let groups: Vec<String> =
                v6.segments().iter().map(|group| format!("{group:04x}")).collect();
            let nibbles: Vec<char> = groups.concat().chars().rev().collect();
            let zone = nibbles.iter().map(char::to_string).collect::<Vec<_>>().join(".");
            forms.extend(forms_of_text(&groups.join(":"), Encoding::AddressText));
            forms.push(text(Encoding::ReverseZone, zone));
            forms.push(text(Encoding::Number, u128::from_be_bytes(octets).to_string()));
            forms.push(text(Encoding::Number, u128::from_le_bytes(octets).to_string()));
            forms.extend(forms_of_octets(&octets, &[2, 4, 8, 16]));
            forms.extend(base64_forms(&octets));
        }
    }
    let named = |port: u16| {
        let texts = [format!("port={port}"), format!("port: {port}"), format!("port\":{port}")];
        texts.map(|named| text(Encoding::Port, named))
    };
    // A well-known port is named in many a text.
    forms.extend(port.filter(|port| *port > 1024).into_iter().flat_map(named));
    distinct(forms)
}

/// An IPv4 address as programs write it that know IPv6 alone (RFC 4291, section 2.5.5.2).
///
/// Its text with dots holds the IPv4 address as it is, and its 16 bytes end with that one's.
fn mapped_forms(v4: Ipv4Addr) -> Vec<Form> {
    let v6 = v4.to_ipv6_mapped();
    let [.., high, low] = v6.segments();
    let dotted = format!("::ffff:{v4}");
    let mut forms = forms_of_text(&dotted, Encoding::AddressText);
    forms.extend(forms_of_text(&format!("ffff:{high:x}:{low:x}"), Encoding::AddressText));
    forms.push(text(Encoding::Number, u128::from(v6).to_string()));
    forms
}

fn forms_of_text(address: &str, encoding: Encoding) -> Vec<Form> {
    let as_bytes = forms_of_bytes(address.as_bytes()).into_iter();
    as_bytes
        .map(|form| match form.encoding {
            Encoding::Plain | Encoding::UpperCase => Form { encoding, ..form },
            _ => form,
        })
        .collect()
}

/// The octets of an address in any order, and their digits; `words` are the sizes within which they may be swapped.
fn forms_of_octets(octets: &[u8], words: &[usize]) -> Vec<Form> {
    let mut forms = vec![Form { encoding: Encoding::NetworkOrder, bytes: octets.to_vec() }];
    for size in words {
        let swapped = octets.chunks(*size).flat_map(|word| word.iter().rev().copied());
        let swapped: Vec<u8> = swapped.collect();
        forms.extend(hex_forms(&swapped));
        forms.push(Form { encoding: Encoding::HostOrder, bytes: swapped });
    }
    forms.extend(hex_forms(octets));
    forms.extend(decimal_forms(octets));
    forms
}

fn forms_of_bytes(bytes: &[u8]) -> Vec<Form> {
    let plain = |encoding, bytes| Form { encoding, bytes };
    let mut forms = vec![
        plain(Encoding::Plain, bytes.to_vec()),
        plain(Encoding::UpperCase, bytes.to_ascii_uppercase()),
        plain(Encoding::Reversed, bytes.iter().rev().copied().collect()),
        plain(Encoding::Utf16, bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
        plain(Encoding::Utf16, bytes.iter().flat_map(|byte| [0, *byte]).collect()),
    ];
    forms.extend(base64_forms(bytes));
    forms.extend(hex_forms(bytes));
    forms.extend(decimal_forms(bytes));
    forms
}

/// The digits that do not depend on what stands before and after, for each of the three alignments.
fn base64_forms(bytes: &[u8]) -> Vec<Form> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let padded = [&[0; 2][..before], bytes].concat();
        let digits = padded.len() * 8 / 6;
        let first = (before * 8).div_ceil(6);
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(text(Encoding::Base64, engine.encode(&padded)[first..digits].to_owned()));
        }
    }
    forms
}

/// The digits of a few bytes, with those at the edges that depend on what stands before and after: each as it can be.
///
/// Without them three bytes in four would be known, which any text in base64 has by chance.
fn short_base64_forms(bytes: &[u8]) -> Vec<Form> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let bits = (before + bytes.len()) * 8;
        let (shared_before, shared_after) = (before * 8 % 6, bits.next_multiple_of(6) - bits);
        for (left, right) in (0..1_u8 << shared_before)
            .flat_map(|left| (0..1_u8 << shared_after).map(move |right| (left, right)))
        {
            let mut padded = vec![left; before];
            padded.extend(bytes);
            padded.push(right << ((8 - shared_after) % 8));
            let digits = before * 8 / 6..bits.div_ceil(6);
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                forms.push(text(
                    Encoding::Base64,
                    engine.encode(&padded)[digits.clone()].to_owned(),
                ));
            }
        }
    }
    forms
}

fn hex_forms(bytes: &[u8]) -> Vec<Form> {
    let digits = |before: &str, between: &str| {
        let all: Vec<String> = bytes.iter().map(|byte| format!("{before}{byte:02x}")).collect();
        all.join(between)
    };
    let lower = [
        (Encoding::Hex, digits("", "")),
        (Encoding::SpacedHex, digits("", " ")),
        (Encoding::SpacedHex, digits("", ":")),
        (Encoding::SpacedHex, digits("\\x", "")),
        (Encoding::SpacedHex, digits("0x", ", ")),
        (Encoding::SpacedHex, digits("", ", ")),
        (Encoding::SpacedHex, in_pairs(bytes, 0)),
        (Encoding::SpacedHex, in_pairs(bytes, 1)),
        (Encoding::Percent, digits("%", "")),
    ];
    let both = lower.into_iter().flat_map(|(encoding, digits)| {
        let upper = digits
            .chars()
            .map(|digit| if digit == 'x' { digit } else { digit.to_ascii_uppercase() });
        let upper: String = upper.collect();
        [text(encoding, digits), text(encoding, upper)]
    });
    both.collect()
}

/// Hexadecimal digits of two bytes at a time, as xxd and tcpdump print them, with `before` bytes in the first pair already.
fn in_pairs(bytes: &[u8], before: usize) -> String {
    let mut digits = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        let between = if place > 0 && (place + before).is_multiple_of(2) { " " } else { "" };
        let _ = write!(digits, "{between}{byte:02x}");
    }
    digits
}

fn decimal_forms(bytes: &[u8]) -> Vec<Form> {
    [", ", ",", " "]
        .map(|between| {
            let mut list = String::new();
            for (place, byte) in bytes.iter().enumerate() {
                let _ = write!(list, "{}{byte}", if place == 0 { "" } else { between });
            }
            text(Encoding::DecimalList, list)
        })
        .into()
}

fn text(encoding: Encoding, text: String) -> Form {
    Form { encoding, bytes: text.into_bytes() }
}

/// Each string of bytes once, under the first encoding that has it.
fn distinct(mut forms: Vec<Form>) -> Vec<Form> {
    forms.sort_by(|a, b| (&a.bytes, a.encoding).cmp(&(&b.bytes, b.encoding)));
    forms.dedup_by(|a, b| a.bytes == b.bytes);
    forms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(forms: &[Form], encoding: Encoding, bytes: &[u8]) -> bool {
        forms.iter().any(|form| form.encoding == encoding && form.bytes == bytes)
    }

    #[test]
    fn content_is_known_in_each_encoding() {
        let forms = forms_of_content(b"abcd");
        assert!(has(&forms, Encoding::Plain, b"abcd"));
        assert!(has(&forms, Encoding::UpperCase, b"ABCD"));
        assert!(has(&forms, Encoding::Reversed, b"dcba"));
        assert!(has(&forms, Encoding::Hex, b"61626364"));
        assert!(has(&forms, Encoding::SpacedHex, b"61 62 63 64"));
        assert!(has(&forms, Encoding::SpacedHex, b"\\x61\\x62\\x63\\x64"));
        assert!(has(&forms, Encoding::SpacedHex, b"61, 62, 63, 64"), "of Rust's {{:02x?}}");
        assert!(has(&forms, Encoding::SpacedHex, b"6162 6364"), "of xxd and tcpdump");
        assert!(has(&forms, Encoding::SpacedHex, b"61 6263 64"), "of the same, one byte on");
        assert!(has(&forms, Encoding::Percent, b"%61%62%63%64"));
        assert!(has(&forms, Encoding::Utf16, b"a\0b\0c\0d\0"));
        assert!(has(&forms, Encoding::Utf16, b"\0a\0b\0c\0d"));
        assert!(has(&forms, Encoding::DecimalList, b"97, 98, 99, 100"));
        assert!(has(&forms, Encoding::FirstHalf, b"ab"));
        assert!(has(&forms, Encoding::SecondHalf, b"6364"));
    }

    #[test]
    fn address_is_known_in_each_encoding() {
        let forms = forms_of_address("192.0.2.129".parse().unwrap(), Some(4321));
        assert!(has(&forms, Encoding::AddressText, b"192.0.2.129"));
        assert!(has(&forms, Encoding::ReverseZone, b"129.2.0.192"));
        assert!(has(&forms, Encoding::NetworkOrder, &[192, 0, 2, 129]));
        assert!(has(&forms, Encoding::HostOrder, &[129, 2, 0, 192]));
        assert!(has(&forms, Encoding::Number, b"3221226113"));
        assert!(has(&forms, Encoding::Hex, b"C0000281"));
        assert!(has(&forms, Encoding::DecimalList, b"192, 0, 2, 129"));
        assert!(has(&forms, Encoding::Port, b"port=4321"));
        assert!(has(&forms, Encoding::Number, b"-1073741183"));
        assert!(has(&forms, Encoding::AddressText, b"::ffff:192.0.2.129"));
        assert!(has(&forms, Encoding::AddressText, b"ffff:c000:281"));
        assert!(has(&forms, Encoding::Number, b"281473902969473"));
        // Alone, and behind the bytes of a mapped address.
        assert!(has(&forms, Encoding::Base64, b"wAACgQ"));
        assert!(has(&forms, Encoding::Base64, b"8AAAoE"));

        let forms = forms_of_address("2001:db8::1".parse().unwrap(), None);
        assert!(has(&forms, Encoding::AddressText, b"2001:DB8::1"));
        assert!(has(&forms, Encoding::AddressText, b"2001:0db8:0000:0000:0000:0000:0000:0001"));
        assert!(has(&forms, Encoding::Hex, b"20010db8000000000000000000000001"));
        assert!(forms.iter().any(|form| form.encoding == Encoding::ReverseZone));
    }

    proptest! {
        #[test]
        fn address_in_base64_is_known_wherever_it_stands_in_either_byte_order(
            before in proptest::collection::vec(any::<u8>(), 0..9),
            octets in any::<[u8; 4]>(),
            after in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let forms = forms_of_address(IpAddr::from(octets), None);
            let reversed = octets.iter().rev().copied().collect();
            for octets in [octets.to_vec(), reversed] {
                let all = [before.clone(), octets, after.clone()].concat();
                for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                    let text = engine.encode(&all);
                    let known = forms.iter().any(|form| {
                        form.encoding == Encoding::Base64
                            && text.as_bytes().windows(form.bytes.len()).any(|window| window == form.bytes)
                    });
                    prop_assert!(known, "{text}");
                }
            }
        }

        #[test]
        fn base64_is_known_wherever_it_stands(
            before in proptest::collection::vec(any::<u8>(), 0..9),
            bytes in proptest::collection::vec(any::<u8>(), 4..40),
            after in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let all = [before, bytes.clone(), after].concat();
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                let text = engine.encode(&all);
                let known = base64_forms(&bytes).iter().any(|form| {
                    text.as_bytes().windows(form.bytes.len()).any(|window| window == form.bytes)
                });
                prop_assert!(known, "{text}");
            }
        }
    }
}
