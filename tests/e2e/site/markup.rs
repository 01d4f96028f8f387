//! Whether the pages are HTML: the Nu Html Checker, which is W3C's, reads all of them.

use std::{fs, path::Path, process::Command};

use tacit_tests::{Gateway, Lab, MailServer, Visitor, gateway::tool, visitor::Page};

use super::{
    EMAIL, NOBODYS_KEY, OPEN, PASSWORD, PERSONAL, customer, letter, link, logged_in, start, visitor,
};

/// Every page, and every state of it that has markup of its own.
fn pages(lab: &Lab, gateway: &Gateway<'_>, server: &MailServer<'_>) -> Vec<Page> {
    let mut ann = logged_in(lab, gateway, EMAIL);
    let mut pages: Vec<Page> = PERSONAL.iter().map(|path| ann.get(path)).collect();
    let mut anybody = visitor(lab, gateway);
    pages.extend(OPEN.iter().map(|path| anybody.get(path)));
    pages.extend(["/", "/contact", "/rules/2"].map(|path| ann.get(path)));
    pages.extend(anybody_tries(&mut anybody, server));
    pages.extend(customer_tries(&mut ann));
    gateway.cli(&["audit"]);
    pages.push(anybody.get("/"));
    let sure = [("password", PASSWORD), ("sure", "yes")];
    pages.extend(["/records", "/devices", "/consents"].map(|path| ann.get(path)));
    pages.push(ann.submit("/account", "/account/cancel", &sure));
    pages
}

fn anybody_tries(anybody: &mut Visitor<'_>, server: &MailServer<'_>) -> Vec<Page> {
    let form = |again| {
        let who = [("who", "of-age"), ("rules", "accepted"), ("again", again)];
        [&[("email", "new@example.org"), ("password", PASSWORD)], &who[..]].concat()
    };
    let mut pages = vec![
        anybody.log_in(EMAIL, "wrong \"<>& one"),
        anybody.post("/register", &form("another")),
        anybody.post("/register", &form(PASSWORD)),
        anybody.post_with("/log-in", &[], &[]),
    ];
    let path = link(&letter(server, "new@example.org", 1));
    pages.extend([anybody.get(&path), anybody.post(&path, &[])]);
    pages
}

fn customer_tries(ann: &mut Visitor<'_>) -> Vec<Page> {
    let device = [("name", "Ann's \"phone\" <&>"), ("public_key", NOBODYS_KEY)];
    let consent = [("recipient", "A \"court\" <&>"), ("password", PASSWORD)];
    let mut pages = vec![
        ann.submit("/devices", "/devices", &device),
        ann.submit("/devices", "/devices", &device),
        ann.submit("/account", "/account/code", &[("code", "<x>")]),
        ann.submit("/consents", "/consents", &[("recipient", ""), ("password", "x")]),
    ];
    let email = [("email", "\"<&>@example.org"), ("password", "x")];
    pages.push(ann.submit("/account", "/account/email", &email));
    let long = "\"<&>".repeat(20);
    let rename = [("device", "1"), ("name", long.as_str())];
    pages.push(ann.submit("/devices", "/devices/rename", &rename));
    ann.submit("/consents", "/consents", &consent);
    let done = ["/account?done=code", "/devices?done=name", "/consents?done=consent"];
    pages.extend(done.map(|path| ann.get(path)));
    pages
}

/// What the checker finds wrong with the files of a directory.
fn wrong_in(dir: &Path) -> String {
    let mut command = Command::new("java");
    // It is started once and soon done.
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss4m", "-jar"]);
    command.arg(tool("vnu-jar-25.11.25/vnu.jar"));
    command.args(["--Werror", "--also-check-css", "--also-check-svg"]).arg(dir);
    let output = command.output().expect("java (Debian package default-jre-headless)");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), told.trim().is_empty(), "{told}");
    told
}

#[test]
fn clause_12_every_page_is_valid_html_and_has_the_contact_address() {
    let lab = Lab::new(0);
    let (gateway, server) = start(&lab, &[]);
    let rules = lab.dir().join("rules.md");
    fs::write(&rules, "# Rules\n\n## One\n\n- a \"b\" <c> & d\n\nText.\n").unwrap();
    let today = lab.gateway.sh("date -u +%F");
    let publish = ["rules", "publish", rules.to_str().unwrap(), "--minor", "--effective"];
    gateway.text(&[&publish[..], &[today.trim()]].concat());
    customer(&lab, &gateway, EMAIL);

    let dir = lab.dir().join("pages");
    fs::create_dir(&dir).unwrap();
    let shown = pages(&lab, &gateway, &server);
    for (number, page) in shown.iter().enumerate() {
        assert!(page.body.starts_with("<!doctype html>\n<html lang=\"en\">"), "{number}: {page:?}");
        assert!(
            page.body.contains("mailto:help@example.org"),
            "nobody to ask on page {number}: {page:?}"
        );
        assert!(
            !page.body.contains('{'),
            "a value is missing in a text of page {number}: {page:?}"
        );
        fs::write(dir.join(format!("{number}.html")), &page.body).unwrap();
    }
    let mut anybody = visitor(&lab, &gateway);
    for name in ["style.css", "icon.svg"] {
        fs::write(dir.join(name), anybody.get(&format!("/assets/{name}")).body).unwrap();
    }
    let wrong = wrong_in(&dir);
    assert_eq!(wrong, "", "{wrong}");

    // It does find what is wrong.
    fs::write(dir.join("0.html"), shown[0].body.replace("<h1>", "<h1><p>")).unwrap();
    assert!(wrong_in(&dir).contains("0.html"), "the checker finds nothing");
}
