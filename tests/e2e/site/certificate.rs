//! The site's certificate, its addresses, and what answers without TLS.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tacit_tests::{Gateway, Lab, Visitor, clock::wait_until};

use super::visitor;

/// The user that control becomes on a host without one of its own.
const CONTROL: u32 = 65_528;

/// Makes a certificate and its key, and puts both in place as ACME clients do.
fn renew(dir: &Path) {
    for name in ["key", "cert"] {
        let _ = fs::remove_file(dir.join(format!("{name}.new")));
    }
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(dir.join("key.new"))
        .arg("-out")
        .arg(dir.join("cert.new"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    chown(dir.join("key.new"), None, Some(CONTROL)).unwrap();
    fs::set_permissions(dir.join("key.new"), fs::Permissions::from_mode(0o640)).unwrap();
    for name in ["key", "cert"] {
        fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
    }
}

#[test]
fn renewed_certificate_is_taken_up_without_a_restart() {
    let lab = Lab::new(0);
    let dir = lab.dir().join("certificate");
    fs::create_dir(&dir).unwrap();
    renew(&dir);
    let [certificate, key] = ["cert", "key"].map(|name| dir.join(name));
    let [certificate_text, key_text] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let flags = ["--site-certificate", certificate_text, "--site-key", key_text];
    let gateway = Gateway::start_with(&lab, &flags);
    let mut before = Visitor::new(&lab.gateway, &certificate);
    assert_eq!(before.get("/").status, 200);
    assert!(!gateway.data_dir().join("site.pem").exists());

    renew(&dir);
    let mut after = Visitor::new(&lab.gateway, &certificate);
    wait_until("the renewed certificate", Duration::from_secs(20), || after.connect_tls().is_ok());
    assert_eq!(after.get("/").status, 200);
    assert!(before.connect_tls().is_err(), "the former certificate is still in use");
    assert!(gateway.log().contains("renewed certificate"));

    // A broken one is not taken up, and the site goes on.
    fs::write(&certificate, "nothing").unwrap();
    wait_until("a note", Duration::from_secs(20), || gateway.log().contains("former certificate"));
    assert_eq!(after.get("/").status, 200);
}

#[test]
fn certificate_that_control_cannot_read_is_refused_at_the_start() {
    let lab = Lab::new(0);
    let dir = lab.dir().join("certificate");
    fs::create_dir(&dir).unwrap();
    renew(&dir);
    let [certificate, key] = ["cert", "key"].map(|name| dir.join(name));
    chown(&key, None, Some(0)).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let flags = ["--site-certificate", certificate, "--site-key", key];
    let mut gateway = Gateway::stopped(&lab, "gateway", &flags);
    gateway.spawn();
    assert_eq!(gateway.wait(Duration::from_secs(15)).code(), Some(1));
    assert!(gateway.log().contains("cannot be read by the user"), "{}", gateway.log());
}

#[test]
fn taken_port_is_an_error_if_it_was_named_and_a_note_if_not() {
    let lab = Lab::new(0);
    let _taken = lab.gateway.within(|| std::net::TcpListener::bind("127.0.0.1:8443")).unwrap();
    let mut named = Gateway::stopped(&lab, "named", &["--site", "127.0.0.1:8443"]);
    named.spawn();
    assert_eq!(named.wait(Duration::from_secs(15)).code(), Some(1));
    assert!(named.log().contains("`site` has an address"), "{}", named.log());
    let gateway = Gateway::start(&lab);
    assert!(gateway.log().contains("the customer site is off"), "{}", gateway.log());
}

/// What is answered to bytes without TLS.
pub(super) fn plainly(lab: &Lab, address: &'static str, bytes: &[u8]) -> String {
    let mut stream = lab.gateway.within(move || TcpStream::connect(address)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn http_leads_to_the_site_and_nowhere_else() {
    let lab = Lab::new(0);
    let flags = ["--site-redirect", "127.0.0.1:8080", "--site-url", "https://vpn.example.org"];
    let gateway = Gateway::start_with(&lab, &flags);
    for request in [
        "GET / HTTP/1.1\r\nHost: vpn.example.org\r\n\r\n",
        "GET //evil.example/a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET https://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "POST /log-in HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let answer = plainly(&lab, "127.0.0.1:8080", request.as_bytes());
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 308 "), "{answer}");
        assert!(answer.contains("location: https://vpn.example.org/\r\n"), "{answer}");
        assert!(!answer.contains("evil"), "{answer}");
    }
    // The site itself says nothing without TLS.
    assert!(
        !plainly(&lab, "127.0.0.1:8443", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").contains("HTTP")
    );
    assert_eq!(visitor(&lab, &gateway).get("/").status, 200);
}

#[test]
fn tls_before_1_2_is_refused() {
    let lab = Lab::new(0);
    let _gateway = Gateway::start(&lab);
    let shake = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", "127.0.0.1:8443", version]);
        // Debian's openssl itself would refuse the former ones.
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]);
        let output = lab.gateway.output(&mut command);
        String::from_utf8_lossy(&output.stdout).contains("Cipher is ") && output.status.success()
    };
    assert!(shake("-tls1_2") && shake("-tls1_3"));
    assert!(!shake("-tls1_1") && !shake("-tls1"));
}
