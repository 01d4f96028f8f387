//! What customers do, from registering to cancelling.

use std::{thread, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use rand_core::{OsRng, RngCore};
use tacit_tests::{
    Lab, RawClient, Visitor, clock::wait_until, config::Config, lab::TARGET_V4, target::ECHO_PORT,
};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{EMAIL, NOBODYS_KEY, PASSWORD, customer, letter, link, logged_in, start, visitor};

/// Registers and follows the letter's link.
fn register(visitor: &mut Visitor<'_>, server: &tacit_tests::MailServer<'_>) {
    let form = [
        ("email", EMAIL),
        ("password", PASSWORD),
        ("again", PASSWORD),
        ("who", "of-age"),
        ("rules", "accepted"),
    ];
    let answer = visitor.post("/register", &form);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let path = link(&letter(server, EMAIL, 1));
    assert!(path.starts_with("/confirm/"), "{path}");
    // Following it is not enough: mail programs do so by themselves.
    assert!(visitor.get(&path).body.contains("Press the button"));
    assert_eq!(visitor.log_in(EMAIL, PASSWORD).status, 422);
    let answer = visitor.post(&path, &[]);
    assert!(answer.status == 200 && answer.body.contains("Your account is there"), "{answer:?}");
    assert_eq!(visitor.post(&path, &[]).status, 422, "the link works twice");
}

/// Adds a device as somebody does whose browser has no X25519, and returns its config with the key.
fn add_device(visitor: &mut Visitor<'_>, name: &str) -> Config {
    add_device_with(visitor, &[("name", name)])
}

/// The same with what else a form says.
pub(super) fn add_device_with(visitor: &mut Visitor<'_>, fields: &[(&str, &str)]) -> Config {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    let secret = StaticSecret::from(bytes);
    let public = STANDARD.encode(PublicKey::from(&secret).as_bytes());
    let fields = [fields, &[("public_key", public.as_str())]].concat();
    let page = visitor.submit("/devices", "/devices", &fields);
    assert_eq!(page.status, 200, "{}", page.body);
    let (_, config) = page.body.split_once("id=\"config\">").unwrap();
    let config = config.split("</pre>").next().unwrap().replace("&#60;", "<").replace("&#62;", ">");
    let private = STANDARD.encode(secret.to_bytes());
    assert!(!page.body.contains(&private));
    let place = config.lines().find(|line| line.starts_with("# PrivateKey")).unwrap().to_owned();
    Config::parse(&config.replace(&place, &format!("PrivateKey = {private}")))
}

#[test]
fn customer_registers_connects_sees_the_session_and_cancels() {
    let lab = Lab::new(1);
    let (gateway, server) = start(&lab, &[]);
    let mut ann = visitor(&lab, &gateway);
    register(&mut ann, &server);
    let answer = ann.log_in(EMAIL, PASSWORD);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/account")));

    // Without service nobody connects; an activation code switches it on, once.
    assert!(ann.get("/account").body.contains("no service yet"));
    let codes = gateway.json(&["code", "make", "--days", "30"]);
    let code = codes.to_string();
    let code = code.split('"').find(|part| part.len() == 29).unwrap_or_else(|| panic!("{codes}"));
    let answer = ann.submit("/account", "/account/code", &[("code", code)]);
    assert_eq!(answer.header("location"), Some("/account?done=code"), "{}", answer.body);
    assert!(ann.get("/account?done=code").body.contains("runs until"));
    let again = ann.submit("/account", "/account/code", &[("code", code)]);
    assert!(again.status == 422 && again.body.contains("used before"), "{}", again.body);

    let config = add_device(&mut ann, "phone");
    assert!(ann.get("/devices").body.contains("Not connected"));
    let mut client = RawClient::new(&lab.clients[0], &config);
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
    gateway.wait_for_sessions(EMAIL, 1);
    assert!(ann.get("/devices").body.contains("Connected now"));
    let records = ann.get("/records");
    assert!(records.body.contains(">192.0.2.2</td>"), "{}", records.body);
    let json: serde_json::Value = serde_json::from_str(&ann.get("/records.json").body).unwrap();
    assert_eq!(json["sessions"][0]["connecting_ip"], "192.0.2.2");

    let sure = [("password", PASSWORD), ("sure", "yes")];
    let wrong = [("password", "something else"), ("sure", "yes")];
    assert_eq!(ann.submit("/account", "/account/cancel", &wrong).status, 422);
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"still here"));
    let answer = ann.submit("/account", "/account/cancel", &sure);
    assert!(answer.status == 200 && answer.body.contains("is cancelled"), "{}", answer.body);
    thread::sleep(Duration::from_secs(2));
    assert!(!client.echo((TARGET_V4, ECHO_PORT).into(), b"gone"), "a cancelled customer connects");
    assert_eq!(ann.get("/account").header("location"), Some("/log-in"));
    assert_eq!(visitor(&lab, &gateway).log_in(EMAIL, PASSWORD).status, 422);
    letter(&server, EMAIL, 2);
}

