//! Account life, staff log and disclosures, as the staff has them: by the command line of a running gateway.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tacit_tests::{
    Gateway, Lab, RawClient, clock::wait_until, gateway::program, lab::TARGET_V4, target::ECHO_PORT,
};

use crate::{bad_input::helped, store};

const EMAIL: &str = "someone.searchable@example.org";
const PASSWORD: &str = "thimble-orbit-canvas-7";

/// Groups of the lab's host: their members are told by number.
const OPERATORS: u32 = 4_242;
const LEGAL: u32 = 4_343;
const STAFF: u32 = 1_234;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a verb with something on stdin.
fn cli_with_input(gateway: &Gateway<'_>, lab: &Lab, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.env_clear().args(arguments).arg("--socket").arg(gateway.socket());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = lab.gateway.start(&mut command).unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs a verb as a member of the staff who is in `groups`.
fn cli_as(gateway: &Gateway<'_>, lab: &Lab, groups: &str, arguments: &[&str]) -> Output {
    // The program and the socket lie in a directory that only root may enter; that right alone is left.
    let mut command = Command::new("setpriv");
    let staff = STAFF.to_string();
    command.args(["--reuid", &staff, "--regid", &staff, "--groups", groups]);
    command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
    command.arg(program()).args(arguments).arg("--socket").arg(gateway.socket());
    lab.gateway.output(&mut command)
}

fn verbs(log: &Value) -> Vec<(String, Option<i64>, u64)> {
    let entries = log.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let verb = entry["verb"].as_str().unwrap().to_owned();
            (verb, entry["account"].as_i64(), entry["uid"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn end_of_service_cuts_a_live_client_within_a_minute_and_refuses_the_next_handshake() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    gateway.text(&["account", "grant", EMAIL, "--days", "1", "--from-now"]);
    let mut client = RawClient::connected(&lab.clients[0], &config);
    gateway.wait_for_sessions(EMAIL, 1);

    // A day passes.
    let now = store::numbers(&gateway.store(), "SELECT began_at FROM sessions")[0];
    store::change(&gateway.store(), &format!("UPDATE services SET ends_at = {now}"));
    store::change(&gateway.store(), &format!("UPDATE accounts SET service_until = {now}"));
    wait_until("the end of the session", Duration::from_secs(60), || {
        !gateway.sessions(EMAIL)[0]["ended_at"].is_null()
    });
    assert!(!client.echo((TARGET_V4, ECHO_PORT).into(), b"still here"));
    assert!(client.try_handshake(2, Duration::from_secs(1)).is_none(), "service goes on");

    gateway.text(&["account", "grant", EMAIL, "--days", "1"]);
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"again"));
}

#[test]
fn clause_9_cancelling_disconnects_within_two_seconds() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let mut client = RawClient::connected(&lab.clients[0], &config);
    gateway.wait_for_sessions(EMAIL, 1);

    let cancelled = gateway.json(&["account", "cancel", EMAIL]);
    assert_eq!((&cancelled["account"], &cancelled["devices"]), (&1.into(), &1.into()));
    thread::sleep(Duration::from_secs(2));
    let before = lab.target.echoed();
    assert!(!client.echo((TARGET_V4, ECHO_PORT).into(), b"still here"));
    assert_eq!(lab.target.echoed(), before, "packets of a cancelled account still get out");
    assert!(client.try_handshake(2, Duration::from_secs(1)).is_none());
    let sessions = gateway.json(&["session", "list", "1"]);
    assert!(!sessions[0]["ended_at"].is_null(), "{sessions}");
    assert_eq!(gateway.json(&["account", "list"]), serde_json::json!([]));
    let export = gateway.json(&["account", "export", "1"]);
    assert_eq!(export["email"], Value::Null);
    assert_eq!(export["former_values"][0]["value"], EMAIL);
    gateway.add_account(EMAIL);
}

/// Verbs by which nobody sees or changes what is somebody's, and how each is tried, if it can be.
const OF_NOBODY: [(&str, Option<&[&str]>); 18] = [
    ("audit", None),
    ("code list", Some(&[])),
    ("config check", None),
    ("config show", None),
    ("gateway list", Some(&[])),
    ("gateway remove", None),
    ("inventory", Some(&[])),
    ("key show", Some(&[])),
    ("notice try", None),
    ("prove", None),
    // Its entry is in the store that it makes.
    ("restore", None),
    ("rules list", Some(&[])),
    ("rules publish", None),
    ("rules show", Some(&[])),
    ("run", None),
    ("staff verify", Some(&[])),
    ("status", Some(&[])),
    ("staff log", Some(&[])),
];

