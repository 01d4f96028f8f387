//! What is malformed, oversized or hostile: whatever verb it is given to, and wherever, it gets one clean line and
//! changes nothing. Verbs and the places for values are read from the program's own help, so that none is forgotten.

mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use tacit_tests::{Gateway, Lab, gateway::program};

use crate::store;

const EMAIL: &str = "ann@example.org";
const PASSWORD: &str = "thimble-orbit-canvas-7\n";
/// Taken by every verb.
const EVERYWHERE: [&str; 2] = ["--config", "--socket"];

/// What no setting may be, but for those that name a file.
const NO_SETTING: [&str; 4] =
    ["\u{1b}[2J\u{7}", "two\nlines", "'; DROP TABLE accounts; --", "\u{202e}"];

/// What a place on the command line takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Account,
    Email,
    Name,
    Line,
    /// One of a few words, or what has a form of its own.
    Word,
    Number,
    Date,
    Key,
    File,
    NewFile,
}

/// Longer than anything may be.
static LONG: LazyLock<String> = LazyLock::new(|| "x".repeat(5000));

impl Takes {
    /// What is refused in such a place.
    fn refused(self) -> Vec<&'static str> {
        let unseemly =
            ["", " ", "\u{1b}[2J\u{7}", "two\nlines", "a\rb", "\u{202e}gnp.exe", "a\u{200b}b"];
        let own: &[&str] = match self {
            Self::Account => &[
                "'; DROP TABLE accounts; --",
                // A Cyrillic letter in a Latin one's place.
                "\u{430}nn@example.org",
                "ann@example.org\nBcc: eve@example.net",
                "ann@example.org' OR '1'='1",
                "99999999999999999999",
                "-1",
                "../../etc/passwd",
                &LONG,
            ],
            Self::Email => &[
                // Cyrillic letters in Latin ones' places.
                "\u{430}nn@example.org",
                "new@ex\u{430}mple.org",
                "'; DROP TABLE accounts; --",
                "new@example.org\r\nBcc: eve@example.net",
                "new@example.org\nBcc: eve@example.net",
                "<new@example.org>",
                "new@example.org,eve@example.net",
                "new",
                "a@b@example.org",
                &LONG,
            ],
            Self::Name | Self::Line => &[&LONG],
            Self::Word => {
                &["'; DROP TABLE accounts; --", "ｖｐｎ", "../../etc/passwd", "%s", &LONG]
            }
            Self::Number => {
                &["-1", "1e3", "99999999999999999999", "３", "1; DROP TABLE accounts", &LONG]
            }
            Self::Date => {
                &["tomorrow", "31.1.2099", "2099-02-30", "２０９９-01-01", "1999-01-01", &LONG]
            }
            Self::Key => &["short", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &LONG],
            Self::File => {
                return vec![
                    "",
                    "/nonexistent",
                    "/",
                    "/dev/zero",
                    "/dev/null",
                    "no\u{1b}[2J\nsuch",
                ];
            }
            Self::NewFile => {
                return vec!["", "/", "/nonexistent/\u{1b}[2J\nx", "/etc/passwd"];
            }
        };
        [&unseemly[..], own].concat()
    }
}

/// A verb, and what is right in each of its places.
struct Verb {
    words: &'static str,
    flags: &'static [&'static str],
    places: Vec<(&'static str, Takes, String)>,
    /// Whether it does what it says where all of that is right: some need what is not here.
    works: bool,
}

fn verb(words: &'static str, places: &[(&'static str, Takes, &str)]) -> Verb {
    let places = places.iter().map(|(place, takes, right)| (*place, *takes, (*right).to_owned()));
    Verb { words, flags: &[], places: places.collect(), works: true }
}

