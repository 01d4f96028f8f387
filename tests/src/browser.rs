//! A real browser (Debian's Chromium without a screen), told what to do by WebDriver. The protocol is JSON over HTTP;
//! the crates for it bring second versions of much that is here.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Namespace,
    clock::{wait_for, wait_until},
};

/// How long the driver may take to listen, and the browser for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser; it is closed when dropped.
pub struct Browser<'lab> {
    namespace: &'lab Namespace,
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl<'lab> Browser<'lab> {
    /// Opens a browser in `namespace` with the profile in `profile_dir`. It takes any certificate.
    ///
    /// # Panics
    /// If Debian's chromium-driver is not installed or does not start.
    #[must_use]
    pub fn open(namespace: &'lab Namespace, profile_dir: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = namespace.within(free).expect("a free port");
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", address.port())).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = namespace.start(&mut command).expect("Debian's chromium-driver");
        let mut browser = Self { namespace, driver, address, session: String::new() };
        wait_until("the browser's driver", PATIENCE, || {
            browser.ask("GET", "/status", &Value::Null).is_ok_and(|status| status["ready"] == true)
        });
        let profile = format!("--user-data-dir={}", profile_dir.display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
        }}});
        let session = browser.ask("POST", "/session", &wanted).expect("a browser");
        browser.session =
            format!("/session/{}", session["sessionId"].as_str().expect("a session's name"));
        browser
    }

    /// Goes to a page.
    ///
    /// # Panics
    /// If there is none.
    pub fn go(&self, url: &str) {
        self.tell("/url", &json!({ "url": url }));
    }

    /// The path of the present page.
    ///
    /// # Panics
    /// If the browser does not say.
    #[must_use]
    pub fn path(&self) -> String {
        self.run("return location.pathname + location.search").as_str().expect("a path").to_owned()
    }

    /// Runs a script in the page and returns what it returns.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, script: &str) -> Value {
        self.tell("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script in the page and returns what it says to its last argument, a function, once it is done.
    ///
    /// # Panics
    /// If it fails or takes too long.
    pub fn run_until_done(&self, script: &str) -> Value {
        self.tell("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Presses what a selector finds.
    ///
    /// # Panics
    /// If it finds nothing that can be pressed.
    pub fn press(&self, selector: &str) {
        let element = self.find(selector);
        self.tell(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into what a selector finds.
    ///
    /// # Panics
    /// If it finds nothing that can be typed into.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.tell(&format!("/element/{element}/clear"), &json!({}));
        self.tell(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses a key where the focus is; WebDriver names those without a letter by private characters.
    pub fn key(&self, key: char) {
        let strokes = ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key }));
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.tell("/actions", &json!({ "actions": [keyboard] }));
    }

    /// The text that shows in what a selector finds.
    ///
    /// # Panics
    /// If it finds nothing.
    #[must_use]
    pub fn text(&self, selector: &str) -> String {
        let element = self.find(selector);
        let text =
            self.ask("GET", &format!("{}/element/{element}/text", self.session), &Value::Null);
        text.expect("a text").as_str().expect("a text").to_owned()
    }

    /// Waits until the page shows a text.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_for_text(&self, text: &str) {
        let script = json!({ "script": "return document.body.innerText", "args": [] });
        let path = format!("{}/execute/sync", self.session);
        // There is none while the browser goes from one page to another.
        let body = || self.ask("POST", &path, &script).ok();
        let shows = || body().is_some_and(|body| body.as_str().unwrap_or_default().contains(text));
        let shown = wait_for(PATIENCE, || shows().then_some(()));
        assert!(shown.is_some(), "{text:?} does not show: {:?}", body());
    }

    /// Gives the window a size, and the pages a scheme: `light` or `dark`.
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Writes a picture of the whole page, so many times as large.
    ///
    /// # Panics
    /// If it cannot be taken or written.
    pub fn picture(&self, path: &Path, scale: u32) {
        let size = self.devtools("Page.getLayoutMetrics", &json!({}))["cssContentSize"].take();
        let clip = json!({
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": scale,
        });
        let wanted = json!({"captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", &wanted);
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture"));
        fs::write(path, bytes.expect("base64")).expect("a place for the picture");
    }

    /// All cookies of the present page.
    ///
    /// # Panics
    /// If the browser does not say.
    #[must_use]
    pub fn cookies(&self) -> Vec<Value> {
        let cookies = self.ask("GET", &format!("{}/cookie", self.session), &Value::Null);
        cookies.expect("cookies").as_array().expect("a list").clone()
    }

    /// Closes the browser as its user does.
    pub fn close(self) {
        let _ = self.ask("DELETE", &self.session, &Value::Null);
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.tell("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn find(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let path = format!("{}/element", self.session);
        let found = wait_for(PATIENCE, || self.ask("POST", &path, &wanted).ok());
        let element = found.unwrap_or_else(|| panic!("{selector} is not there: {}", self.path()));
        element[ELEMENT].as_str().expect("an element").to_owned()
    }

    fn tell(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", &format!("{}{path}", self.session), body);
        let begin = || body.to_string().chars().take(200).collect::<String>();
        answer.unwrap_or_else(|error| panic!("{path} {}: {error}", begin()))
    }

    /// Asks the driver.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let address = self.address;
        let mut stream = self
            .namespace
            .within(move || TcpStream::connect(address))
            .map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let answer = read(&mut stream).ok_or("no answer")?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        if value["error"].is_null() { Ok(value) } else { Err(value["message"].to_string()) }
    }
}

/// The body of an answer, which says how long it is.
fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
            if body.len() >= length.trim().parse().ok()? {
                return Some(body.to_owned());
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend(&buffer[..count]),
        }
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.driver);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.driver.wait();
    }
}