/// A letter of the first account's in doubt.
const IN_DOUBT: &str = "INSERT INTO letters
    (kind, account_id, rules_version, message_id, queued_at, state, state_since, due_at, attempts)
    VALUES ('rules-change', 1, 1, '6fd41b0a', 1, 'doubtful', 1, 1, 0)";

#[test]
fn clause_1_staff_log_has_every_look_and_change() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let new = |name: &str| lab.dir().join(name).display().to_string();
    let (passphrase, backup, disclosure) = (new("passphrase"), new("backup"), new("disclosure"));
    fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    let disclose = ["disclosure", "make", EMAIL, "--basis", "lawful-order", "--reference", "1"];
    let disclose = [&disclose[..], &["--recipient", "a court", "--output", &disclosure]].concat();
    let done: [(&[&str], Option<i64>); 25] = [
        (&["account", "add", EMAIL, "--of-age"], Some(1)),
        (&["account", "list"], None),
        (&["account", "show", EMAIL], Some(1)),
        (&["account", "grant", EMAIL, "--days", "3", "--from-now"], Some(1)),
        (&["account", "password", EMAIL], Some(1)),
        (&["device", "add", EMAIL, "laptop"], Some(1)),
        (&["device", "list", EMAIL], Some(1)),
        (&["device", "rotate", EMAIL, "laptop"], Some(1)),
        (&["device", "remove", EMAIL, "laptop"], Some(1)),
        (&["session", "list", EMAIL], Some(1)),
        (&["notice", "list"], None),
        (&["notice", "settle", "6fd41b0a", "--arrived"], Some(1)),
        (&["notice", "retry"], None),
        (&disclose, Some(1)),
        (&["disclosure", "list"], None),
        (&["staff", "log", EMAIL], Some(1)),
        (&["account", "email", EMAIL, "else@example.org"], Some(1)),
        (&["account", "export", "1"], Some(1)),
        (&["code", "make", "--days", "3"], None),
        (&["account", "cancel", "1"], Some(1)),
        (&["session", "purge", "--yes"], None),
        (&["key", "rotate", "--wait"], None),
        (&["key", "rotate", "--gateway"], None),
        (&["key", "retire", "--force"], None),
        (&["backup", "--passphrase-file", &passphrase, &backup], None),
    ];
    let named = |arguments: &[&str]| match arguments[0] {
        "backup" => "backup".to_owned(),
        _ if arguments.contains(&"--gateway") => arguments.join(" "),
        _ => arguments[..2].join(" "),
    };
    for (arguments, _) in done {
        if arguments[..2] == ["notice", "list"] {
            store::change(&gateway.store(), IN_DOUBT);
        }
        let output = cli_with_input(&gateway, &lab, arguments, PASSWORD);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }
    for verb in ["drain", "resume"] {
        gateway.text(&["gateway", verb, "gateway"]);
    }
    for (verb, arguments) in OF_NOBODY {
        let words: Vec<&str> = verb.split(' ').collect();
        if let Some(arguments) = arguments {
            gateway.text(&[&words[..], arguments].concat());
        }
    }
    let mut expected: Vec<_> =
        done.iter().map(|(arguments, account)| (named(arguments), *account, 0)).collect();
    expected.extend(["gateway drain", "gateway resume"].map(|verb| (verb.to_owned(), None, 0)));
    let log = gateway.json(&["staff", "log"]);
    assert_eq!(verbs(&log), expected);
    assert!(!log.to_string().contains("example.org"), "{log}");
    assert_eq!(verbs(&gateway.json(&["staff", "log", "1", "--after", "17"])).len(), 2);
    assert!(gateway.text(&["staff", "log"]).contains("root (0)"));

    let without_flag = |verb: String| verb.trim_end_matches(" --gateway").to_owned();
    let mut known: BTreeSet<_> =
        expected.into_iter().map(|(verb, ..)| without_flag(verb)).collect();
    known.extend(OF_NOBODY.map(|(verb, _)| verb.to_owned()));
    let all: BTreeSet<_> = helped().into_keys().collect();
    assert_eq!(known, all, "does the new verb show or change what is somebody's?");
}

