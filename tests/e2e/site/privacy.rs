//! What the site keeps and lets browsers keep: nothing.

use std::collections::BTreeMap;

use tacit_tests::{Gateway, Lab};

use super::{EMAIL, OPEN, PASSWORD, PERSONAL, customer, logged_in, start, visitor};

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

#[test]
fn pages_are_small_and_load_nothing_from_elsewhere() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    customer(&lab, &gateway, EMAIL);
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    for path in [&OPEN[..], &PERSONAL].concat() {
        let page = ann.get(path);
        let mut size = page.body.len();
        for attribute in [" src=\"", "rel=\"stylesheet\" href=\"", "rel=\"icon\" href=\""] {
            for loaded in page.body.split(attribute).skip(1) {
                let address = loaded.split('"').next().unwrap();
                assert!(address.starts_with("/assets/"), "{path} loads {address}");
                let file = ann.get(address);
                assert_eq!(file.status, 200, "{address}");
                // All that a page needs is named in it, so it comes in one more round trip.
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
    let mut ann = logged_in(&lab, &gateway, EMAIL);
    let cookie = ann.cookie.clone().unwrap();
    ann.get("/a-page-that-there-is-not");
    ann.log_in("somebody-else@example.org", "wrong-password-of-ann");
    gateway.stop();
    let log = gateway.log();
    let value = cookie.split('=').nth(1).unwrap();
    let traces = ["a-page-that-there-is-not", "somebody-else", "wrong-password", value, "/log-in"];
    for trace in traces {
        assert!(!log.contains(trace), "{trace} is in the log");
        for file in std::fs::read_dir(gateway.data_dir()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let found = memchr::memmem::find(&bytes, trace.as_bytes());
            assert_eq!(found, None, "{trace} is on the disk");
        }
    }
}
