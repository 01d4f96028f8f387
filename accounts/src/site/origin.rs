//! Whether a form was sent from a page of this site.

use axum::http::{
    HeaderMap,
    header::{HOST, HeaderName, ORIGIN},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether what is sent comes from a page of this site, as the browser says. One that is too old to say so is refused.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(ORIGIN), text(HOST)) else { return false };
    origin.strip_prefix("https://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn form_of_this_site_is_own() {
        let host = (HOST, "vpn.example.org:8443");
        assert!(is_own(&headers(&[host.clone(), (SEC_FETCH_SITE, "same-origin")])));
        assert!(is_own(&headers(&[host, (ORIGIN, "https://VPN.example.org:8443")])));
    }

    #[test]
    fn form_of_elsewhere_or_nowhere_is_not() {
        let host = (HOST, "vpn.example.org");
        let own = (ORIGIN, "https://vpn.example.org");
        for site in ["cross-site", "same-site", "none", ""] {
            let said = [host.clone(), own.clone(), (SEC_FETCH_SITE, site)];
            assert!(!is_own(&headers(&said)), "{site}");
        }
        for origin in ["null", "http://vpn.example.org", "https://vpn.example.org.evil.example", ""]
        {
            assert!(!is_own(&headers(&[host.clone(), (ORIGIN, origin)])), "{origin}");
        }
        assert!(!is_own(&headers(&[host])));
        assert!(!is_own(&headers(&[own])));
    }
}
