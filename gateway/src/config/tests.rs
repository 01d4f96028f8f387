use std::{fs, io::Write, path::Path};

use super::*;

fn places(toml: &str) -> (Places, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    (Places { config: Some(file.path().into()), socket: None }, file)
}

fn refusal(toml: &str) -> String {
    let (places, file) = places(toml);
    let error = Settings::load(&places, &Overrides::default()).unwrap_err();
    format!("{error:#}").replace(&file.path().display().to_string(), "FILE")
}

#[test]
fn defaults_are_valid() {
    assert!(Settings::default().check().is_ok());
}

#[test]
fn file_goes_before_default_and_flag_before_file() {
    let (places, _file) = places("mtu = 1400\ninterface = \"vpn0\"\nlisten = [\"1.2.3.4:5\"]");
    let mut overrides = Overrides::default();
    overrides.mtu = Some(1300);
    let settings = Settings::load(&places, &overrides).unwrap();
    assert_eq!(settings.mtu, 1300);
    assert_eq!(settings.interface, "vpn0");
    assert_eq!(settings.listen, ["1.2.3.4:5".parse().unwrap()]);
    assert_eq!(settings.device_limit, 5);
}

#[test]
fn switch_of_the_file_can_be_turned_off() {
    let (places, _file) = places("allow-device-to-device = true");
    let on = Settings::load(&places, &Overrides::default()).unwrap();
    assert!(on.allow_device_to_device);
    let mut overrides = Overrides::default();
    overrides.allow_device_to_device = Some(false);
    let off = Settings::load(&places, &overrides).unwrap();
    assert!(!off.allow_device_to_device);
}

#[test]
fn list_may_be_empty() {
    let (places, _file) = places("dns = []");
    assert!(Settings::load(&places, &Overrides::default()).unwrap().dns.is_empty());
}

#[test]
fn unknown_key_is_named_with_its_file() {
    assert_eq!(
        refusal("colour = 1"),
        "FILE:1: unknown setting `colour`; `tacit run --help` names them all"
    );
    assert_eq!(
        refusal("data_dir = \"/x\""),
        "FILE:1: unknown setting `data_dir`; write `data-dir`"
    );
}

#[test]
fn wrong_value_is_named_with_its_key() {
    assert_eq!(
        refusal("mtu = \"big\""),
        "FILE:1: `mtu`: invalid type: found string \"big\", expected u16"
    );
    assert!(refusal("serve = [\"icmp/1\"]").starts_with("FILE:1: `serve.0`: "));
}

#[test]
fn refusals_are_one_line() {
    let broken = [
        "mtu =",
        "mtu = 9000",
        "workers = 0",
        "device-limit = 0",
        "listen = []",
        "listen = [\"0.0.0.0:0\"]",
        "tunnel-v4 = \"10.66.0.1/16\"",
        "tunnel-v6 = \"fd00::1/64\"",
        "allow-private = [\"10.0.0.1/8\"]",
        "endpoint = \"two words\"",
        "mails-per-minute = 0",
        "mail-user = \"tacit\"",
        "mail-server = \"mail.example.org\"",
        "mail-from = \"vpn@example.org\\r\\nBcc: x@example.org\"",
        "contact = \"ask us\"",
        "site-url = \"http://example.org\"",
        "mail-server = \"mail.example.org\"\nmail-tls = \"none\"\nmail-from = \"vpn@example.org\"\n\
         contact = \"help@example.org\"\nsite-url = \"https://example.org\"",
        "database-password-file = \"/x\"",
        "region = \"\\u0007\"",
        "site = \"443\"",
        "site-key = \"/x\"",
        "mail-user = \"tacit\"\nmail-password-file = \"/x\"",
        "database-poll-only = true",
        "site-redirect = \"127.0.0.1:80\"\nsite = \"off\"",
        "site-redirect = \"127.0.0.1:80\"\nsite = \"127.0.0.1:80\"",
        "metrics = \"127.0.0.1:80\"\nsite = \"127.0.0.1:80\"",
        "metrics = \"0.0.0.0:8443\"\nsite = \"127.0.0.1:8443\"",
        "metrics = \"[::]:8443\"\nsite = \"0.0.0.0:8443\"",
        "site = \"0.0.0.0:443,127.0.0.1:443\"",
        "site-redirect = \"[::1]:443\"\nsite = \"[::]:443\"\nsite-url = \"https://example.org\"",
        "site-redirect = \"0.0.0.0:80\"\nsite = \"0.0.0.0:443\"",
        "mtu = 100",
        "listen = [\"0.0.0.0:1\", \"127.0.0.1:2\"]",
        "interface = \"averyveryverylongname\"",
        "interface = \"a/b\"",
        "tunnel-v4 = \"10.66.0.0/31\"",
        "tunnel-v6 = \"fd00::/127\"",
        "database = \"mysql://x\"",
        "database = \"postgres://u:pw@h/x\"",
        "database = \"postgres://u@h/x?sslmode=maybe\"",
    ];
    for toml in broken {
        let refusal = refusal(&format!("dns = []\n{toml}"));
        let is_placed = ["FILE:2: ", "FILE:3: "].iter().any(|place| refusal.starts_with(place));
        assert!(!refusal.contains('\n') && is_placed, "{refusal}");
    }
}

#[test]
fn addresses_that_can_be_together_are_not_refused() {
    for good in [
        "site = \"0.0.0.0:443,[::]:443\"\nsite-redirect = \"0.0.0.0:80,[::]:80\"\nsite-url = \"https://example.org\"",
        "site = \"127.0.0.1:443,192.0.2.1:443\"\nmetrics = \"192.0.2.2:443\"",
        "site = \"0.0.0.0:443\"\nmetrics = \"[::1]:443\"",
        "site = \"off\"\nsite-redirect = \"off\"",
        "listen = [\"0.0.0.0:443\", \"[::]:443\"]\nsite = \"0.0.0.0:443\"",
        "database = \"postgres://u@h/x?sslrootcert=/not/looked/at\"",
    ] {
        let (places, _file) = places(good);
        let loaded = Settings::load(&places, &Overrides::default());
        assert!(loaded.is_ok(), "{good}: {loaded:?}");
    }
}

#[test]
fn fault_is_told_where_it_was_said_last() {
    let (places, file) = places("# the file\nmtu = 1400\n");
    let mut overrides = Overrides::default();
    overrides.mtu = Some(9000);
    let error = Settings::load(&places, &overrides).unwrap_err().to_string();
    assert_eq!(error, "`mtu` is 9000, but must be at most 8920 (from --mtu)");
    let loaded = Settings::load_with_origins(&places, &Overrides::default()).unwrap();
    assert_eq!(loaded.origins["mtu"], Origin::File(file.path().into(), 2));
    assert_eq!(loaded.origins.len(), 1);
}

#[test]
fn named_file_must_exist() {
    let (places, file) = places("");
    fs::remove_file(file.path()).unwrap();
    assert!(Settings::load(&places, &Overrides::default()).is_err());
    assert!(places.socket_path().is_err());
}

#[test]
fn socket_is_found_through_the_file() {
    let (mut places, _file) = places("socket = \"/tmp/a.sock\"\nmtu = 1400");
    assert_eq!(places.socket_path().unwrap(), Path::new("/tmp/a.sock"));
    places.socket = Some("/tmp/b.sock".into());
    assert_eq!(places.socket_path().unwrap(), Path::new("/tmp/b.sock"));
    let settings = Settings::load(&places, &Overrides::default()).unwrap();
    assert_eq!(settings.socket, Path::new("/tmp/b.sock"));
}