#[test]
fn clause_1_refusal_that_tells_of_a_customer_is_in_the_staff_log() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    gateway.add_account("else@example.org");
    let refused: [(&[&str], &[i64]); 6] = [
        (&["account", "add", EMAIL, "--of-age"], &[1]),
        (&["account", "email", "else@example.org", EMAIL], &[2, 1]),
        (&["device", "remove", EMAIL, "tablet"], &[1]),
        (&["device", "remove", "2", "tablet"], &[2]),
        (&["device", "list", "nobody@example.org"], &[]),
        (&["account", "add", "no address", "--of-age"], &[]),
    ];
    let mut expected = Vec::new();
    for (arguments, accounts) in refused {
        assert_eq!(gateway.cli(arguments).status.code(), Some(1), "{arguments:?}");
        expected.extend(accounts.iter().map(|account| ("refused".to_owned(), Some(*account), 0)));
    }
    let log = verbs(&gateway.json(&["staff", "log", "--after", "2"]));
    assert_eq!(log, expected);
}

#[test]
fn clause_1_verbs_are_for_root_and_members_of_one_group() {
    let lab = Lab::new(0);
    lab.gateway.sh(&format!("echo 'tacit:x:{OPERATORS}:' >> /etc/group"));
    let gateway = Gateway::start(&lab);
    // Where anybody may start it.
    let copy = lab.dir().join("tacit");
    fs::copy(program(), &copy).unwrap();
    let ask = |groups: &str| {
        let mut command = Command::new("setpriv");
        let staff = STAFF.to_string();
        command.args(["--reuid", &staff, "--regid", &staff, groups]).arg(&copy);
        command.args(["account", "list", "--socket"]).arg(gateway.socket());
        lab.gateway.output(&mut command)
    };
    let stranger = ask("--clear-groups");
    assert_eq!(stranger.status.code(), Some(1), "{}", stderr(&stranger));
    assert_eq!(stderr(&stranger).lines().count(), 1, "{}", stderr(&stranger));
    let member = ask(&format!("--groups={OPERATORS}"));
    assert!(member.status.success(), "{}", stderr(&member));
}

#[test]
fn clause_1_tampering_with_the_staff_log_is_found_and_named() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    for _ in 0..4 {
        gateway.text(&["account", "show", EMAIL]);
    }
    let verified = gateway.json(&["staff", "verify"]);
    let end = verified[0]["end"].as_str().unwrap().to_owned();
    assert!(end.starts_with("5:") && verified[0]["fault"].is_null(), "{verified}");
    gateway.text(&["account", "show", EMAIL]);
    assert_eq!(gateway.cli(&["staff", "verify", "--noted", &end]).status.code(), Some(0));
    assert_eq!(gateway.cli(&["staff", "verify", "--noted", "5:xy"]).status.code(), Some(1));
    let forged = format!("5:{}", "0".repeat(64));
    assert_eq!(gateway.cli(&["staff", "verify", "--noted", &forged]).status.code(), Some(3));
    gateway.stop();
    store::change(&gateway.store(), "UPDATE staff_log SET uid = 99 WHERE number = 3");
    store::change(&gateway.store(), "DELETE FROM staff_log WHERE number = 5");
    gateway.run();
    let output = gateway.cli(&["staff", "verify"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("entry 3 was changed"), "{text}");
}