impl Verb {
    fn with(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    fn that_lacks_something_here(self) -> Self {
        Self { works: false, ..self }
    }

    /// The command line with what is right everywhere but in the place of that number.
    fn line(&self, wrong: Option<(usize, &str)>) -> Vec<String> {
        let mut line: Vec<String> =
            self.words.split(' ').chain(self.flags.iter().copied()).map(str::to_owned).collect();
        let mut positional = vec!["--".to_owned()];
        for (number, (place, _, right)) in self.places.iter().enumerate() {
            let value =
                wrong.filter(|(place, _)| *place == number).map_or(&**right, |(_, bad)| bad);
            match place.starts_with("--") {
                true => line.push(format!("{place}={value}")),
                false => positional.push(value.to_owned()),
            }
        }
        line.extend(positional);
        line
    }
}

/// All verbs that a gateway answers, in an order in which they can be done.
fn verbs(dir: &Path) -> Vec<Verb> {
    use Takes::*;
    let rules_path = dir.join("rules.md").display().to_string();
    fs::write(&rules_path, "# Rules\n\n## 1. Data\n\nLess than before.\n").unwrap();
    let new = |name: &str| dir.join(name).display().to_string();
    let passphrase_path = private(&dir.join("passphrase"), "correct horse battery staple\n");
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let key = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
    let device = |words, name: &'static str, key: &str| {
        let output = new(name);
        let places = [
            ("ACCOUNT", Account, EMAIL),
            ("NAME", Name, name),
            ("--public-key", Key, key),
            ("--keepalive", Number, "25"),
            ("--output", NewFile, &output),
        ];
        verb(words, &places)
    };
    let account = |words| verb(words, &[("ACCOUNT", Account, EMAIL)]);
    vec![
        verb("status", &[]),
        verb("account list", &[]),
        verb("account add", &[("EMAIL", Email, "new@example.org"), ("--days", Number, "3")])
            .with(&["--of-age"]),
        account("account show"),
        verb(
            "account grant",
            &[("ACCOUNT", Account, EMAIL), ("--days", Number, "3"), ("--service", Word, "vpn")],
        )
        .with(&["--from-now"]),
        account("account password"),
        verb(
            "account export",
            &[("ACCOUNT", Account, EMAIL), ("--output", NewFile, &new("export"))],
        ),
        device("device add", "phone", key),
        device("device rotate", "laptop", "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCA="),
        account("device list"),
        verb("device remove", &[("ACCOUNT", Account, EMAIL), ("NAME", Name, "laptop")]),
        account("session list"),
        verb("session purge", &[]).with(&["--yes"]),
        verb(
            "code make",
            &[("COUNT", Number, "2"), ("--service", Word, "vpn"), ("--days", Number, "3")],
        ),
        verb("code list", &[]),
        verb(
            "disclosure make",
            &[
                ("ACCOUNT", Account, EMAIL),
                ("--basis", Word, "lawful-order"),
                ("--reference", Line, "1 Gs 17/26"),
                ("--recipient", Line, "Court of Anytown"),
                ("--secret-until", Date, "2099-01-31"),
                ("--output", NewFile, &new("disclosure")),
            ],
        ),
        verb("disclosure list", &[("ACCOUNT", Account, EMAIL)]),
        verb("staff log", &[("ACCOUNT", Account, EMAIL), ("--after", Number, "0")]),
        verb("staff verify", &[("--noted", Word, "0:0"), ("--noted-disclosures", Word, "0:0")])
            .that_lacks_something_here(),
        verb(
            "backup",
            &[("--passphrase-file", File, &passphrase_path), ("FILE", NewFile, &new("backup"))],
        ),
        verb("backup", &[("--recipient", Word, recipient), ("FILE", NewFile, &new("sealed"))]),
        verb("audit", &[("--only", Word, "store-schema")]),
        verb("key show", &[]),
        verb("key rotate", &[]).with(&["--wait"]),
        // There is no former key.
        verb("key retire", &[]).that_lacks_something_here(),
        verb("rules list", &[]),
        verb("rules show", &[("VERSION", Number, "1")]),
        verb(
            "rules publish",
            &[
                ("FILE", File, &rules_path),
                ("--effective", Date, "2099-01-31"),
                ("--summary", Line, "Less."),
            ],
        )
        .with(&["--minor"]),
        verb("notice list", &[]),
        verb("notice retry", &[]),
        verb("notice settle", &[("LETTER", Word, "6fd41b0a")])
            .with(&["--lost"])
            .that_lacks_something_here(),
        verb("notice try", &[("TO", Email, "me@example.org")]).that_lacks_something_here(),
        verb(
            "account email",
            &[("ACCOUNT", Account, EMAIL), ("EMAIL", Email, "later@example.org")],
        ),
        verb("account cancel", &[("ACCOUNT", Account, "later@example.org")]),
        verb("gateway list", &[]),
        verb("gateway drain", &[("NAME", Word, "gateway")]),
        verb("gateway resume", &[("NAME", Word, "gateway")]),
        // It runs.
        verb("gateway remove", &[("NAME", Word, "gateway")]).that_lacks_something_here(),
    ]
}

