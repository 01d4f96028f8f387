//! Who letters are from, and the server that takes them: settings, checked once.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use lettre::{
    message::Mailbox,
    transport::smtp::client::{Certificate, CertificateStore, TlsParameters, TlsVersion},
};
use serde::{Deserialize, Serialize};

use super::Credentials;
use crate::{EmailAddress, printable::is_printable};

/// Longest name of a sender, and longest contact address, in characters.
const MAX_LEN: usize = 200;

/// The address that letters are from, as in `VPN <vpn@example.org>`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sender(Mailbox);

/// A text that no letter can be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sender is an e-mail address, or a name with one, as in `VPN <vpn@example.org>`")]
pub struct SenderError;

impl FromStr for Sender {
    type Err = SenderError;

    fn from_str(text: &str) -> Result<Self, SenderError> {
        let (name, address) =
            match text.trim().strip_suffix('>').and_then(|text| text.split_once('<')) {
                Some((name, address)) => (name.trim().trim_matches('"').trim(), address),
                None => ("", text.trim()),
            };
        let is_name =
            name.len() <= MAX_LEN && name.chars().all(|c| is_printable(c) && !"<>\"\\".contains(c));
        // The stricter of two readers: no line end or second address gets into a letter's head.
        let address = EmailAddress::parse(address).ok().filter(|_| is_name).ok_or(SenderError)?;
        let address = address.expose().parse().map_err(|_| SenderError)?;
        Ok(Self(Mailbox::new((!name.is_empty()).then(|| name.to_owned()), address)))
    }
}