#[test]
fn clause_2_disclosures_take_the_legal_group_a_basis_and_leave_a_private_file() {
    let lab = Lab::new(0);
    lab.gateway.sh(&format!(
        "echo 'tacit:x:{OPERATORS}:' >> /etc/group; echo 'tacit-legal:x:{LEGAL}:' >> /etc/group"
    ));
    let gateway = Gateway::start(&lab);
    gateway.customer(EMAIL);
    let file = lab.dir().join("answer.json");
    let path = file.to_str().unwrap();
    let make = ["disclosure", "make", EMAIL, "--output", path, "--recipient", "Court of Anytown"];
    let complete = [&make[..], &["--basis", "lawful-order", "--reference", "1 Gs 17/26"]].concat();

    let operator = cli_as(&gateway, &lab, &OPERATORS.to_string(), &complete);
    assert_eq!(operator.status.code(), Some(1), "{}", stderr(&operator));
    assert!(stderr(&operator).contains("tacit-legal") && !file.exists(), "{}", stderr(&operator));
    let look = cli_as(&gateway, &lab, &OPERATORS.to_string(), &["account", "show", EMAIL]);
    assert!(look.status.success(), "{}", stderr(&look));
    for incomplete in [
        [&make[..], &["--basis", "lawful-order"]].concat(),
        [&make[..], &["--reference", "1 Gs 17/26"]].concat(),
        [&make[..], &["--basis", "curiosity", "--reference", "1 Gs 17/26"]].concat(),
        [&make[..], &["--basis", "consent", "--basis", "lawful-order", "--reference", "x"]]
            .concat(),
    ] {
        assert_eq!(gateway.cli(&incomplete).status.code(), Some(2), "{incomplete:?}");
    }
    let unwilling = [&make[..], &["--basis", "consent", "--reference", "a letter"]].concat();
    let refused = gateway.cli(&unwilling);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("not consented"), "{}", stderr(&refused));
    assert!(!file.exists(), "a refused disclosure leaves a file");
    assert_eq!(gateway.json(&["disclosure", "list"]), serde_json::json!([]));

    let groups = format!("{OPERATORS},{LEGAL}");
    let made = cli_as(&gateway, &lab, &groups, &[&complete[..], &["--json"]].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&made["number"], &made["uid"]), (&1.into(), &STAFF.into()), "{made}");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    let hash = Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    let hash = String::from_utf8(hash).unwrap();
    assert_eq!(made["sha256"], hash.split(' ').next().unwrap());
    let content: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&content["email"], &content["devices"][0]["name"]),
        (&EMAIL.into(), &"laptop".into())
    );
    assert_eq!(gateway.cli(&complete).status.code(), Some(1), "the file was overwritten");
    assert_eq!(gateway.json(&["disclosure", "list"])[0], made);
    let log = verbs(&gateway.json(&["staff", "log"]));
    assert!(log.contains(&("disclosure make".into(), Some(1), STAFF.into())), "{log:?}");
    assert!(log.contains(&("account show".into(), Some(1), STAFF.into())), "{log:?}");
    let verified = gateway.json(&["staff", "verify"]);
    assert!(verified[1]["end"].as_str().unwrap().starts_with("1:"), "{verified}");
}

#[test]
fn stolen_copy_of_the_database_yields_nothing_of_anybody() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let set = cli_with_input(&gateway, &lab, &["account", "password", EMAIL], PASSWORD);
    assert!(set.status.success(), "{}", stderr(&set));
    let weak = cli_with_input(&gateway, &lab, &["account", "password", EMAIL], "password1\n");
    assert_eq!(weak.status.code(), Some(1));
    let line = stderr(&weak);
    assert!(line.contains("easily guessed") && line.trim_end().lines().count() == 1, "{line}");
    assert!(!line.contains("password1"), "{line}");
    gateway.text(&["account", "email", EMAIL, "later.searchable@example.org"]);
    let codes = gateway.json(&["code", "make", "3", "--service", "vpn", "--days", "30"]);
    let codes: Vec<String> = serde_json::from_value(codes).unwrap();
    assert_eq!(gateway.json(&["code", "list"]).as_array().unwrap().len(), 3);
    let mut secrets = vec![b"searchable".to_vec(), PASSWORD.into(), b"argon2id".to_vec()];
    secrets.push(config.preshared_key.to_vec());
    for code in &codes {
        secrets.push(code.clone().into_bytes());
        secrets.push(code.replace('-', "").into_bytes());
    }
    let files: Vec<Vec<u8>> = fs::read_dir(gateway.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read(path).unwrap())
        .collect();
    let found = |needle: &[u8]| {
        files.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(found(b"account password"), "the search finds nothing at all");
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!found(secret), "secret {number} is in the data directory");
    }
    let log = gateway.log();
    assert!(!log.contains("searchable") && !log.contains(PASSWORD) && !log.contains(&codes[0]));
}