/// A file that nobody else can open.
fn private(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Verbs that no running gateway answers, and where they take values.
const ALONE: [(&str, &[&str]); 6] = [
    ("run", &[]),
    ("config check", &[]),
    ("config show", &[]),
    ("inventory", &[]),
    ("prove", &["--report"]),
    (
        "restore",
        &[
            "--data-dir",
            "--data-key",
            "--database",
            "--database-password-file",
            "--identity-file",
            "--passphrase-file",
            "FILE",
        ],
    ),
];

/// The verbs of the help and the places of each, but for the settings of `tacit run` and `tacit config`.
pub(crate) fn helped() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut left = vec![Vec::<String>::new()];
    while let Some(words) = left.pop() {
        let output =
            Command::new(program()).env_clear().args(&words).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let below: Vec<String> = section(&help, "Commands:").filter_map(first_word).collect();
        left.extend(
            below
                .iter()
                .filter(|word| *word != "help")
                .map(|word| [&words[..], std::slice::from_ref(word)].concat()),
        );
        if below.is_empty() {
            let options = section(&help, "Options:").filter_map(option_with_value);
            let mut places: Vec<_> =
                section(&help, "Arguments:").filter_map(positional).chain(options).collect();
            let takes_settings = ["run", "config"].contains(&&*words[0]);
            places.retain(|place| !EVERYWHERE.contains(&&**place) && !takes_settings);
            places.sort();
            found.insert(words.join(" "), places);
        }
    }
    found
}

/// The lines of a section of a help.
fn section<'a>(help: &'a str, head: &'a str) -> impl Iterator<Item = &'a str> {
    let inside = help.lines().skip_while(move |line| *line != head).skip(1);
    inside.take_while(|line| line.is_empty() || line.starts_with(' '))
}

fn first_word(line: &str) -> Option<String> {
    let word = line.strip_prefix("  ")?.split(' ').next()?;
    (!word.is_empty()).then(|| word.to_owned())
}

fn positional(line: &str) -> Option<String> {
    let (name, _) = line.strip_prefix("  ")?.strip_prefix(['<', '['])?.split_once(['>', ']'])?;
    Some(name.to_owned())
}

fn option_with_value(line: &str) -> Option<String> {
    let option = line.trim_start().strip_prefix("--")?;
    let (name, rest) = option.split_at(option.find([' ', '[', '=']).unwrap_or(option.len()));
    let has_value = rest.starts_with(" <") || rest.starts_with(['[', '=']);
    has_value.then(|| format!("--{name}"))
}

#[test]
fn no_verb_and_no_place_for_a_value_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut tried = BTreeMap::<_, BTreeSet<_>>::new();
    for verb in verbs(dir.path()) {
        let places = verb.places.iter().map(|(place, ..)| (*place).to_owned());
        tried.entry(verb.words.to_owned()).or_default().extend(places);
    }
    for (words, places) in ALONE {
        tried.insert(words.to_owned(), places.iter().map(ToString::to_string).collect());
    }
    for (words, places) in helped() {
        assert_eq!(tried.get(&words), Some(&places.into_iter().collect()), "tacit {words}");
    }
}

