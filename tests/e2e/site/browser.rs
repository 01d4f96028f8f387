//! The site in a real browser: making keys there, what is sent, what stays, and how the pages look.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tacit_tests::{
    Client, Gateway, Implementation, Lab, MailServer, axe, browser::Browser, clock::wait_until,
    config::Config, lab::TARGET_V4, target::WEB_PORT, transfer::connects,
};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::{EMAIL, PASSWORD, letter, link, pictures, start, visitor};

/// The address that the customer has later.
pub(super) const NEW_EMAIL: &str = "ann.else@example.org";

/// What a proxy between browser and site read after TLS.
type Wire = Arc<Mutex<Vec<u8>>>;

/// Starts a proxy in the gateway's network that ends the browser's TLS, keeps what the browser says, and passes it on.
fn proxy(lab: &Lab, gateway: &Gateway<'_>) -> (String, Wire) {
    let pem = fs::read(gateway.data_dir().join("site.pem")).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let connector = TlsConnector::from(visitor(lab, gateway).tls());
    let listener = lab.gateway.within(|| std::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let wire = Wire::default();
    let seen = Arc::clone(&wire);
    lab.gateway.background(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                tokio::spawn(pass_on(stream, acceptor, connector, Arc::clone(&seen)));
            }
        });
    });
    (url, wire)
}

async fn pass_on(
    stream: tokio::net::TcpStream,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    seen: Wire,
) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (mut from, mut to) = tokio::io::split(acceptor.accept(stream).await?);
    let site = tokio::net::TcpStream::connect(tacit_tests::visitor::SITE).await?;
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let (mut answers, mut site) = tokio::io::split(connector.connect(name, site).await?);
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut answers, &mut to).await;
        let _ = to.shutdown().await;
    });
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return site.shutdown().await;
        }
        seen.lock().unwrap().extend(&buffer[..count]);
        site.write_all(&buffer[..count]).await?;
        site.flush().await?;
    }
}

fn register(browser: &Browser<'_>, url: &str, server: &MailServer<'_>) {
    browser.go(&format!("{url}/register"));
    browser.fill("#email", EMAIL);
    browser.fill("#password", PASSWORD);
    browser.fill("#again", PASSWORD);
    browser.press("input[value=of-age]");
    browser.press("input[name=rules]");
    browser.press("main button");
    browser.wait_for_text("A letter is on its way");
    pictures::take(browser, "letter-sent");
    browser.go(&format!("{url}{}", link(&letter(server, EMAIL, 1))));
    pictures::take(browser, "confirm");
    browser.press("main button");
    browser.wait_for_text("Your account is there");
    pictures::take(browser, "confirmed");
}

fn log_in(browser: &Browser<'_>, url: &str) {
    browser.go(&format!("{url}/log-in"));
    browser.fill("#email", EMAIL);
    browser.fill("#password", "another-password");
    browser.press("main button");
    browser.wait_for_text("is wrong");
    pictures::take(browser, "log-in-wrong");
    browser.fill("#email", EMAIL);
    browser.fill("#password", PASSWORD);
    browser.press("main button");
    browser.wait_for_text("Your account");
}

/// The forms in which a key could be sent.
fn forms_of(key: &[u8; 32]) -> Vec<Vec<u8>> {
    let base64 = STANDARD.encode(key);
    let bare = base64.trim_end_matches('=');
    let url_safe = bare.replace('+', "-").replace('/', "_");
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent = bare.replace('+', "%2B").replace('/', "%2F");
    [bare, &url_safe, &hex, &percent]
        .into_iter()
        .map(|form| form.as_bytes().to_vec())
        .chain([key.to_vec()])
        .collect()
}

