//! Settings of `tacit run` and what they may not be, on the command line and in the file.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use tacit_tests::{Lab, clock::wait_for, gateway::program};

use super::{NO_SETTING, check_refusal, option_with_value, section};

/// Each setting of `tacit run`, whether it is free text or names a file or directory, and what it may not be.
const SETTINGS: [(&str, bool, &[&str]); 43] = [
    ("--config", true, &["", "/nonexistent/\u{1b}[2J", "/dev/zero"]),
    ("--socket", true, &["/proc/\u{1b}[2J/admin.sock"]),
    ("--data-dir", true, &["/dev/null/\u{1b}[2J", "/proc/nonexistent"]),
    ("--data-key", true, &["/nonexistent/\u{1b}[2J", "/dev/zero", "/etc/passwd"]),
    (
        "--database",
        false,
        &["", "tacit", "mysql://a@b/c", "postgres://tacit:secret@127.0.0.1/tacit"],
    ),
    ("--database-password-file", true, &["/nonexistent/\u{1b}[2J"]),
    ("--interface", false, &["", "a/b", "longer-than-a-name-may-be", "two words", ".."]),
    ("--listen", false, &["", "0.0.0.0", "0.0.0.0:0", "0.0.0.0:99999", "１.2.3.4:5"]),
    ("--endpoint", false, &["", "two words", "-", "vpn.example.org:99999"]),
    ("--tunnel-v4", false, &["", "10.66.0.1/16", "10.66.0.0/33", "fd00::/64"]),
    ("--tunnel-v6", false, &["", "fd00::1/64", "fd00::/129", "10.0.0.0/8"]),
    ("--routed-v6", false, &["", "maybe", "true"]),
    ("--mtu", false, &["", "0", "-1", "１４２０", "99999"]),
    ("--dns", false, &["", "dns.example.org", "1.2.3"]),
    ("--workers", false, &["", "0", "-1", "65", "99999999999999999999"]),
    ("--allow-device-to-device", false, &["", "maybe"]),
    ("--allow-private", false, &["", "10.0.0.1/8", "10.0.0.0/64"]),
    ("--serve", false, &["", "icmp/1", "udp/0", "udp/99999", "udp"]),
    ("--device-limit", false, &["", "0", "-1"]),
    ("--metrics", false, &["", "nowhere", "127.0.0.1:99999"]),
    ("--metrics-least-sessions", false, &["", "-1"]),
    ("--keep-sessions", false, &["", "-1", "1.5"]),
    ("--keep-archive", false, &["", "-1", "９"]),
    ("--keep-records", false, &["", "-1", "99999999999"]),
    ("--mail-server", false, &["", "two words", "mail.example.org"]),
    ("--mail-tls", false, &["", "maybe"]),
    ("--mail-ca", true, &["/nonexistent/\u{1b}[2J", "/dev/zero", "/dev/null", "/etc/passwd"]),
    ("--mail-user", false, &["tacit"]),
    ("--mail-password-file", true, &["/nonexistent/\u{1b}[2J"]),
    (
        "--mail-from",
        false,
        &["", "vpn", "vpn@example.org\r\nBcc: eve@example.net", "VPN\u{202e} <vpn@example.org>"],
    ),
    ("--mails-per-minute", false, &["", "0", "-1", "60001"]),
    ("--contact", false, &["", "ask us", "help@example.org\nBcc: eve@example.net"]),
    (
        "--site-url",
        false,
        &["", "http://vpn.example.org", "javascript:alert(1)", "https://vpn.example.org/\n"],
    ),
    ("--log", false, &["", "loud"]),
    (
        "--site",
        false,
        &["", "nowhere", "127.0.0.1", "127.0.0.1:99999", "１.2.3.4:5", "203.0.113.9:8443"],
    ),
    (
        "--site-certificate",
        true,
        &["/nonexistent/\u{1b}[2J", "/dev/zero", "/dev/null", "/etc/passwd"],
    ),
    ("--site-key", true, &["/nonexistent/\u{1b}[2J", "/dev/zero", "/dev/null", "/etc/passwd"]),
    ("--site-redirect", false, &["", "nowhere", "127.0.0.1:99999", "203.0.113.9:80"]),
    ("--database-poll-only", false, &["maybe", "2", "ｔｒｕｅ"]),
    ("--region", true, &["", " Oslo", "Os\nlo", "\u{1b}[2J\u{7}", "Os\u{202e}lo", "Os\u{200b}lo"]),
    (
        "--gateway-name",
        false,
        &[
            "",
            "two words",
            "\u{43e}slo",
            "a\u{200b}b",
            "a-name-that-is-longer-than-any-name-of-a-gateway-may-be-by-one-byte",
        ],
    ),
    ("--fleet-key", true, &["/nonexistent/\u{1b}[2J", "/dev/zero", "/etc/passwd"]),
    ("--capacity", false, &["", "-1"]),
];

