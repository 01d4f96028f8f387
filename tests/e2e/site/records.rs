//! What a customer is shown of all that is held: the page says what the download says.

use std::{fs, time::Duration};

use serde_json::Value;
use tacit_tests::{Client, Gateway, Implementation, Lab, clock::wait_until};

use super::{EMAIL, browser::NEW_EMAIL, customer, logged_in, pictures, start};

/// What the page says in words of its own, or, of a password, that there is one.
const IN_WORDS: [&str; 8] =
    ["confirmation", "has_password", "kind", "reason", "basis", "verb", "data", "all_else"];

/// The values of a document, each with the name of its field.
fn values<'a>(field: &'a str, value: &'a Value, found: &mut Vec<(&'a str, String)>) {
    match value {
        Value::Null => {}
        Value::Array(list) => list.iter().for_each(|value| values(field, value, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| values(name, value, found)),
        Value::String(text) => found.push((field, text.clone())),
        other => found.push((field, other.to_string())),
    }
}

#[test]
fn page_and_download_say_how_long_each_thing_is_kept() {
    let lab = Lab::new(0);
    let odd = ["--keep-sessions", "17", "--keep-archive", "93", "--keep-records", "411"];
    let gateway = Gateway::start_with(&lab, &odd);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let page = ann.get("/records").body;
    for (sentence, count) in [
        ("What is past its time is erased within a day.", 1),
        (
            "Kept while you have the account. An address that is not confirmed is kept for 2 days at most.",
            1,
        ),
        // Services, and what has to do with rules; then consents.
        ("Kept while you have the account.</p>", 2),
        ("Kept while you have the account. <a href=\"/consents\">", 1),
        ("Kept until you remove the device or cancel.", 1),
        ("Kept for 17 days after the end.</p>", 1),
        ("Kept for 93 days.</p>", 1),
        ("Kept for 411 days. An order can forbid", 1),
        ("Kept for 411 days.</p>", 1),
    ] {
        assert_eq!(page.matches(sentence).count(), count, "{sentence}\n{page}");
    }
    let home = ann.get("/").body;
    for sentence in [
        "for 17 days after it disconnected",
        "as it was before, encrypted; for 93 days",
        "what was disclosed; for 411 days",
        // All that the page has.
        "of age, or the adult responsible",
        "To which disclosures you agreed",
        "which privacy rules we wrote to you about",
    ] {
        assert!(home.contains(sentence), "{sentence}\n{home}");
    }
    let kept = serde_json::json!({
        "sessions": 17,
        "former_values": 93,
        "disclosures": 411,
        "seen_by_staff": 411,
        "email_to_be_confirmed": 2,
        "all_else": "while there is the account",
    });
    let held: Value = serde_json::from_str(&ann.get("/records.json").body).unwrap();
    assert_eq!(held["kept"], kept);
    assert_eq!(gateway.json(&["account", "export", EMAIL])["kept"], kept);
    let text = gateway.text(&["account", "export", EMAIL]);
    assert!(text.contains("sessions: for 17 days after their end"), "{text}");
}

#[test]
fn page_shows_all_that_the_download_has() {
    let lab = Lab::new(1);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, NEW_EMAIL);
    let config = gateway.add_device(NEW_EMAIL, "phone");
    let _client = Client::up(&lab.clients[0], Implementation::Boringtun, &config);
    gateway.wait_for_sessions(NEW_EMAIL, 1);
    pictures::fill(&lab, &gateway);
    // Of a change that is not minor there is a letter.
    let rules = lab.dir().join("coming.md");
    fs::write(&rules, gateway.text(&["rules", "show", "1"])).unwrap();
    let day = lab.gateway.sh("date -u -d '20 days' +%F");
    let publish = ["rules", "publish", rules.to_str().unwrap(), "--effective", day.trim()];
    gateway.text(&[&publish[..], &["--summary", "As before."]].concat());

    let mut ann = logged_in(&lab, &gateway, NEW_EMAIL);
    wait_until("the rules' letter to go out", Duration::from_secs(10), || {
        let held: Value = serde_json::from_str(&ann.get("/records.json").body).unwrap();
        held["rules"].as_array().unwrap().iter().any(|rules| rules["letter_sent_at"].is_string())
    });
    let page = ann.get("/records").body;
    let mut held: Value = serde_json::from_str(&ann.get("/records.json").body).unwrap();
    // These are of the document itself.
    held.as_object_mut().unwrap().retain(|field, _| !["about", "made_at"].contains(&&**field));
    let mut found = Vec::new();
    values("", &held, &mut found);
    for (field, value) in &found {
        // Times are shown without the letters of RFC 3339.
        let readable = value.replace('T', " ").replace('Z', " UTC");
        let is_shown = page.contains(value) || page.contains(&readable);
        assert!(IN_WORDS.contains(field) || is_shown, "{field} {value} is not on the page");
    }
    for field in ["connecting_ip", "sha256", "letter_written_at", "withdrawn_at", "verb"] {
        assert!(found.iter().any(|(name, _)| name == &field), "nothing is held of {field}");
    }
}
