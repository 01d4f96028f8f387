//! What the first page says of the last audit.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};
use tacit_tests::{Gateway, Lab};

use super::visitor;

/// Audits the gateway and returns each check's verdict.
fn audit(gateway: &Gateway<'_>, flags: &[&str]) -> BTreeMap<String, String> {
    let output = gateway.cli(&[&["audit", "--json"], flags].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|check| (word(&check["id"]), word(&check["verdict"]))).collect()
}

/// Says to the gateway, as root, what came of an audit; returns the answer's status.
fn say(gateway: &Gateway<'_>, checks: &BTreeMap<String, String>, commit: &str) -> u16 {
    let body = json!({ "checks": checks, "commit": commit }).to_string();
    let mut stream = UnixStream::connect(gateway.socket()).unwrap();
    let head = format!(
        "POST /audit/note HTTP/1.1\r\nHost: tacit\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn first_page_says_what_came_of_the_last_audit() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let mut anybody = visitor(&lab, &gateway);
    let not_yet = "has not been audited since it was started";
    assert!(anybody.get("/").body.contains(not_yet));
    audit(&gateway, &["--only", "swap"]);
    assert!(anybody.get("/").body.contains(not_yet), "some checks are told as if they were all");

    let checks = audit(&gateway, &[]);
    let page = anybody.get("/").body;
    let (_, shown) = page.split_once("The last audit").unwrap();
    let count = |verdict| checks.values().filter(|word| *word == verdict).count();
    let (passed, warned, failed) = (count("PASS"), count("WARN"), count("FAIL"));
    let words =
        format!("of {} checks {passed} passed, {warned} warned and {failed} failed.", checks.len());
    assert!(passed > 0 && shown.contains(&words), "{words}: {shown}");
    for (id, verdict) in &checks {
        let is_named = shown.contains(&format!("<code>{id}</code>"));
        assert_eq!(is_named, verdict != "PASS", "{id}");
    }
    let version = String::from_utf8(gateway.cli(&["--version"]).stdout).unwrap();
    let (_, rest) = shown.split_once("from commit <code>").unwrap();
    assert!(version.contains(rest.split('<').next().unwrap()), "{version}");

    // Of what is said, only words that the program knows get to the page.
    let mut failing = checks.clone();
    failing.insert("swap".into(), "FAIL".into());
    assert_eq!(say(&gateway, &failing, &"0".repeat(40)), 200);
    assert!(anybody.get("/").body.contains("Failed: "), "a failure is not shown");
    let mut hostile = checks.clone();
    hostile.insert("<script>alert(1)</script>".into(), "FAIL".into());
    assert_eq!(say(&gateway, &hostile, "unknown"), 422);
    assert_eq!(say(&gateway, &checks, "<script>alert(1)</script>"), 422);
    assert!(!anybody.get("/").body.contains("<script"));

    // It was of processes that are gone.
    gateway.stop();
    gateway.run();
    assert!(anybody.get("/").body.contains(not_yet));
}
