//! [`Change`]s as the comment of a table, to be read by people and by other gateways:
//! `ip_forward=0 ipv6_forwarding=0 accept_redirects=1 accept_ra=eth0,eth1`.

use super::Change;

/// Longest comment of a table in bytes.
const COMMENT_MAX: usize = 127;

/// A sysctl that the host has once.
struct Single {
    word: &'static str,
    key: &'static str,
    ours: Option<&'static str>,
}

/// A sysctl that each interface has, with the one former value that a comment can say.
struct PerInterface {
    word: &'static str,
    before_name: &'static str,
    after_name: &'static str,
    former: &'static str,
    ours: Option<&'static str>,
}

const SINGLES: [Single; 3] = [
    Single { word: "ip_forward", key: "net/ipv4/ip_forward", ours: Some("1") },
    Single { word: "ipv6_forwarding", key: "net/ipv6/conf/all/forwarding", ours: Some("1") },
    Single { word: "accept_redirects", key: "net/ipv4/conf/all/accept_redirects", ours: None },
];

const PER_INTERFACE: [PerInterface; 3] = [
    PerInterface {
        word: "accept_ra",
        before_name: "net/ipv6/conf/",
        after_name: "/accept_ra",
        former: "1",
        ours: Some("2"),
    },
    PerInterface {
        word: "ipv4_forwards",
        before_name: "net/ipv4/conf/",
        after_name: "/forwarding",
        former: "1",
        ours: None,
    },
    PerInterface {
        word: "ipv6_forwards",
        before_name: "net/ipv6/conf/",
        after_name: "/forwarding",
        former: "1",
        ours: None,
    },
];

/// Writes as many changes as a comment holds, the switches first.
///
/// With many interfaces the last ones do not fit. A gateway that inherits the comment then leaves those at
/// `accept_ra` 2, which differs from 1 only while the host forwards.
pub(super) fn encode(changes: &[Change]) -> String {
    let mut comment = String::new();
    for single in &SINGLES {
        if let Some(change) = changes.iter().find(|change| change.key == single.key) {
            push(&mut comment, " ", &format!("{}={}", single.word, change.former));
        }
    }
    for kind in &PER_INTERFACE {
        let mut names = changes.iter().filter_map(|change| kind.name_in(change));
        let Some(first) = names.next() else { continue };
        if push(&mut comment, " ", &format!("{}={first}", kind.word)) {
            names.all(|name| push(&mut comment, ",", name));
        }
    }
    comment
}

/// Adds `word` if it fits, and returns whether it did.
fn push(comment: &mut String, separator: &str, word: &str) -> bool {
    let separator = if comment.is_empty() { "" } else { separator };
    let fits = comment.len() + separator.len() + word.len() <= COMMENT_MAX;
    if fits {
        comment.push_str(separator);
        comment.push_str(word);
    }
    fits
}

/// Reads changes back; what is none is left out.
pub(super) fn decode(comment: &str) -> Vec<Change> {
    let words = comment.split(' ').filter_map(|word| word.split_once('='));
    words.flat_map(|(word, value)| decode_word(word, value)).collect()
}

fn decode_word(word: &str, value: &str) -> Vec<Change> {
    let change = |key: String, former: &str, ours: Option<&str>| Change {
        key,
        former: former.to_owned(),
        ours: ours.map(str::to_owned),
    };
    if let Some(single) = SINGLES.iter().find(|single| single.word == word) {
        let is_known = ["0", "1"].contains(&value);
        let known = is_known.then(|| change(single.key.into(), value, single.ours));
        return known.into_iter().collect();
    }
    let Some(kind) = PER_INTERFACE.iter().find(|kind| kind.word == word) else {
        return Vec::new();
    };
    let key = |name| format!("{}{name}{}", kind.before_name, kind.after_name);
    let names = value.split(',').filter(|name| is_plain(name));
    names.map(|name| change(key(name), kind.former, kind.ours)).collect()
}

impl PerInterface {
    fn name_in<'a>(&self, change: &'a Change) -> Option<&'a str> {
        let name = change.key.strip_prefix(self.before_name)?.strip_suffix(self.after_name)?;
        let is_said = change.former == self.former && change.ours.as_deref() == self.ours;
        (is_said && is_plain(name)).then_some(name)
    }
}

/// Whether an interface name can stand in a comment and in a path.
fn is_plain(name: &str) -> bool {
    let is_dots = name.bytes().all(|byte| byte == b'.');
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@:".contains(&byte);
    !is_dots && name.bytes().all(is_usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, former: &str, ours: Option<&str>) -> Change {
        Change { key: key.into(), former: former.into(), ours: ours.map(str::to_owned) }
    }

    #[test]
    fn changes_survive_the_comment() {
        let changes = vec![
            change("net/ipv4/ip_forward", "0", Some("1")),
            change("net/ipv6/conf/all/forwarding", "0", Some("1")),
            change("net/ipv4/conf/all/accept_redirects", "1", None),
            change("net/ipv6/conf/eth0/accept_ra", "1", Some("2")),
            change("net/ipv6/conf/eth1.7/accept_ra", "1", Some("2")),
            change("net/ipv4/conf/eth1.7/forwarding", "1", None),
        ];

        let comment = encode(&changes);

        assert_eq!(
            comment,
            "ip_forward=0 ipv6_forwarding=0 accept_redirects=1 accept_ra=eth0,eth1.7 ipv4_forwards=eth1.7"
        );
        assert_eq!(decode(&comment), changes);
    }

    #[test]
    fn a_comment_too_long_keeps_the_switches() {
        let mut changes: Vec<Change> = (0..50)
            .map(|n| change(&format!("net/ipv6/conf/eth{n}/accept_ra"), "1", Some("2")))
            .collect();
        changes.push(change("net/ipv4/ip_forward", "0", Some("1")));

        let comment = encode(&changes);

        assert!(comment.len() <= COMMENT_MAX);
        assert_eq!(decode(&comment)[0].key, "net/ipv4/ip_forward");
        assert!(decode(&comment).len() > 15);
    }

    #[test]
    fn a_comment_of_somebody_else_changes_nothing() {
        for comment in [
            "panic=1",
            "accept_ra=../../kernel",
            "accept_ra=..",
            "accept_ra=a/b",
            "accept_ra=",
            "a comment",
            "ip_forward=x",
        ] {
            assert_eq!(decode(comment), [], "{comment}");
        }
    }
}