impl Sender {
    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.0
    }

    pub(super) fn domain(&self) -> &str {
        self.0.email.domain()
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where customers may ask (clause 12): an e-mail address or a page.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Contact(String);

/// A text at which nobody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a contact is an e-mail address, or a page as in https://example.org/contact")]
pub struct ContactError;

impl FromStr for Contact {
    type Err = ContactError;

    fn from_str(text: &str) -> Result<Self, ContactError> {
        let is_page = is_https(text);
        if !is_page && EmailAddress::parse(text).is_err() {
            return Err(ContactError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Contact {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where customers find the site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteUrl(String);

/// A text that is no site's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a site's address begins with https:// and has no blanks, as in https://vpn.example.org")]
pub struct SiteUrlError;

impl FromStr for SiteUrl {
    type Err = SiteUrlError;

    fn from_str(text: &str) -> Result<Self, SiteUrlError> {
        if !is_https(text) || text.contains(['?', '#', '@']) {
            return Err(SiteUrlError);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl SiteUrl {
    /// The address of a page of the site.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    /// The host that it names, with brackets around an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.0.strip_prefix("https://").unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// Where a version of the rules can be read.
    #[must_use]
    pub fn rules(&self, version: i64) -> String {
        self.page(&format!("rules/{version}"))
    }
}

/// Lets a setting be read from text and written as text.
macro_rules! as_text {
    ($($type:ty, $error:ty, $text:expr;)*) => {
        $(
            impl TryFrom<String> for $type {
                type Error = $error;

                fn try_from(text: String) -> Result<Self, $error> {
                    text.parse()
                }
            }

            impl From<$type> for String {
                fn from(value: $type) -> Self {
                    $text(value)
                }
            }
        )*
    };
}

as_text! {
    Sender, SenderError, |sender: Sender| sender.to_string();
    Contact, ContactError, |contact: Contact| contact.0;
    SiteUrl, SiteUrlError, |site: SiteUrl| site.0;
}

fn is_https(text: &str) -> bool {
    let host = text.strip_prefix("https://");
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"'<>\\`{}|^".contains(c);
    text.len() <= MAX_LEN
        && text.chars().all(is_plain)
        && host
            .is_some_and(|host| host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
}

/// How the way to the mail server is protected.
#[derive(Clone)]
pub enum Security {
    /// Not at all: for a server on this machine.
    None,
    /// By TLS from the first byte.
    Tls(TlsParameters),
    /// By TLS after `STARTTLS`, without which nothing is sent.
    StartTls(TlsParameters),
}

/// Whose signature makes a server's certificate good.
#[derive(Clone, Debug)]
pub enum TlsTrust {
    /// That of whom the system trusts.
    System,
    /// That of this certificate alone, in PEM.
    Certificate(Vec<u8>),
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file has none.
    #[error("`mail-ca` is no certificate in PEM")]
    Certificate,
    /// The system's cannot be read, or the name is none.
    #[error(
        "TLS to the mail server cannot be prepared; is its name right, and the package ca-certificates installed?"
    )]
    Prepare,
}

impl Security {
    /// TLS from the first byte, with a server of this name.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn tls(host: &str, trust: TlsTrust) -> Result<Self, TlsError> {
        parameters(host, trust).map(Self::Tls)
    }

    /// TLS after `STARTTLS`, with a server of this name.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn starttls(host: &str, trust: TlsTrust) -> Result<Self, TlsError> {
        parameters(host, trust).map(Self::StartTls)
    }
}

/// How a certificate begins.
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Reads what it takes once: who has the parameters needs no file to connect.
fn parameters(host: &str, trust: TlsTrust) -> Result<TlsParameters, TlsError> {
    let host = host.trim_matches(['[', ']']).to_owned();
    let builder = TlsParameters::builder(host).set_min_tls_version(TlsVersion::Tlsv12);
    let builder = match trust {
        TlsTrust::System => builder,
        TlsTrust::Certificate(pem) => {
            // The library takes a file without any for one that is empty.
            let marks = pem.windows(PEM_BEGIN.len()).filter(|window| *window == PEM_BEGIN);
            let certificate = Certificate::from_pem(&pem).ok().filter(|_| marks.count() > 0);
            let certificate = certificate.ok_or(TlsError::Certificate)?;
            builder.certificate_store(CertificateStore::None).add_root_certificate(certificate)
        }
    };
    builder.build_rustls().map_err(|_| TlsError::Prepare)
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Tls(_) => "Tls",
            Self::StartTls(_) => "StartTls",
        })
    }
}

/// All that it takes to send letters.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Where the server listens; each is tried in turn.
    pub servers: Vec<SocketAddr>,
    /// How the way there is protected.
    pub security: Security,
    /// Who the gateway is to the server, if that asks.
    pub credentials: Option<Credentials>,
    /// Who letters are from.
    pub sender: Sender,
    /// Where customers may ask.
    pub contact: Contact,
    /// Where the rules can be read.
    pub site: SiteUrl,
    /// The least time from one letter to the next.
    pub pace: Duration,
    /// How long the server may take for an answer.
    pub patience: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let trust = TlsTrust::Certificate(b"none".to_vec());
        assert!(Security::tls("mail.example.org", trust).is_err());
    }

    #[test]
    fn sender_is_an_address_with_or_without_a_name() {
        for (text, shown) in [
            ("vpn@example.org", "vpn@example.org"),
            ("The VPN <vpn@example.org>", "The VPN <vpn@example.org>"),
            ("\"VPN\" <vpn@example.org>", "VPN <vpn@example.org>"),
        ] {
            assert_eq!(text.parse::<Sender>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn clause_8_nothing_gets_into_a_letters_head_by_a_setting() {
        for text in [
            "",
            "vpn",
            "vpn@example.org\r\nBcc: x@example.org",
            "VPN\r\nBcc: x@example.org <vpn@example.org>",
            "VPN <vpn@example.org> <x@example.org>",
            "vpn@example.org, x@example.org",
            "V\u{202e}PN <vpn@example.org>",
        ] {
            assert!(text.parse::<Sender>().is_err(), "{text:?}");
        }
        for text in [
            "",
            "ask us",
            "http://example.org",
            "https://",
            "https://a b",
            "https://x\r\ny",
            "javascript:x",
        ] {
            assert!(text.parse::<Contact>().is_err(), "{text:?}");
            assert!(text.parse::<SiteUrl>().is_err(), "{text:?}");
        }
        for text in ["https://u@example.org", "https://example.org/?a", "help@example.org"] {
            assert!(text.parse::<SiteUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn page_of_the_site_has_one_slash() {
        let site: SiteUrl = "https://vpn.example.org:8443/".parse().unwrap();
        assert_eq!(site.rules(3), "https://vpn.example.org:8443/rules/3");
    }
}
