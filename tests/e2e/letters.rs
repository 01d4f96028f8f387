//! Letters of a real gateway, whose sealed control process takes them to a real mail server.

use std::{collections::BTreeSet, fs::Permissions, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::Value;
use tacit_tests::{
    Gateway, Lab, MailServer,
    clock::{wait_for, wait_until},
    mail_server::Habits,
};

/// Flags of `tacit run` for a mail server.
fn flags(server: &MailServer<'_>) -> Vec<String> {
    let server = server.address().to_string();
    [
        "--mail-server",
        &server,
        "--mail-tls=none",
        "--mail-from=VPN <vpn@example.org>",
        "--contact=help@example.org",
        "--site-url=https://vpn.example.org",
        "--mails-per-minute=1200",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn sealed_gateway_reaches_its_mail_server_by_tls_and_logs_in() {
    let lab = Lab::new(0);
    let mut server = MailServer::start_in(Some(&lab.gateway), Habits::default());
    let password = lab.dir().join("password");
    std::fs::write(&password, "se cret\n").unwrap();
    std::fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    for (tls, speaks_tls_first) in [("tls", true), ("starttls", false)] {
        server.restart_with(Habits { asks_who: true, speaks_tls_first, ..Habits::default() });
        let mut flags = flags(&server);
        flags.retain(|flag| flag != "--mail-tls=none");
        flags.push(format!("--mail-tls={tls}"));
        flags.push("--mail-user=tacit".into());
        flags.push(format!("--mail-password-file={}", password.display()));
        flags.push(format!("--mail-ca={}", server.certificate_path().display()));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let gateway = Gateway::start_with(&lab, &flags);
        let before = server.count_taken();
        gateway.text(&["notice", "try", "boss@example.org"]);
        wait_until("the letter is sent", Duration::from_secs(10), || server.count_taken() > before);
    }
    assert_eq!(server.mailbox().len(), 2);
}

/// The day so many days from now.
fn in_days(days: u32) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%F", "-d", &format!("{days} days")])
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

fn version(notices: &Value) -> &Value {
    &notices["versions"][0]
}

#[test]
fn clause_11_killed_gateway_carries_on_and_nobody_gets_two_letters() {
    let lab = Lab::new(0);
    let server = MailServer::start_in(Some(&lab.gateway), Habits::default());
    let flags = flags(&server);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut gateway = Gateway::start_with(&lab, &flags);
    for number in 0..40 {
        gateway.text(&["account", "add", &format!("c{number}@example.org"), "--of-age"]);
    }
    let rules = lab.dir().join("rules.md");
    std::fs::write(&rules, "# Rules\n\n## 1. Data\n\nLess than before.\n").unwrap();
    let rules = rules.to_str().unwrap();
    let early = in_days(14);
    let refused = gateway.cli(&["rules", "publish", rules, "--effective", &early]);
    let refusal = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refusal.contains(&format!("the earliest possible date is {}", in_days(15))),
        "{refusal}"
    );
    assert_eq!(gateway.json(&["rules", "list"]).as_array().unwrap().len(), 1);

    gateway.text(&["rules", "publish", rules, "--effective", &in_days(16)]);
    for enough in [8, 16, 24] {
        wait_until("letters are sent", Duration::from_secs(20), || server.count_taken() >= enough);
        gateway.kill();
        gateway.run();
    }
    let notices = wait_for(Duration::from_secs(20), || {
        let notices = gateway.json(&["notice", "list", "--wait"]);
        let to_settle = notices["to_look_after"].as_array().unwrap().clone();
        if to_settle.is_empty() {
            return Some(notices);
        }
        let taken = server.taken();
        for letter in to_settle {
            let letter = letter["letter"].as_str().unwrap();
            let is_there = taken.contains(&format!("{letter}@example.org"));
            gateway.text(&[
                "notice",
                "settle",
                letter,
                if is_there { "--arrived" } else { "--lost" },
            ]);
        }
        None
    });
    let notices = notices.expect("letters still wait");
    assert_eq!(version(&notices)["sent"], 40, "{notices}");
    let received = server.mailbox();
    let addresses: BTreeSet<&str> = received.iter().map(|letter| letter.to.as_str()).collect();
    assert_eq!((received.len(), addresses.len()), (40, 40));
    assert!(!gateway.log().contains("example.org"), "the log names people: {}", gateway.log());
}

#[test]
fn verbs_of_rules_and_letters_refuse_bad_input_in_a_line_and_change_nothing() {
    let lab = Lab::new(0);
    let server = MailServer::start_in(Some(&lab.gateway), Habits::default());
    let flags = flags(&server);
    let gateway = Gateway::start_with(&lab, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    gateway.text(&["account", "add", "ann@example.org", "--of-age"]);
    let file = |name: &str, bytes: &[u8]| {
        let path = lab.dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.md", b"# Rules\n");
    let long = file("long.md", &vec![b'a'; 1 << 20]);
    let escapes = file("escapes.md", b"# Rules\n\x1b[2J\n");
    let binary = file("binary.md", b"\xff\xfe\x00");
    let missing = lab.dir().join("a\x1b[2J\nb").to_str().unwrap().to_owned();
    let day = in_days(30);
    let publish = |file: &str, more: &[&str]| {
        let arguments = [&["rules", "publish", file, "--effective", &day], more].concat();
        gateway.cli(&arguments)
    };
    let outputs = [
        publish(&long, &[]),
        publish(&escapes, &[]),
        publish(&binary, &[]),
        publish(&missing, &[]),
        publish("/dev/null", &[]),
        publish(&good, &["--summary", "a\r\nBcc: x@example.org"]),
        publish(&good, &["--summary", ""]),
        gateway.cli(&["rules", "publish", &good, "--effective", "2020-01-01", "--minor"]),
        gateway.cli(&["rules", "show", "99"]),
        gateway.cli(&["notice", "settle", "' OR 1=1 --", "--arrived"]),
        gateway.cli(&["notice", "try", "x@example.org\r\nBcc: y@example.org"]),
        gateway.cli(&["notice", "try", "not an address"]),
    ];
    for (number, output) in outputs.into_iter().enumerate() {
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{number}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{number}: {stderr}");
        assert!(!stderr.contains(['\x1b', '\r']), "{number}: {stderr:?}");
    }
    for arguments in [
        &["rules", "publish", &good, "--effective", "tomorrow"][..],
        &["rules", "publish", &good],
        &["notice", "settle", "0123"],
    ] {
        assert_eq!(gateway.cli(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(gateway.json(&["rules", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(gateway.json(&["notice", "list"])["versions"], Value::Array(Vec::new()));
    assert!(server.mailbox().is_empty());
}
