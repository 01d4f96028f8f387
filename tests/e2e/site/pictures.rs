//! How the pages look, for people to see: pictures of all of them, on a telephone and on a desk, light and dark.

use std::fs;

use tacit_tests::{Gateway, Lab, axe, browser::Browser, gateway::target_dir};

use super::{NOBODYS_KEY, OPEN, PASSWORD, PERSONAL, browser::NEW_EMAIL, visitor};

/// Name, width and height of what the pages are shown on.
const SCREENS: [(&str, u32, u32); 2] = [("phone", 390, 844), ("desktop", 1280, 900)];

/// Opens what is folded up.
const UNFOLD: &str = "for (const part of document.querySelectorAll('details')) part.open = true";

/// Takes pictures of the page that shows, and asserts that nothing of it is cut off and that axe finds nothing wrong,
/// also in what is folded up.
pub(super) fn take(browser: &Browser<'_>, name: &str) {
    let dir = target_dir().join("site-shots");
    fs::create_dir_all(&dir).unwrap();
    for (screen, width, height) in SCREENS {
        for scheme in ["light", "dark"] {
            browser.look(width, height, scheme);
            let wide = browser.run("return document.documentElement.scrollWidth > innerWidth");
            assert_eq!(wide, false, "{name} is wider than a {screen}");
            browser.picture(&dir.join(format!("{name}-{screen}-{scheme}.png")), 1);
        }
    }
    browser.run(UNFOLD);
    for (screen, width, height) in SCREENS {
        for scheme in ["light", "dark"] {
            browser.look(width, height, scheme);
            let violations = axe::violations(browser);
            assert!(violations.is_empty(), "{name} on a {screen}, {scheme}: {violations:#?}");
        }
    }
}

/// Takes pictures of every page that an address leads to, as its customer sees them, with something in every list.
pub(super) fn take_all(lab: &Lab, gateway: &Gateway<'_>, browser: &Browser<'_>, url: &str) {
    browser.go(url);
    take(browser, "home-not-audited");
    fill(lab, gateway);
    // It is another page's other address.
    let pages = [&OPEN[..], &PERSONAL, &["/rules/2"]].concat();
    for page in pages.into_iter().filter(|page| *page != "/rules/in-force") {
        browser.go(&format!("{url}{page}"));
        let name = page.trim_matches('/').replace('/', "-");
        take(browser, if name.is_empty() { "home" } else { &name });
    }
    for page in ["account", "devices", "rules/2"] {
        browser.go(&format!("{url}/{page}"));
        browser.run(UNFOLD);
        take(browser, &format!("{}-unfolded", page.replace('/', "-")));
    }
    browser.go(&format!("{url}/devices"));
    browser.run(UNFOLD);
    browser.fill("#add-device #name", "tablet");
    browser.fill("#public-key", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
    browser.press("#paste button");
    browser.wait_for_text("The config of tablet");
    take(browser, "device");
}

/// Has something in every list of the account, and the gateway audited.
pub(super) fn fill(lab: &Lab, gateway: &Gateway<'_>) {
    let mut ann = visitor(lab, gateway);
    assert_eq!(ann.log_in(NEW_EMAIL, PASSWORD).status, 303);
    let device = [
        ("name", "A laptop with a name as long as they may be, to see lines break"),
        ("public_key", NOBODYS_KEY),
    ];
    assert_eq!(ann.submit("/devices", "/devices", &device).status, 200);
    for recipient in ["District Court of Anytown", "A notary of Anytown"] {
        let consent = [("recipient", recipient), ("password", PASSWORD)];
        assert_eq!(ann.submit("/consents", "/consents", &consent).status, 303);
    }
    assert_eq!(ann.submit("/consents", "/consents/withdraw", &[("consent", "1")]).status, 303);
    gateway.text(&["account", "show", NEW_EMAIL]);
    let answer = lab.dir().join("answer.json");
    let make = ["disclosure", "make", NEW_EMAIL, "--output", answer.to_str().unwrap()];
    let why =
        ["--basis", "lawful-order", "--reference", "1 Gs 17/26", "--recipient", "Court of Anytown"];
    gateway.text(&[&make[..], &why].concat());
    let rules = lab.dir().join("rules.md");
    let text = gateway.text(&["rules", "show", "1"]).replacen("e-mail", "e-mail (and no other)", 1);
    fs::write(&rules, text).unwrap();
    let today = lab.gateway.sh("date -u +%F");
    let publish = ["rules", "publish", rules.to_str().unwrap(), "--minor", "--effective"];
    gateway.text(&[&publish[..], &[today.trim(), "--summary", "One word is clearer."]].concat());
    gateway.cli(&["audit"]);
}