#[test]
fn device_whose_form_is_sent_twice_is_added_once_and_both_answers_are_its_config() {
    let lab = Lab::new(0);
    let gateway = tacit_tests::Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let mut add =
        |name| ann.submit("/devices", "/devices", &[("name", name), ("public_key", NOBODYS_KEY)]);
    let config = |page: &str| {
        let (_, config) = page.split_once("id=\"config\">").unwrap_or_else(|| panic!("{page}"));
        config.split("</pre>").next().unwrap().to_owned()
    };
    let configs = [add("phone"), add("phone")].map(|page| config(&page.body));
    assert!(configs[0].contains("PresharedKey"), "{}", configs[0]);
    assert_eq!(configs[0], configs[1]);
    let other = add("tablet");
    assert_eq!(other.status, 422, "{}", other.body);
    assert_eq!(gateway.json(&["device", "list", EMAIL]).as_array().unwrap().len(), 1);
}

#[test]
fn customer_changes_address_password_and_devices() {
    const OTHER: &str = "else@example.org";
    let lab = Lab::new(0);
    let (gateway, server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);

    let change = |password| [("email", OTHER), ("password", password)];
    assert_eq!(ann.submit("/account", "/account/email", &change("wrong")).status, 422);
    let answer = ann.submit("/account", "/account/email", &change(PASSWORD));
    assert_eq!(answer.header("location"), Some("/account?done=email"), "{}", answer.body);
    let path = link(&letter(&server, OTHER, 1));
    assert!(ann.post(&path, &[]).body.contains("Your address is changed"));
    assert!(ann.get("/account").body.contains(OTHER));
    assert!(ann.get("/records").body.contains(EMAIL), "the archive is not shown");

    // Other visits end with the password; this one gets a new cookie.
    const NEW: &str = "walnut-ferry-mosaic-3";
    let mut elsewhere = logged_in(&lab, &gateway, OTHER);
    let before = ann.cookie.clone();
    let form = [("password", PASSWORD), ("new", NEW), ("again", NEW)];
    let answer = ann.submit("/account", "/account/password", &form);
    assert_eq!(answer.header("location"), Some("/account?done=password"), "{}", answer.body);
    assert_ne!(ann.cookie, before);
    assert_eq!(ann.get("/account").status, 200);
    assert_eq!(elsewhere.get("/account").header("location"), Some("/log-in"));
    assert_eq!(elsewhere.log_in(OTHER, PASSWORD).status, 422);

    add_device(&mut ann, "phone");
    let number = gateway.json(&["device", "list", OTHER])[0]["id"].to_string();
    let rename = [("device", number.as_str()), ("name", "tablet")];
    let answer = ann.submit("/devices", "/devices/rename", &rename);
    assert_eq!(answer.header("location"), Some("/devices?done=name"), "{}", answer.body);
    assert_eq!(gateway.json(&["device", "list", OTHER])[0]["name"], "tablet");
    // Sent twice, or once more from a page of before.
    for _ in 0..2 {
        let answer = ann.submit("/devices", "/devices/remove", &[("device", &number)]);
        assert_eq!(answer.header("location"), Some("/devices?done=device"), "{}", answer.body);
    }
    assert_eq!(gateway.json(&["device", "list", OTHER]), serde_json::json!([]));
    let answer = ann.submit("/devices", "/devices/rename", &rename);
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("no such device any more"), "{}", answer.body);
}

