//! What attackers try.

use tacit_tests::{Gateway, Lab, Visitor, visitor::Page};

use super::{EMAIL, NOBODYS_KEY, PASSWORD, customer, logged_in, start, visitor};

/// The addresses that forms are sent to, as the site's own list has them.
fn forms() -> Vec<String> {
    let routes = include_str!("../../../accounts/src/site/pages/mod.rs").lines();
    let taking = routes.filter(|line| line.contains(".route(") && line.contains("post("));
    let path = |line: &str| line.split('"').nth(1).unwrap().replace("{token}", "x");
    taking.map(path).collect()
}

#[test]
fn form_of_another_site_or_visit_changes_nothing() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    customer(&lab, &gateway, "mallory@example.org");
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let mut mallory = logged_in(&lab, &gateway, "mallory@example.org");
    let [own, foreign] = [ann.get("/account").token(), mallory.get("/account").token()];
    let form = |token| [("token", token), ("recipient", "Mallory"), ("password", PASSWORD)];

    for headers in [
        &[("Sec-Fetch-Site", "cross-site")][..],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "none")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        &[],
    ] {
        let answer = ann.post_with("/consents", headers, &form(&own));
        assert_eq!(answer.status, 403, "{headers:?}");
        // Nor can somebody be logged in as somebody else.
        let log_in = [("email", "mallory@example.org"), ("password", PASSWORD)];
        let answer = ann.post_with("/log-in", headers, &log_in);
        assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{headers:?}");
    }
    let forms = forms();
    assert!(forms.len() > 12, "{forms:?}");
    for path in &forms {
        let answer = ann.post_with(path, &[("Sec-Fetch-Site", "cross-site")], &form(&own));
        assert_eq!(answer.status, 403, "{path}");
        // Those before log-in belong to no visit.
        if ["/register", "/log-in", "/confirm/x"].contains(&path.as_str()) {
            continue;
        }
        for token in ["", "x", &foreign] {
            assert_eq!(ann.post(path, &form(token)).status, 403, "{path}: {token}");
        }
        assert_eq!(
            visitor(&lab, &gateway).post(path, &form(&own)).header("location"),
            Some("/log-in"),
            "{path}"
        );
    }
    for path in ["/account/cancel", "/consents", "/devices/remove", "/log-out"] {
        let answer = ann.get(path);
        assert!([200, 404, 405].contains(&answer.status), "{path}");
    }
    assert_eq!(gateway.json(&["account", "show", EMAIL])["consents"], serde_json::json!([]));
    let own_origin = [("Origin", "https://127.0.0.1:8443")];
    assert_eq!(ann.post_with("/consents", &own_origin, &form(&own)).status, 303);
    assert_eq!(ann.get("/account").status, 200);
}

#[test]
fn customer_cannot_touch_what_is_somebody_elses() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    customer(&lab, &gateway, "mallory@example.org");
    gateway.add_device(EMAIL, "laptop");
    let device = gateway.json(&["device", "list", EMAIL])[0]["id"].to_string();
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    ann.submit("/consents", "/consents", &[("recipient", "A court"), ("password", PASSWORD)]);
    let mut mallory = logged_in(&lab, &gateway, "mallory@example.org");
    let fields = [("device", device.as_str()), ("name", "mine"), ("consent", "1")];
    // Theirs is for nobody else's eyes, so it is as if it were not there: nothing is left to remove.
    for (path, status) in
        [("/devices/remove", 303), ("/devices/rename", 422), ("/consents/withdraw", 404)]
    {
        assert_eq!(mallory.submit("/account", path, &fields).status, status, "{path}");
    }
    assert_eq!(gateway.json(&["device", "list", EMAIL])[0]["name"], "laptop");
    assert!(!mallory.get("/records.json").body.contains(EMAIL));
    assert!(gateway.json(&["account", "show", EMAIL])["consents"][0]["withdrawn_at"].is_null());
}

