//! What Mozilla's Observatory looks at, as far as one machine can: each of its tests at its best outcome.

use std::collections::BTreeMap;

use tacit_tests::{Lab, visitor::Page};

use super::{EMAIL, PASSWORD, customer, start, visitor};

/// What a scanner sees.
struct Seen {
    home: Page,
    logged_in: Page,
    /// What is answered to a request of another site's script.
    foreign: Page,
    /// What is answered without TLS.
    plain: String,
}

impl Seen {
    fn policy(&self) -> BTreeMap<&str, Vec<&str>> {
        let text = self.home.header("content-security-policy").unwrap_or_default();
        let directives = text.split(';').map(|directive| {
            let mut words = directive.split_whitespace();
            (words.next().unwrap_or_default(), words.collect())
        });
        directives.collect()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.home.header(name) == Some(value)
    }

    /// All addresses that the page names in these attributes.
    fn loaded(&self) -> impl Iterator<Item = &str> {
        let parts = [" src=\"", "rel=\"stylesheet\" href=\"", "rel=\"icon\" href=\""];
        parts.into_iter().flat_map(move |part| self.home.body.split(part).skip(1))
    }
}

/// A test's name, and whether it passes.
type Test = (&'static str, fn(&Seen) -> bool);

/// The Observatory's tests, and the outcome that it gives the most points for.
const TESTS: [Test; 14] = [
    ("csp: default-src 'none'", |seen| seen.policy().get("default-src") == Some(&vec!["'none'"])),
    ("csp: nothing unsafe", |seen| {
        let mut words = seen.policy().into_values().flatten();
        words.all(|word| !word.contains("unsafe"))
    }),
    ("csp: no scheme and no wildcard", |seen| {
        let mut words = seen.policy().into_values().flatten();
        words.all(|word| !word.ends_with(':') && !word.contains('*'))
    }),
    ("csp: no header of reports only", |seen| {
        seen.home.header("content-security-policy-report-only").is_none()
    }),
    ("csp: base-uri, form-action and frame-ancestors", |seen| {
        let policy = seen.policy();
        policy.get("base-uri") == Some(&vec!["'none'"])
            && policy.get("form-action") == Some(&vec!["'self'"])
            && policy.get("frame-ancestors") == Some(&vec!["'none'"])
    }),
    ("cookies: Secure, HttpOnly, SameSite and a prefix", |seen| {
        let cookie = seen.logged_in.header("set-cookie").unwrap_or_default();
        let has = |attribute: &str| cookie.split("; ").any(|part| part == attribute);
        cookie.starts_with("__Host-") && has("Secure") && has("HttpOnly") && has("SameSite=Strict")
    }),
    ("cookies: none before log-in", |seen| seen.home.header("set-cookie").is_none()),
    ("cors: not for anybody", |seen| {
        seen.foreign.headers.iter().all(|(name, _)| !name.starts_with("access-control-"))
    }),
    ("redirection: to https on the same host", |seen| {
        seen.plain.contains(" 308 ")
            && seen.plain.contains("location: https://vpn.example.org/\r\n")
    }),
    ("referrer-policy: private", |seen| seen.is("referrer-policy", "no-referrer")),
    ("strict-transport-security: six months at least", |seen| {
        let text = seen.home.header("strict-transport-security").unwrap_or_default();
        let age = text.strip_prefix("max-age=").and_then(|age| age.parse::<u64>().ok());
        age.is_some_and(|age| age >= 15_768_000)
    }),
    ("subresource integrity: all of the same origin", |seen| {
        seen.loaded().count() >= 2 && seen.loaded().all(|address| address.starts_with("/assets/"))
    }),
    ("x-content-type-options: nosniff", |seen| seen.is("x-content-type-options", "nosniff")),
    ("x-frame-options and cross-origin-resource-policy", |seen| {
        seen.is("x-frame-options", "DENY") && seen.is("cross-origin-resource-policy", "same-origin")
    }),
];

#[test]
fn observatory_would_find_nothing_to_mend() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &["--site-redirect", "127.0.0.1:8080"]);
    customer(&lab, &gateway, EMAIL);
    let mut anybody = visitor(&lab, &gateway);
    let seen = Seen {
        home: anybody.get("/"),
        foreign: anybody.request("GET", "/", &[("Origin", "https://evil.example")], ""),
        logged_in: anybody.log_in(EMAIL, PASSWORD),
        plain: super::certificate::plainly(
            &lab,
            "127.0.0.1:8080",
            b"GET / HTTP/1.1\r\nHost: vpn.example.org\r\n\r\n",
        ),
    };
    let failed: Vec<&str> =
        TESTS.iter().filter(|(_, passes)| !passes(&seen)).map(|(name, _)| *name).collect();
    assert!(failed.is_empty(), "{failed:?}\n{:#?}", seen.home.headers);
}