/// The page of a form, the form, what is sent, and what is there again.
type Refused<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn what_was_typed_is_there_again_in_a_form_that_is_refused() {
    const WRONG: &str = "not-the-password";
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    gateway.add_device(EMAIL, "phone");
    gateway.add_device(EMAIL, "tablet");
    let number = gateway.json(&["device", "list", EMAIL])[0]["id"].to_string();
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let again = [("password", WRONG), ("new", "one"), ("again", "two")];
    let cases: [Refused<'_>; 7] = [
        ("/account", "/account/code", &[("code", "AB\"CD")], "value=\"AB&#34;CD\""),
        (
            "/account",
            "/account/email",
            &[("email", "new@example.org"), ("password", WRONG)],
            "value=\"new@example.org\"",
        ),
        ("/account", "/account/password", &again, "id=\"new\""),
        ("/account", "/account/cancel", &[("password", WRONG), ("sure", "yes")], "name=\"sure\""),
        (
            "/consents",
            "/consents",
            &[("recipient", "Court of Anytown"), ("password", WRONG)],
            "value=\"Court of Anytown\"",
        ),
        (
            "/devices",
            "/devices",
            &[("name", "phone"), ("public_key", NOBODYS_KEY)],
            &format!("value=\"{NOBODYS_KEY}\""),
        ),
        (
            "/devices",
            "/devices/rename",
            &[("device", &number), ("name", "tablet")],
            "value=\"tablet\"",
        ),
    ];
    for (page, form, fields, shown) in cases {
        let answer = ann.submit(page, form, fields);
        assert_eq!(answer.status, 422, "{form}");
        // What is folded up is in no answer's sight: the form stands in what is open, or in nothing that folds.
        let (before, rest) = answer.body.split_once(&format!("action=\"{form}\"")).unwrap();
        let is_folded = before.rsplit_once("<details").is_some_and(|(_, inside)| {
            !inside.contains("</details>") && !inside.starts_with(" open")
        });
        assert!(!is_folded, "{form}: {}", answer.body);
        let form_text = rest.split("</form>").next().unwrap();
        assert!(form_text.contains(shown), "{form}: {form_text}");
        assert!(!answer.body.contains(WRONG) && !answer.body.contains("value=\"one\""), "{form}");
    }
}

#[test]
fn clause_2_consent_is_given_with_the_password_and_withdrawn_without() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let give = |password| [("recipient", "Court of Anytown"), ("password", password)];
    assert_eq!(ann.submit("/consents", "/consents", &give("wrong")).status, 422);
    let consents = || gateway.json(&["account", "show", EMAIL])["consents"].clone();
    assert_eq!(consents(), serde_json::json!([]));
    for _ in 0..2 {
        ann.submit("/consents", "/consents", &give(PASSWORD));
    }
    assert_eq!(consents()[0]["recipient"], "Court of Anytown");
    assert!(consents()[1].is_null(), "it is given once: {}", consents());
    let page = ann.get("/consents").body;
    let (_, id) = page.split_once("name=\"consent\" value=\"").unwrap();
    let id = id.split('"').next().unwrap();
    ann.submit("/consents", "/consents/withdraw", &[("consent", id)]);
    assert!(!consents()[0]["withdrawn_at"].is_null());
    wait_until("the page says so", Duration::from_secs(1), || {
        ann.get("/consents").body.contains("withdrawn")
    });
}

#[test]
fn clause_10_nobody_registers_without_age_or_responsibility_or_rules() {
    let lab = Lab::new(0);
    let (gateway, server) = start(&lab, &[]);
    let mut child = visitor(&lab, &gateway);
    let base = [("email", EMAIL), ("password", PASSWORD), ("again", PASSWORD)];
    let forms: [&[(&str, &str)]; 4] = [
        &[("rules", "accepted")],
        &[("rules", "accepted"), ("who", "child")],
        &[("who", "of-age")],
        &[("who", "responsible-adult"), ("rules", "")],
    ];
    for form in forms {
        let answer = child.post("/register", &[&base[..], form].concat());
        assert_eq!(answer.status, 422, "{form:?}");
    }
    let weak = [("email", EMAIL), ("password", "letmein1"), ("again", "letmein1")];
    let rest = [("who", "responsible-adult"), ("rules", "accepted")];
    assert_eq!(child.post("/register", &[&weak[..], &rest].concat()).status, 422);
    assert_eq!(server.count_taken(), 0);
    assert_eq!(child.post("/register", &[&base[..], &rest].concat()).status, 200);
    let path = link(&letter(&server, EMAIL, 1));
    child.post(&path, &[]);
    let account = gateway.json(&["account", "list"])[0].clone();
    assert_eq!(account["confirmation"], "responsible-adult");
}
