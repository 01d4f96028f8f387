//! A visitor of the customer site, without a browser: says over TLS whatever a test wants said.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::Namespace;

/// Where the site is unless told otherwise.
pub const SITE: &str = "127.0.0.1:8443";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection over TLS.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Somebody at a site, with the cookie that they were given.
pub struct Visitor<'lab> {
    namespace: &'lab Namespace,
    address: SocketAddr,
    source: Option<IpAddr>,
    tls: Arc<ClientConfig>,
    /// The cookie's name and value.
    pub cookie: Option<String>,
}

/// What a site answered.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// All headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Page {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the page's forms carry.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn token(&self) -> String {
        let (_, rest) =
            self.body.split_once("name=\"token\" value=\"").expect("a form with a token");
        rest.split('"').next().unwrap_or_default().to_owned()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let page = Self { status, headers, body: String::new() };
        let body = match page.header("transfer-encoding") {
            Some("chunked") => &joined(body)?,
            _ => body,
        };
        Some(Self { body: String::from_utf8_lossy(body).into_owned(), ..page })
    }
}

impl<'lab> Visitor<'lab> {
    /// Somebody at [`SITE`] in `namespace`, who trusts the certificate in `path` alone.
    ///
    /// # Panics
    /// If there is no certificate.
    #[must_use]
    pub fn new(namespace: &'lab Namespace, path: &Path) -> Self {
        Self::at(SITE.parse().expect("an address"), namespace, path)
    }

    /// The same at another address.
    ///
    /// # Panics
    /// If there is no certificate.
    #[must_use]
    pub fn at(address: SocketAddr, namespace: &'lab Namespace, path: &Path) -> Self {
        let pem = fs::read(path).expect("the site's certificate");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
            roots.add(certificate).expect("a certificate that can be trusted");
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { namespace, address, source: None, tls: Arc::new(tls), cookie: None }
    }

    /// The same, coming from this address of the host.
    #[must_use]
    pub fn coming_from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// How connections over TLS are made.
    #[must_use]
    pub fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Opens a TCP connection.
    ///
    /// # Panics
    /// If there is no site.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let (source, address) = (self.source, self.address);
        let stream = self.namespace.within(move || match source {
            Some(source) => dial(source, address),
            None => TcpStream::connect(address),
        });
        let stream = stream.expect("a site");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    /// Opens a connection over TLS.
    ///
    /// # Errors
    /// If the site's certificate is not the trusted one, or it does not answer.
    pub fn connect_tls(&self) -> std::io::Result<Connection> {
        let name = ServerName::from(self.address.ip());
        let mut connection = ClientConnection::new(Arc::clone(&self.tls), name).expect("a client");
        let mut stream = self.connect();
        connection.complete_io(&mut stream)?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// Sends bytes as they are and reads all that comes back; nothing if the site says nothing.
    pub fn say(&self, bytes: &[u8]) -> Option<Page> {
        let mut connection = self.connect_tls().ok()?;
        let _ = connection.write_all(bytes);
        let mut answer = Vec::new();
        // Whoever is cut off gets no close_notify.
        let _ = connection.read_to_end(&mut answer);
        Page::parse(&answer)
    }

    /// Asks for a page.
    ///
    /// # Panics
    /// If nothing is answered.
    pub fn get(&mut self, path: &str) -> Page {
        self.request("GET", path, &[], "")
    }

    /// Sends a form from a page of the site.
    ///
    /// # Panics
    /// If nothing is answered.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.post_with(path, &[("Sec-Fetch-Site", "same-origin")], fields)
    }

    /// Sends a form of the page at `from`, with what its forms carry.
    ///
    /// # Panics
    /// If nothing is answered, or the page has no form.
    pub fn submit(&mut self, from: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self.get(from).token();
        self.post(path, &[&[("token", token.as_str())], fields].concat())
    }

    /// Sends a form with other headers.
    ///
    /// # Panics
    /// If nothing is answered.
    pub fn post_with(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
    ) -> Page {
        let fields = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let body = fields.collect::<Vec<_>>().join("&");
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        self.request("POST", path, &[&form, headers].concat(), &body)
    }

    /// Sends a request, and keeps the cookie that is set.
    ///
    /// # Panics
    /// If nothing is answered.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Page {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        text.push_str("Connection: close\r\n");
        let cookie = self.cookie.as_deref().map(|cookie| ("Cookie", cookie));
        for (name, value) in headers.iter().copied().chain(cookie) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let page = self.say(format!("{text}\r\n{body}").as_bytes());
        let page = page.unwrap_or_else(|| panic!("{method} {path} was not answered"));
        if let Some(cookie) = page.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        page
    }

    /// Logs in.
    pub fn log_in(&mut self, email: &str, password: &str) -> Page {
        self.post("/log-in", &[("email", email), ("password", password)])
    }
}

/// Connects from this address of the host.
///
/// # Errors
/// If nobody listens, or the address is another host's.
pub fn dial(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// What a body in chunks says; nothing if its end is missing.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = memchr::memmem::find(rest, b"\r\n")?;
        let length = std::str::from_utf8(&rest[..line]).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        let chunk = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend(chunk.get(..length)?);
        rest = chunk.get(length + 2..)?;
    }
}

/// A value as it stands in a form.
fn encoded(value: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encode = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    value.bytes().map(encode).collect()
}