#[test]
fn session_that_somebody_else_fixed_is_not_taken() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    customer(&lab, &gateway, "mallory@example.org");
    let mut mallory = logged_in(&lab, &gateway, "mallory@example.org");
    let fixed = mallory.cookie.clone();
    for cookie in
        [fixed.clone(), Some("__Host-tacit=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into())]
    {
        let mut ann = visitor(&lab, &gateway);
        ann.cookie.clone_from(&cookie);
        ann.log_in(EMAIL, PASSWORD);
        assert_ne!(ann.cookie, cookie);
        assert!(ann.get("/account").body.contains(EMAIL));
        let mut other = visitor(&lab, &gateway);
        other.cookie = cookie;
        assert_eq!(other.get("/account").header("location"), Some("/log-in"));
    }
    assert_eq!(mallory.get("/account").header("location"), Some("/log-in"));
    // Two cookies are none.
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let cookie = ann.cookie.take().unwrap();
    ann.cookie = Some(format!("{cookie}; {}", fixed.unwrap()));
    assert_eq!(ann.get("/account").header("location"), Some("/log-in"));
}

#[test]
fn what_people_write_is_text_wherever_it_is_shown() {
    const SCRIPT: &str = "<script>alert(1)</script>";
    const ATTRIBUTE: &str = "\"'><img src=x onerror=alert(1)>";
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    let rules = lab.dir().join("rules.md");
    let text = format!("# Rules {SCRIPT}\n\n- {ATTRIBUTE}\n\n{SCRIPT} {{{{ 1 }}}} {{% raw %}}\n");
    std::fs::write(&rules, text).unwrap();
    let today = lab.gateway.sh("date -u +%F");
    let publish = ["rules", "publish", rules.to_str().unwrap(), "--minor", "--effective"];
    gateway.text(&[&publish[..], &[today.trim(), "--summary", SCRIPT]].concat());
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);

    let mut shown = Vec::new();
    for (number, text) in [SCRIPT, ATTRIBUTE].into_iter().enumerate() {
        let key = gateway.json(&["status"])["public_key"].as_str().unwrap().to_owned();
        shown.push(ann.submit("/devices", "/devices", &[("name", text), ("public_key", &key)]));
        shown.push(ann.submit("/devices", "/devices", &[("name", "a"), ("public_key", text)]));
        let consent = [("recipient", text), ("password", PASSWORD)];
        ann.submit("/consents", "/consents", &consent);
        gateway.text(&["device", "add", EMAIL, text]);
        let elsewhere = [("name", "b"), ("public_key", NOBODYS_KEY), ("gateway", text)];
        shown.push(ann.submit("/devices", "/devices", &elsewhere));
        let renamed = [("device", "1"), ("name", text)];
        shown.push(ann.submit("/devices", "/devices/rename", &renamed));
        let answer = lab.dir().join(format!("answer-{number}.json"));
        let make = ["disclosure", "make", EMAIL, "--output", answer.to_str().unwrap()];
        let why = ["--basis", "lawful-order", "--reference", text, "--recipient", text];
        gateway.text(&[&make[..], &why].concat());
        shown.push(ann.submit("/account", "/account/code", &[("code", text)]));
        let email = [("email", text), ("password", PASSWORD)];
        shown.push(ann.submit("/account", "/account/email", &email));
        shown.push(visitor(&lab, &gateway).post("/log-in", &[("email", text), ("password", text)]));
        let fields = [("email", text), ("password", text), ("again", text), ("who", text)];
        shown.push(visitor(&lab, &gateway).post("/register", &fields));
    }
    for path in
        ["/devices", "/records", "/consents", "/rules", "/rules/2", "/account?done=%3Cscript%3E"]
    {
        let page = ann.get(path);
        assert_eq!(page.status, 200, "{path}");
        shown.push(page);
    }
    shown.push(ann.get("/rules/%3Cscript%3E"));
    shown.push(ann.get("/confirm/%3Cscript%3Ealert(1)%3C%2Fscript%3E"));
    let escaped = shown.iter().filter(|page| page.body.contains("&#60;")).count();
    assert!(escaped >= 10, "what was written is not shown at all: {escaped}");
    for Page { body, .. } in shown {
        let body = body.to_ascii_lowercase();
        assert!(!body.contains("<script>") && !body.contains("<img"), "{body}");
        assert!(!body.contains("onerror=alert(1)>"), "{body}");
    }
}