/// Runs a verb with something on stdin.
fn ask(lab: &Lab, gateway: &Gateway<'_>, line: &[String], input: &str) -> Output {
    let mut command = Command::new(program());
    command.env_clear().env("TACIT_SOCKET", gateway.socket()).args(line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = lab.gateway.start(&mut command).unwrap();
    // Whoever is refused for something else does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Every value of the store but the staff log's: a refusal that tells of a customer is an entry there.
fn dump(gateway: &Gateway<'_>) -> Vec<String> {
    let mut values = store::dump(&gateway.store());
    values.retain(|value| !value.starts_with("staff_log: ") && !value.starts_with("chains: "));
    values
}

/// What a refusal must look like.
fn check_refusal(line: &[impl AsRef<str>], output: &Output) {
    let line: Vec<String> =
        line.iter().map(|word| word.as_ref().chars().take(60).collect()).collect();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{line:?}: {} {said}", output.status);
    assert!(output.stdout.is_empty(), "{line:?} printed to stdout");
    let told = said.strip_suffix('\n').unwrap_or(&said);
    let is_clean = !told.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{200b}');
    assert!(!told.is_empty() && is_clean, "{line:?}: {said:?}");
    assert!(told.len() < 600 && !told.contains("panicked"), "{line:?}: {said:?}");
}

#[test]
fn every_verb_refuses_what_is_wrong_in_one_line_and_changes_nothing() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    gateway.customer(EMAIL);
    let verbs = verbs(lab.dir());
    let files = || fs::read_dir(lab.dir()).unwrap().count();
    let (before, files_before) = (dump(&gateway), files());
    for verb in &verbs {
        for (number, (_, takes, _)) in verb.places.iter().enumerate() {
            for bad in takes.refused() {
                let line = verb.line(Some((number, bad)));
                check_refusal(&line, &ask(&lab, &gateway, &line, PASSWORD));
            }
        }
        assert!(dump(&gateway) == before, "{}: the store was changed", verb.words);
        assert_eq!(files(), files_before, "{}: a file is left", verb.words);
    }
    // It was for what is wrong: with what is right they do as they are told.
    for verb in verbs.iter().filter(|verb| verb.works) {
        let line = verb.line(None);
        let output = ask(&lab, &gateway, &line, PASSWORD);
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(dump(&gateway) != before, "the dump does not show changes");
}

/// Everything in a directory but what says that it is in use.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file() && !path.ends_with("lock"));
    files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn restore_refuses_what_is_wrong_in_one_line_and_leaves_the_store_that_is_there() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    let passphrase = private(&lab.dir().join("passphrase"), "correct horse battery staple\n");
    let backup = lab.dir().join("backup").display().to_string();
    gateway.text(&["backup", "--passphrase-file", &passphrase, &backup]);
    gateway.stop();
    let data_dir = gateway.data_dir().display().to_string();
    let right = [("--data-dir", &*data_dir), ("--passphrase-file", &passphrase), ("FILE", &backup)];
    let cut = fs::read(&backup).unwrap();
    let cut = &cut[..cut.len() - 1];
    fs::write(lab.dir().join("cut"), cut).unwrap();
    let cut = lab.dir().join("cut").display().to_string();
    let files = Takes::File.refused();
    let databases =
        ["", "tacit", "mysql://a@b/c", "postgres://a:b@c/d", "'; DROP TABLE accounts; --"];
    let wrong = [
        ("--data-dir", vec!["", "/dev/null/\u{1b}[2J"]),
        ("--data-key", files.clone()),
        ("--database", [&databases[..], &NO_SETTING, &[LONG.as_str()]].concat()),
        ("--identity-file", [&files[..], &[&passphrase]].concat()),
        ("--passphrase-file", [&files[..], &[&backup]].concat()),
        ("FILE", [&files[..], &["/etc/passwd", &cut, &passphrase]].concat()),
    ];
    let before = contents(gateway.data_dir());
    for (place, values) in wrong {
        for bad in values {
            let mut line = vec!["restore".to_owned(), "--force".to_owned()];
            let alternative = if place == "--identity-file" { "--passphrase-file" } else { place };
            let others = right.iter().filter(|(other, _)| ![place, alternative].contains(other));
            let values: Vec<_> = others.copied().chain([(place, bad)]).collect();
            let named = values.iter().filter(|(place, _)| place.starts_with("--"));
            line.extend(named.map(|(place, value)| format!("{place}={value}")));
            line.push("--".to_owned());
            line.extend(
                values
                    .iter()
                    .filter(|(place, _)| *place == "FILE")
                    .map(|(_, value)| (*value).to_owned()),
            );
            check_refusal(&line, &ask(&lab, &gateway, &line, ""));
            assert!(
                contents(gateway.data_dir()) == before,
                "{place} {bad:?}: something was changed"
            );
        }
    }
    let unnamed =
        ["--database=postgres://tacit@127.0.0.1/tacit", "--database-password-file=/dev/zero"];
    let line = [&["restore", "--data-dir", &data_dir][..], &unnamed, &[&*backup]].concat();
    check_refusal(
        &line,
        &ask(&lab, &gateway, &line.iter().map(ToString::to_string).collect::<Vec<_>>(), ""),
    );
    let line =
        ["restore", "--force", "--data-dir", &data_dir, "--passphrase-file", &passphrase, &backup];
    assert!(ask(&lab, &gateway, &line.map(str::to_owned), "").status.success());
}

#[test]
fn proof_is_not_begun_where_its_report_cannot_be_written() {
    let lab = Lab::new(0);
    for bad in ["", "/etc/passwd", "/dev/null/\u{1b}[2J", "/proc/two\nlines"] {
        let mut command = Command::new(program());
        command.env("PATH", "/nonexistent").args(["prove", &format!("--report={bad}")]);
        let output = lab.gateway.output(&mut command);
        check_refusal(&["prove", bad], &output);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("strace"), "{bad:?}");
    }
}

#[test]
fn password_that_is_wrong_is_refused_in_one_line_and_changes_nothing() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    let before = dump(&gateway);
    for input in ["", "\n", "short", "\u{1b}[2J\u{7}", "password1\n", "a\0b", &LONG] {
        let line = ["account", "password", EMAIL].map(str::to_owned);
        check_refusal(&["account password", input], &ask(&lab, &gateway, &line, input));
    }
    assert!(dump(&gateway) == before, "something was changed");
}
