//! The customer site of a real gateway, over HTTPS.

mod attacks;
mod audit;
mod browser;
mod certificate;
mod crowds;
mod flapping;
mod gateways;
mod headers;
mod journey;
mod markup;
mod pictures;
mod privacy;
mod records;
mod rules;
mod timing;
mod tunnel;

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use tacit_tests::{
    Gateway, Lab, MailServer, Visitor,
    clock::wait_for,
    gateway::program,
    mail_server::{Habits, Received},
};

const EMAIL: &str = "ann.lee@example.org";
const PASSWORD: &str = "thimble-orbit-canvas-7";

/// A public key that nobody has.
const NOBODYS_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Pages for everybody, and for who is logged in.
const OPEN: [&str; 9] = [
    "/",
    "/register",
    "/log-in",
    "/rules",
    "/rules/1",
    "/rules/in-force",
    "/contact",
    "/confirm/x",
    "/nothing",
];
const PERSONAL: [&str; 4] = ["/account", "/devices", "/records", "/consents"];

/// A gateway's flags for a mail server, with letters as fast as they come.
fn flags(server: &MailServer<'_>) -> Vec<String> {
    let server = server.address().to_string();
    let flags = ["--mail-server", &server, "--mail-tls=none", "--mail-from=VPN <vpn@example.org>"];
    let more = ["--contact=help@example.org", "--site-url=https://vpn.example.org"];
    let pace = ["--mails-per-minute=6000"];
    [&flags[..], &more, &pace].concat().into_iter().map(str::to_owned).collect()
}

/// A gateway that sends letters, and its mail server.
fn start<'lab>(lab: &'lab Lab, extra: &[&str]) -> (Gateway<'lab>, MailServer<'lab>) {
    let server = MailServer::start_in(Some(&lab.gateway), Habits::default());
    let flags = flags(&server);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(extra.iter().copied()).collect();
    (Gateway::start_with(lab, &flags), server)
}

/// Somebody at the gateway's site.
fn visitor<'lab>(lab: &'lab Lab, gateway: &Gateway<'lab>) -> Visitor<'lab> {
    Visitor::new(&lab.gateway, &gateway.data_dir().join("site.pem"))
}

/// An account with a password, as the staff makes it.
fn customer(lab: &Lab, gateway: &Gateway<'_>, email: &str) {
    gateway.add_account(email);
    let mut command = Command::new(program());
    command.env_clear().args(["account", "password", email]).arg("--socket").arg(gateway.socket());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = lab.gateway.start(&mut command).unwrap();
    child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A customer who is logged in.
fn logged_in<'lab>(lab: &'lab Lab, gateway: &Gateway<'lab>, email: &str) -> Visitor<'lab> {
    let mut visitor = visitor(lab, gateway);
    let answer = visitor.log_in(email, PASSWORD);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/account")), "{answer:?}");
    visitor
}

/// The last letter to an address, once there are `count`.
fn letter(server: &MailServer<'_>, to: &str, count: usize) -> Received {
    let found = wait_for(Duration::from_secs(20), || {
        let letters: Vec<_> =
            server.mailbox().into_iter().filter(|letter| letter.to == to).collect();
        (letters.len() >= count).then_some(letters)
    });
    found.and_then(|mut letters| letters.pop()).unwrap_or_else(|| panic!("no letter to {to}"))
}

/// The path of the link in a letter.
fn link(letter: &Received) -> String {
    let text = letter.text.replace("=\n", "");
    let (_, rest) = text.split_once("https://vpn.example.org/").expect("a link");
    let end = rest.find(|c: char| c.is_whitespace() || "<\"".contains(c)).unwrap_or(rest.len());
    format!("/{}", &rest[..end])
}
