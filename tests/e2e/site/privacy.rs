//! What the site keeps and lets browsers keep: nothing.

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use tacit_tests::{Gateway, Lab};

use super::{
    EMAIL, OPEN, PASSWORD, PERSONAL, browser::NEW_EMAIL, customer, flapping, logged_in, pictures,
    start, visitor,
};

#[test]
fn every_answer_says_that_nothing_else_is_loaded_and_nothing_kept() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    for path in [&OPEN[..], &PERSONAL, &["/records.json", "/assets/style.css"]].concat() {
        let page = ann.get(path);
        let header = |name| page.header(name).unwrap_or_else(|| panic!("{path} has no {name}"));
        let policy: BTreeMap<&str, &str> = header("content-security-policy")
            .split(';')
            .map(|directive| directive.trim().split_once(' ').unwrap())
            .collect();
        assert_eq!(policy["default-src"], "'none'");
        for kind in ["style-src", "script-src", "img-src", "connect-src", "form-action"] {
            assert_eq!(policy[kind], "'self'", "{path}");
        }
        assert_eq!((policy["frame-ancestors"], policy["base-uri"]), ("'none'", "'none'"));
        let age = header("strict-transport-security").strip_prefix("max-age=").unwrap();
        assert!(age.parse::<u32>().unwrap() >= 31_536_000);
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("permissions-policy").contains("camera=()"));
        let kept = if path.starts_with("/assets/") { "immutable" } else { "no-store" };
        assert!(header("cache-control").contains(kept), "{path}");
        assert_eq!(page.header("server"), None);
    }
}

/// A customer with all the devices and consents that there may be, more sessions than a page shows, and something in every list.
fn filled<'lab>(lab: &'lab Lab, gateway: &mut Gateway<'lab>) {
    customer(lab, gateway, NEW_EMAIL);
    for number in 1..5 {
        gateway.add_device(NEW_EMAIL, &format!("{number}{}", "m".repeat(62)));
    }
    pictures::fill(lab, gateway);
    let mut ann = logged_in(lab, gateway, NEW_EMAIL);
    // With those that are there already, all that somebody may give.
    for number in 3..=50 {
        let recipient = format!("Chamber of notaries of Anytown, 12 Long Street, room {number}");
        let consent = [("recipient", recipient.as_str()), ("password", PASSWORD)];
        assert_eq!(ann.submit("/consents", "/consents", &consent).status, 303);
    }
    for _ in 0..25 {
        gateway.text(&["account", "show", NEW_EMAIL]);
    }
    gateway.stop();
    flapping::flap(gateway, 1, 150);
    gateway.run();
}

/// What is bounded is what a page has of a customer, however much there is, and the files with it. Not bounded are the
/// rules: an operator's may be 128 KiB long, and the page of a version has its text and that of the one before. Here they are
/// those that the program brings along.
#[test]
fn pages_are_small_and_load_nothing_from_elsewhere() {
    let lab = Lab::new(0);
    let (mut gateway, _server) = start(&lab, &[]);
    filled(&lab, &mut gateway);
    let mut ann = logged_in(&lab, &gateway, NEW_EMAIL);
    let records = ann.get("/records").body;
    for (bounded, lists) in [("The latest 100 of 150.", 1), ("The latest 20 of ", 2)] {
        assert_eq!(records.matches(bounded).count(), lists, "{bounded}");
    }
    for path in [&OPEN[..], &PERSONAL, &["/rules/2"]].concat() {
        let page = ann.get(path);
        let mut size = page.body.len();
        for attribute in [" src=\"", "rel=\"stylesheet\" href=\"", "rel=\"icon\" href=\""] {
            for loaded in page.body.split(attribute).skip(1) {
                let address = loaded.split('"').next().unwrap();
                assert!(address.starts_with("/assets/"), "{path} loads {address}");
                let file = ann.get(address);
                assert_eq!(file.status, 200, "{address}");
                // All that a page needs is named in it, at most four files, so a browser asks for them all at once.
                for more in ["@import", "url(", "import(", "import ", "importScripts", "XMLHttp"] {
                    assert!(!file.body.contains(more), "{address} loads more: {more}");
                }
                size += file.body.len();
            }
        }
        assert!(size < 60_000, "{path} has {size} bytes in all");
        for inline in ["<style", "style=\"", " onclick", "javascript:", "<script>"] {
            assert!(!page.body.contains(inline), "{path} has {inline}");
        }
    }
}

#[test]
fn clause_6_cookie_is_of_the_visit_alone() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    let mut ann = visitor(&lab, &gateway);
    for path in OPEN {
        assert_eq!(ann.get(path).header("set-cookie"), None, "{path}");
    }
    let answer = ann.log_in(EMAIL, PASSWORD);
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-"), "{cookie}");
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");

    let left = ann.cookie.clone();
    let answer = ann.submit("/account", "/log-out", &[]);
    assert_eq!(answer.header("location"), Some("/"));
    assert_eq!(ann.cookie, None, "the cookie stays in the browser");
    ann.cookie = left;
    assert_eq!(ann.get("/account").header("location"), Some("/log-in"), "the visit goes on");

    // Visits are in memory alone.
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    assert_eq!(ann.get("/account").status, 200);
    gateway.stop();
    gateway.run();
    assert_eq!(ann.get("/account").header("location"), Some("/log-in"));
}

#[test]
fn visitors_leave_nothing_in_the_log_or_on_the_disk() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    customer(&lab, &gateway, EMAIL);
    let from = Ipv4Addr::new(127, 94, 203, 61);
    let mut ann = visitor(&lab, &gateway).coming_from(from.into());
    assert_eq!(ann.log_in(EMAIL, PASSWORD).status, 303);
    let cookie = ann.cookie.clone().unwrap();
    for path in [&OPEN[..], &PERSONAL, &["/a-page-that-there-is-not"]].concat() {
        ann.get(path);
    }
    ann.log_in("somebody-else@example.org", "wrong-password-of-ann");
    let value = cookie.split('=').nth(1).unwrap();
    let texts = ["a-page-that-there-is-not", "somebody-else", "wrong-password", value, "/log-in"];
    let address = from.to_string();
    let mut traces: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    let octets = from.octets();
    let reversed = [octets[3], octets[2], octets[1], octets[0]];
    traces.extend([address.as_bytes(), &octets, &reversed]);
    let control = gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    // What it has open, also of files that have no name, and then what stays.
    let mut searched = open_files(&lab, control);
    assert!(!searched.is_empty());
    gateway.stop();
    let files = fs::read_dir(gateway.data_dir()).unwrap();
    searched.extend(files.map(|file| fs::read(file.unwrap().path()).unwrap()));
    searched.push(gateway.log().into_bytes());
    for trace in traces {
        for bytes in &searched {
            let found = memchr::memmem::find(bytes, trace);
            assert_eq!(found, None, "{:?} is kept", String::from_utf8_lossy(trace));
        }
    }
}

/// All files that a process has open, memory-backed ones too.
fn open_files(lab: &Lab, pid: u64) -> Vec<Vec<u8>> {
    let descriptors = fs::read_dir(lab.gateway.path(&format!("/proc/{pid}/fd"))).unwrap();
    let paths = descriptors.map(|descriptor| descriptor.unwrap().path());
    let files = paths.filter(|path| fs::metadata(path).is_ok_and(|file| file.is_file()));
    files.map(|path| fs::read(path).unwrap()).collect()
}