#[test]
fn device_connects_with_a_key_that_never_left_the_browser() {
    let lab = Lab::new(1);
    let (gateway, server) = start(&lab, &[]);
    let (url, wire) = proxy(&lab, &gateway);
    let profile = lab.dir().join("profile");
    let browser = Browser::open(&lab.gateway, &profile);
    register(&browser, &url, &server);
    gateway.text(&["account", "grant", EMAIL, "--days", "30"]);
    log_in(&browser, &url);

    browser.go(&format!("{url}/devices"));
    browser.fill("#name", "Ann's phone");
    browser.press("#make-keys");
    browser.wait_for_text("Your config");
    let text = browser.text("#config");
    let config = Config::parse(&text);
    let public = gateway.json(&["device", "list", EMAIL])[0]["public_key"].clone();
    let secret = x25519_dalek::StaticSecret::from(config.private_key);
    let made = STANDARD.encode(x25519_dalek::PublicKey::from(&secret).as_bytes());
    assert_eq!(public, made.as_str());
    assert_eq!(browser.run("return document.querySelector('#save').download"), "Ann-s-phone.conf");
    let file = "return document.querySelector('#save').href.startsWith('blob:')";
    assert_eq!(browser.run(file), true);
    let drawn = lab.dir().join("qr.png");
    browser.look(500, 900, "light");
    browser.picture(&drawn, 3);
    assert_eq!(read_qr(&drawn).trim_end(), text.trim_end());
    pictures::take(&browser, "devices-config");

    // The key is public in the request, and private nowhere.
    let is_sent = |form: &[u8]| memchr::memmem::find(&wire.lock().unwrap(), form).is_some();
    let public_forms = forms_of(x25519_dalek::PublicKey::from(&secret).as_bytes());
    assert!(public_forms.iter().any(|form| is_sent(form)), "the proxy saw nothing");
    let is_key_sent = || forms_of(&config.private_key).iter().any(|form| is_sent(form));
    assert!(!is_key_sent(), "the key was sent");

    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    assert!(load(&lab).starts_with("HTTP/1."), "no page comes through the tunnel");
    gateway.wait_for_sessions(EMAIL, 1);
    browser.go(&format!("{url}/records"));
    browser.wait_for_text("192.0.2.2");
    browser.go(&format!("{url}/devices"));
    browser.wait_for_text("Connected now");
    change_email(&browser, &url, &server);
    pictures::take_all(&lab, &gateway, &browser, &url);
    browser.go(&format!("{url}/account"));
    browser.press("details:last-of-type summary");
    browser.fill("#cancel-password", PASSWORD);
    browser.press("input[name=sure]");
    browser.press("button.danger");
    browser.wait_for_text("Your account is cancelled");
    wait_until("the end of the session", Duration::from_secs(2), || {
        !gateway.json(&["session", "list", "1"])[0]["ended_at"].is_null()
    });
    assert!(!connects(client.namespace, TARGET_V4.into()), "a cancelled customer's client goes on");
    pictures::take(&browser, "cancelled");
    // Nor was it by anything that was done since.
    assert!(is_sent(b"/account/cancel"), "the proxy saw no more");
    assert!(!is_key_sent(), "the key was sent later");
}

/// Changes the address to [`NEW_EMAIL`], and follows the link in the letter to it.
fn change_email(browser: &Browser<'_>, url: &str, server: &MailServer<'_>) {
    browser.go(&format!("{url}/account"));
    browser.press("details summary");
    browser.fill("#email", NEW_EMAIL);
    browser.fill("#email-password", PASSWORD);
    browser.press("details[open] button");
    browser.wait_for_text("A letter is on its way to the new address");
    browser.go(&format!("{url}{}", link(&letter(server, NEW_EMAIL, 1))));
    browser.press("main button");
    browser.wait_for_text("Your address is changed");
    pictures::take(browser, "address-changed");
    browser.go(&format!("{url}/account"));
    browser.wait_for_text(NEW_EMAIL);
}

/// Loads a page through the client's tunnel.
fn load(lab: &Lab) -> String {
    lab.clients[0].within(|| {
        let mut stream = std::net::TcpStream::connect((TARGET_V4, WEB_PORT)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
}

/// What the QR code in a picture says.
fn read_qr(picture: &Path) -> String {
    let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(picture).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let samples = info.color_type.samples();
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        pixels[(y * width + x) * samples]
    });
    let grids = image.detect_grids();
    grids.first().expect("a QR code in the picture").decode().unwrap().1
}

/// Counts what the page sends from now on.
const COUNT_SENT: &str = "
window.sent = 0;
const real = window.fetch;
window.fetch = (...what) => { window.sent += 1; return real(...what); };";

/// Presses Enter in the field with the name as often as somebody who is in a hurry, or leaves it down.
const HURRY: &str = "
const press = (repeat) => document.querySelector('#name').dispatchEvent(
    new KeyboardEvent('keydown', { key: 'Enter', repeat, bubbles: true, cancelable: true }));
for (const repeat of [false, false, true]) press(repeat);";

#[test]
fn keys_are_made_once_however_often_enter_is_pressed_and_copying_says_how_it_went() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    super::customer(&lab, &gateway, EMAIL);
    let browser = Browser::open(&lab.gateway, &lab.dir().join("profile"));
    let url = format!("https://{}", tacit_tests::visitor::SITE);
    log_in(&browser, &url);
    browser.go(&format!("{url}/devices"));
    browser.wait_for_text("Make keys in this browser");
    browser.run(COUNT_SENT);
    browser.fill("#name", "phone");
    browser.run(HURRY);
    browser.wait_for_text("Your config");
    assert_eq!(browser.run("return window.sent"), 1);

    browser.press("#copy");
    browser.wait_for_text("Copied.");
    browser.run(
        "navigator.clipboard.writeText = () => Promise.reject(new DOMException('not allowed'));",
    );
    browser.press("#copy");
    browser.wait_for_text("Mark the text below");

    // A key that is refused stays in sight.
    browser.go(&format!("{url}/devices"));
    browser.wait_for_text("Make keys in this browser");
    browser.run("document.querySelector('#paste').open = true");
    browser.fill("#add-device #name", "phone");
    browser.fill("#public-key", super::NOBODYS_KEY);
    browser.press("#paste button");
    browser.wait_for_text("a device of this name already");
    browser.wait_for_text("Make keys in this browser");
    let shown = "const key = document.querySelector('#public-key'); return key.checkVisibility() && key.value";
    assert_eq!(browser.run(shown), super::NOBODYS_KEY);
}