#[test]
fn no_setting_is_forgotten() {
    let output = Command::new(program()).env_clear().args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for flag in section(&help, "Options:").filter_map(option_with_value) {
        assert!(SETTINGS.iter().any(|(tried, ..)| *tried == flag), "{flag}");
    }
}

/// What a setting needs beside it to be looked at.
fn beside(flag: &str, site: &Path) -> Vec<String> {
    let file = |name: &str| site.join(name).display().to_string();
    match flag {
        "--mail-ca" => [
            "--mail-server=127.0.0.1",
            "--mail-from=vpn@example.org",
            "--contact=help@example.org",
            "--site-url=https://vpn.example.org",
        ]
        .map(str::to_owned)
        .into(),
        "--site-certificate" => vec![format!("--site-key={}", file("key"))],
        "--site-key" => vec![format!("--site-certificate={}", file("cert"))],
        _ => Vec::new(),
    }
}

/// Makes a certificate for the site, and its key.
fn make_certificate(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    command.args(["-days", "2", "-subj", "/CN=test", "-keyout", "key", "-out", "cert"]);
    assert!(command.current_dir(dir).stderr(Stdio::null()).status().unwrap().success());
    chown(dir.join("key"), None, Some(65_528)).unwrap();
    fs::set_permissions(dir.join("key"), Permissions::from_mode(0o640)).unwrap();
}

/// Runs `tacit run`, which must end by itself.
fn run(lab: &Lab, arguments: &[String]) -> Output {
    let mut command = Command::new(program());
    command.env_clear().arg("run").args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = lab.gateway.start(&mut command).unwrap();
    let ended = wait_for(Duration::from_secs(10), || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ended.is_some(), "{arguments:?} was accepted: {said}");
    output
}

#[test]
fn every_setting_refuses_what_is_wrong_in_one_line_before_there_is_a_store() {
    let lab = Lab::new(0);
    let (dir, socket) = (lab.dir().join("data"), lab.dir().join("admin.sock"));
    fs::create_dir(&dir).unwrap();
    let site = lab.dir().join("site");
    make_certificate(&site);
    let path = lab.dir().join("tacit.toml");
    let places = [("--data-dir", &dir), ("--socket", &socket), ("--config", &path)];
    for (flag, is_path, own) in SETTINGS {
        let common = NO_SETTING.iter().filter(|_| !is_path);
        for bad in common.chain(own) {
            fs::write(&path, "").unwrap();
            let others = places.iter().filter(|(place, _)| *place != flag);
            let others: Vec<_> = others
                .map(|(place, path)| format!("{place}={}", path.display()))
                .chain(beside(flag, &site))
                .collect();
            let arguments = [&others[..], &[format!("{flag}={bad}")]].concat();
            check_refusal(&arguments, &run(&lab, &arguments));
            if !places.iter().any(|(place, _)| *place == flag) {
                let key = flag.trim_start_matches('-');
                fs::write(&path, format!("{key} = {}\n", serde_json::Value::from(*bad))).unwrap();
                check_refusal(&[key, bad], &run(&lab, &others));
            }
            assert!(!dir.join("store.sqlite").exists() && !socket.exists(), "{flag}: it began");
        }
    }
}