#[test]
fn addresses_lead_nowhere_else() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    let mut ann = visitor(&lab, &gateway);
    for path in [
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/../../../etc/passwd",
        "//etc/passwd",
        "/assets/style.css%00",
        "/rules/../../etc/passwd",
        "/%ff%fe",
    ] {
        let answer = ann.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.body.contains("root:"), "{path}");
    }
    let log_in = format!("email={EMAIL}&password={PASSWORD}");
    for path in ["/log-in?next=https://evil.example/", "/log-in?return=//evil.example"] {
        let headers = [
            ("Sec-Fetch-Site", "same-origin"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let answer = ann.request("POST", path, &headers, &log_in);
        assert_eq!(answer.header("location"), Some("/account"), "{path}");
    }
    let evil = "GET /account HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\
                Connection: close\r\n\r\n";
    let answer = visitor(&lab, &gateway).say(evil.as_bytes()).unwrap();
    assert_eq!(answer.header("location"), Some("/log-in"));
    assert!(!answer.body.contains("evil"));
    // A header cannot be written by what is sent.
    let answer = ann.get("/account?done=code%0d%0aSet-Cookie:%20a=b");
    assert_eq!(answer.header("set-cookie"), None);
}

#[test]
fn malformed_requests_are_refused_and_the_site_goes_on() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let mut ann = visitor(&lab, &gateway);
    let form = "Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let post = format!("POST /log-in HTTP/1.1\r\nHost: x\r\n{form}");
    let large = "a".repeat(20_000);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    // The connection is one that is kept: where nobody can say where a request ends, nothing after it is one.
    let refused: Vec<(&str, String, &[u16])> = vec![
        ("a huge length", format!("{post}Content-Length: 99999999999999\r\n\r\n"), &[413]),
        ("no length that is one", format!("{post}Content-Length: -1\r\n\r\n"), &[400]),
        ("two lengths", format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\na"), &[400]),
        (
            "a length and chunks",
            format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            &[400, 422],
        ),
        (
            "chunks and a length",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
            &[400, 422],
        ),
        ("another coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), &[400]),
        (
            "chunks of no number",
            format!("{post}Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n"),
            &[400, 413],
        ),
        (
            "a long head",
            format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", large.repeat(2)),
            &[400, 431],
        ),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), &[400, 431]),
        ("a blank before a colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n".into(), &[400]),
        ("no HTTP", "hello\r\n\r\n".into(), &[400]),
    ];
    let smuggled = "GET /records HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (what, request, statuses) in refused {
        let answer = ann.say(format!("{request}{smuggled}").as_bytes());
        let answer = answer.unwrap_or_else(|| panic!("{what} is not answered"));
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
        let answers = answer.body.matches("HTTP/1.1 ").count();
        assert_eq!(answers, 0, "{what}: a second request was answered: {answer:?}");
        assert_eq!(ann.get("/").status, 200, "{what}");
    }
}

#[test]
fn requests_that_no_page_takes_are_refused() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let ann = visitor(&lab, &gateway);
    let post = "POST /log-in HTTP/1.1\r\nSec-Fetch-Site: same-origin\r\n";
    let large = "a".repeat(20_000);
    let chunks = format!("4e20\r\n{large}\r\n0\r\n\r\n");
    for (what, first_lines, body, status) in [
        ("another method", "DELETE /account HTTP/1.1\r\n", "", 405),
        ("TRACE", "TRACE / HTTP/1.1\r\n", "", 405),
        (
            "JSON",
            &format!("{post}Content-Type: application/json\r\nContent-Length: 2\r\n"),
            "{}",
            400,
        ),
        ("more than a form", &format!("{post}Content-Length: 20000\r\n"), large.as_str(), 413),
        ("more in chunks", &format!("{post}Transfer-Encoding: chunked\r\n"), &chunks, 413),
    ] {
        let request = format!("{first_lines}Host: x\r\nConnection: close\r\n\r\n{body}");
        let answer = ann.say(request.as_bytes());
        assert_eq!(answer.map(|answer| answer.status), Some(status), "{what}");
    }
}

#[test]
fn address_that_is_no_text_is_no_page_and_another_method_is_told_which_there_are() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let mut ann = visitor(&lab, &gateway);
    for path in ["/assets/%ff", "/rules/%ff", "/%ff"] {
        let answer = ann.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("There is no such page"), "{path}: {}", answer.body);
    }
    for (path, methods) in [("/", "GET,HEAD"), ("/log-in", "GET,HEAD,POST"), ("/log-out", "POST")] {
        let request = format!("DELETE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = ann.say(request.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some(methods)), "{path}");
    }
}

#[test]
fn guessing_and_mass_registration_are_slowed_down() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    let mut eve = visitor(&lab, &gateway);
    let guesses: Vec<Page> = (0..8).map(|n| eve.log_in(EMAIL, &format!("guess-{n}"))).collect();
    assert!(guesses[4].body.contains("is wrong"), "{}", guesses[4].body);
    assert!(guesses[7].body.contains("Too many tries"), "{}", guesses[7].body);
    // Not even the right one is let in now.
    assert_eq!(eve.log_in(EMAIL, PASSWORD).status, 422);

    let register = |eve: &mut Visitor<'_>, n: usize| {
        let email = format!("many{n}@example.org");
        let rest = [("again", PASSWORD), ("who", "of-age"), ("rules", "accepted")];
        eve.post(
            "/register",
            &[&[("email", email.as_str()), ("password", PASSWORD)], &rest[..]].concat(),
        )
    };
    let taken = (0..14).filter(|n| register(&mut eve, *n).status == 200).count();
    assert!((8..=12).contains(&taken), "{taken} registrations");
}
