//! The privacy rules as visitors and customers find them.

use std::{fs, time::Duration};

use tacit_tests::{Gateway, Lab, Visitor, clock::wait_until};

use super::{EMAIL, customer, logged_in, start, visitor};
use crate::store;

/// A sentence of the first version that the second one changes.
const FORMER: &str = "These rules say what we keep about you";
const CHANGED: &str = "These rules say all that we keep about you";
/// What the third one adds.
const ADDED: &str = "There is a third version.";

/// Publishes `text` with `more` flags.
fn publish(lab: &Lab, gateway: &Gateway<'_>, text: &str, more: &[&str]) {
    let file = lab.dir().join("published.md");
    fs::write(&file, text).unwrap();
    gateway.text(&[&["rules", "publish", file.to_str().unwrap()], more].concat());
}

/// Publishes a second version that is in force today, and a third one that comes in 20 days.
fn publish_two(lab: &Lab, gateway: &Gateway<'_>) {
    let day = |when: &str| lab.gateway.sh(&format!("date -u -d '{when}' +%F")).trim().to_owned();
    let first = gateway.text(&["rules", "show", "1"]);
    assert!(first.contains(FORMER), "{first}");
    let second = first.replacen(FORMER, CHANGED, 1);
    publish(lab, gateway, &second, &["--minor", "--effective", &day("today")]);
    let third = format!("{}\n\n{ADDED}\n", second.trim_end());
    publish(lab, gateway, &third, &["--effective", &day("20 days")]);
}

/// What the list says that the first, second and third version are.
fn states(visitor: &mut Visitor<'_>) -> Vec<String> {
    let list = visitor.get("/rules").body;
    let state = |number: u8| {
        let (_, version) = list.split_once(&format!("id=\"version-{number}\"")).unwrap();
        let (_, state) = version.split_once("<strong>").unwrap();
        state.split_once("</strong>").unwrap().0.to_owned()
    };
    (1..=3).map(state).collect()
}

/// What is between these tags.
fn marked(page: &str, tag: &str) -> Vec<String> {
    let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = page.split(&begin).skip(1);
    parts.map(|part| part.split(&end).next().unwrap().to_owned()).collect()
}

#[test]
fn versions_are_former_in_force_and_coming_and_what_differs_is_marked() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    publish_two(&lab, &gateway);
    let mut somebody = visitor(&lab, &gateway);
    assert_eq!(states(&mut somebody), ["former", "in force", "coming"]);
    for (path, number, state) in [
        ("/rules/1", 1, "former"),
        ("/rules/2", 2, "in force"),
        ("/rules/in-force", 2, "in force"),
        ("/rules/3", 3, "coming"),
    ] {
        let page = somebody.get(path).body;
        assert!(page.contains(&format!("<h1>Privacy rules, version {number}</h1>")), "{path}");
        assert!(page.contains(&format!("<strong>{state}</strong>, effective ")), "{path}");
    }
    let first = somebody.get("/rules/1").body;
    assert!(marked(&first, "del").is_empty() && marked(&first, "ins").is_empty());
    let second = somebody.get("/rules/2").body;
    let (removed, added) = (marked(&second, "del"), marked(&second, "ins"));
    assert!(matches!(&removed[..], [line] if line.contains(FORMER)), "{removed:?}");
    assert!(matches!(&added[..], [line] if line.contains(CHANGED)), "{added:?}");
    let third = somebody.get("/rules/3").body;
    assert_eq!(marked(&third, "del"), Vec::<String>::new());
    assert!(marked(&third, "ins").contains(&ADDED.to_owned()));
    assert_eq!(somebody.get("/rules/4").status, 404);
}

#[test]
fn clause_11_rules_are_in_force_for_a_customer_fourteen_days_after_their_letter() {
    const BOB: &str = "bob@example.org";
    const LATE: &str = "for you it comes into force 14 days after it was sent";
    let lab = Lab::new(0);
    let (mut gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    publish_two(&lab, &gateway);
    let path = gateway.store();
    let sent = "SELECT COUNT(*) FROM letters WHERE rules_version = 3 AND state = 'sent'";
    wait_until("the letter to go out", Duration::from_secs(10), || {
        store::numbers(&path, sent) == [1]
    });
    // As if 30 days had gone by, but the letter had gone out three days ago.
    gateway.stop();
    for (table, columns) in
        [("rules", &["published_at", "effective_at"][..]), ("accounts", &["created_at"])]
    {
        for column in columns {
            let sql = format!("UPDATE {table} SET {column} = {column} - 30 * 86400");
            store::change(&path, &sql);
        }
    }
    store::change(&path, "UPDATE letters SET state_since = state_since - 3 * 86400");
    gateway.run();
    customer(&lab, &gateway, BOB);

    let mut ann = logged_in(&lab, &gateway, EMAIL);
    assert_eq!(states(&mut ann), ["former", "in force", "coming"]);
    assert!(ann.get("/rules/in-force").body.contains("version 2</h1>"));
    assert!(ann.get("/rules/3").body.contains(LATE) && ann.get("/rules").body.contains(LATE));
    for mut other in [visitor(&lab, &gateway), logged_in(&lab, &gateway, BOB)] {
        assert_eq!(states(&mut other), ["former", "former", "in force"]);
        assert!(other.get("/rules/in-force").body.contains("version 3</h1>"));
        assert!(!other.get("/rules").body.contains(LATE));
    }
}