#[test]
fn what_is_wrong_with_a_page_is_found() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let browser = Browser::open(&lab.gateway, &lab.dir().join("profile"));
    browser.go(&format!("https://{}/log-in", tacit_tests::visitor::SITE));
    assert_eq!(axe::violations(&browser), Vec::<String>::new());
    browser.run("document.querySelector('label').remove()");
    browser.run("document.querySelector('main button').style.color = 'rgb(30, 130, 110)'");
    let found = axe::violations(&browser).join("\n");
    assert!(found.contains("label: ") && found.contains("color-contrast: "), "{found}");
    drop(gateway);
}

/// Numbers everything on the page that the keyboard should reach, in reading order, and returns how much that is.
const NUMBER: &str = "
let count = 0;
for (const part of document.querySelectorAll('a, button, input, select, summary, [tabindex=\"0\"]')) {
    if (part.checkVisibility() && part.type !== 'hidden') part.dataset.place = count++;
}
return count;";

/// The number of what has the focus, and whether that shows.
const FOCUS: &str = "
const part = document.activeElement;
return [Number(part.dataset.place), getComputedStyle(part).outlineStyle !== 'none'];";

#[test]
fn keyboard_reaches_everything_in_reading_order_and_shows_where_it_is() {
    const TAB: char = '\u{e004}';
    const ENTER: char = '\u{e007}';
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    super::customer(&lab, &gateway, EMAIL);
    let browser = Browser::open(&lab.gateway, &lab.dir().join("profile"));
    let url = format!("https://{}", tacit_tests::visitor::SITE);
    log_in(&browser, &url);
    for path in ["/", "/account", "/devices"] {
        browser.go(&format!("{url}{path}"));
        if path == "/devices" {
            browser.wait_for_text("Make keys in this browser");
        }
        let count = browser.run(NUMBER).as_u64().unwrap();
        assert!(count > 8, "{path} has {count}");
        for place in 0..count {
            browser.key(TAB);
            assert_eq!(browser.run(FOCUS), serde_json::json!([place, true]), "{path}");
        }
    }
    // The first of all leads past the menu, and unfolding, filling in and sending takes no mouse either.
    browser.go(&format!("{url}/account"));
    browser.key(TAB);
    browser.key(ENTER);
    assert_eq!(browser.run("return location.hash"), "#main");
    browser.run("document.querySelector('details summary').focus()");
    browser.key(ENTER);
    assert_eq!(browser.run("return document.querySelector('details').open"), true);
}

#[test]
fn clause_6_browser_keeps_nothing_when_it_closes() {
    let lab = Lab::new(0);
    let (gateway, _server) = start(&lab, &[]);
    super::customer(&lab, &gateway, EMAIL);
    let profile = lab.dir().join("profile");
    let url = format!("https://{}", tacit_tests::visitor::SITE);
    let browser = Browser::open(&lab.gateway, &profile);
    log_in(&browser, &url);
    let cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert!(cookies[0]["expiry"].is_null(), "{cookies:?}");
    let storage = "return [localStorage.length, sessionStorage.length, document.cookie]";
    assert_eq!(browser.run(storage), serde_json::json!([0, 0, ""]));
    browser.close();

    let browser = Browser::open(&lab.gateway, &profile);
    browser.go(&format!("{url}/account"));
    assert_eq!(browser.path(), "/log-in");
    assert_eq!(browser.cookies().len(), 0);
    assert_eq!(browser.run(storage), serde_json::json!([0, 0, ""]));
    browser.close();
}
