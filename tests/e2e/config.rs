//! Settings: every one by file, variable and flag; what is wrong with them; and what is read again without a restart.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use tacit_tests::{
    Client, Gateway, Implementation, Lab, RawClient,
    clock::wait_until,
    gateway::program,
    lab::{GATEWAY_V4, TARGET_V4},
    ping::Ping,
    target::ECHO_PORT,
};

use crate::metrics::{counter, fetch};

const EMAIL: &str = "someone@example.org";

/// Every setting, with a value as in the file.
const SETTINGS: &str = r#"
allow-device-to-device = true
allow-private = ["10.20.0.0/16"]
capacity = 5000
contact = "help@example.org"
data-dir = "/srv/tacit"
data-key = "/srv/key/data.key"
database = "postgres://tacit@db.example.org/tacit"
database-password-file = "/srv/key/database"
database-poll-only = true
device-limit = 7
dns = ["192.0.2.53"]
endpoint = "vpn.example.org"
fleet-key = "/srv/key/fleet.key"
gateway-name = "oslo"
interface = "vpn7"
keep-archive = 100
keep-records = 101
keep-sessions = 10
listen = ["0.0.0.0:443"]
log = "warn"
mail-ca = "/srv/mail.pem"
mail-from = "vpn@example.org"
mail-password-file = "/srv/key/mail"
mail-server = "mail.example.org"
mail-tls = "tls"
mail-user = "vpn"
mails-per-minute = 11
metrics = "127.0.0.1:9000"
metrics-least-sessions = 12
mtu = 1380
region = "Oslo"
routed-v6 = true
serve = ["udp/53"]
site = "127.0.0.1:443"
site-certificate = "/srv/site.crt"
site-key = "/srv/site.key"
site-redirect = "127.0.0.1:80"
site-url = "https://vpn.example.org"
socket = "/srv/admin.sock"
tunnel-v4 = "10.80.0.0/16"
tunnel-v6 = "2001:db8:80::/64"
workers = 3
"#;

/// The same with values as in variables and flags.
fn settings() -> BTreeMap<String, String> {
    let plain = |value: &str| value.trim_matches(['[', ']']).trim_matches('"').to_owned();
    let lines = SETTINGS.lines().filter_map(|line| line.split_once(" = "));
    lines.map(|(key, value)| (key.to_owned(), plain(value))).collect()
}

fn tacit(arguments: &[&str], variables: &BTreeMap<String, String>) -> Output {
    Command::new(program()).env_clear().envs(variables).args(arguments).output().unwrap()
}

/// What `tacit config show` tells: each setting's value and origin.
fn shown(
    arguments: &[&str],
    variables: &BTreeMap<String, String>,
) -> BTreeMap<String, (Value, String)> {
    let arguments = [&["config", "show", "--json"], arguments].concat();
    let output = tacit(&arguments, variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let setting = |setting: Value| {
        (text(&setting["setting"]), (setting["value"].clone(), text(&setting["from"])))
    };
    shown.into_iter().map(setting).collect()
}

fn values(shown: &BTreeMap<String, (Value, String)>) -> BTreeMap<&String, &Value> {
    shown.iter().map(|(key, (value, _))| (key, value)).collect()
}

#[test]
fn every_setting_is_set_by_file_variable_and_flag() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SETTINGS).unwrap();
    let path = file.path().to_str().unwrap();
    let (none, settings) = (BTreeMap::new(), settings());
    let default = shown(&[], &none);
    let by_file = shown(&["--config", path], &none);
    assert_eq!(by_file.keys().collect::<Vec<_>>(), settings.keys().collect::<Vec<_>>());

    let variable = |key: &String| format!("TACIT_{}", key.replace('-', "_").to_uppercase());
    let variables = settings.iter().map(|(key, value)| (variable(key), value.clone())).collect();
    let by_variable = shown(&[], &variables);
    let flags: Vec<String> =
        settings.iter().map(|(key, value)| format!("--{key}={value}")).collect();
    let by_flag = shown(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &none);
    assert_eq!(values(&by_variable), values(&by_file));
    assert_eq!(values(&by_flag), values(&by_file));

    for (number, key) in settings.keys().enumerate() {
        assert_ne!(by_file[key].0, default[key].0, "{key}: a value of its own");
        assert_eq!(default[key].1, "default");
        assert_eq!(by_file[key].1, format!("{path}:{}", number + 2));
        assert_eq!(by_variable[key].1, variable(key));
        assert_eq!(by_flag[key].1, format!("--{key}"));
    }
}

fn refusal(toml: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), toml).unwrap();
    let path = file.path().to_str().unwrap();
    let output = tacit(&["config", "check", "--config", path], &BTreeMap::new());
    assert_eq!(output.status.code(), Some(1), "{toml} passes");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap().replace(path, "FILE")
}

#[test]
fn wrong_settings_are_told_with_file_line_and_what_to_do() {
    for (toml, expected) in [
        (
            "mtu = 1400\n\ninterfaces = \"vpn0\"\n",
            "tacit: FILE:3: unknown setting `interfaces`; did you mean `interface`?\n",
        ),
        ("data_dir = \"/srv\"", "tacit: FILE:1: unknown setting `data_dir`; write `data-dir`\n"),
        ("# x\nmtu = 9001", "tacit: FILE:2: `mtu` is 9001, but must be at most 8920\n"),
        (
            "log = \"info\"\nsite-key = \"/x\"\n",
            "tacit: FILE:2: `site-certificate` and `site-key` go together; set both or neither\n",
        ),
        (
            "site = \"off\"\n\n\nsite-redirect = \"0.0.0.0:80\"",
            "tacit: FILE:4: `site-redirect` leads to the site, but `site` is off; remove one of the two\n",
        ),
        (
            "metrics = \"0.0.0.0:8443\"\nsite = \"127.0.0.1:8443\"",
            "tacit: FILE:1: `metrics` and `site` both need TCP port 8443; give each its own\n",
        ),
        (
            "\nfleet-key = \"/nonexistent\"",
            "tacit: FILE:2: `fleet-key` is /nonexistent, and there is no such file\n",
        ),
    ] {
        assert_eq!(refusal(toml), expected);
    }
    assert!(refusal("mtu = 1400\nlog = \n").starts_with("tacit: FILE:2: "));
}

#[test]
fn variable_of_no_setting_starts_no_gateway() {
    let lab = Lab::new(0);
    let unknown = BTreeMap::from([("TACIT_DEVICELIMIT".into(), "3".into())]);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let run = lab.gateway.output(gateway.command().envs(&unknown));
    let config = [["config", "check"], ["config", "show"]].map(|verb| tacit(&verb, &unknown));
    for output in config.into_iter().chain([run]) {
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "tacit: TACIT_DEVICELIMIT: no setting has such a variable; did you mean `device-limit`?\n"
        );
    }
    assert!(!gateway.socket().exists());
}

/// Writes the settings file and has it read again; returns what the log says of that.
fn reload(gateway: &Gateway<'_>, path: &Path, toml: &str) -> String {
    let before = gateway.log().len();
    fs::write(path, toml).unwrap();
    gateway.reload();
    let news = || gateway.log()[before..].to_owned();
    wait_until("the settings to be read again", Duration::from_secs(5), || {
        news().contains("the settings are read again") || news().contains("settings cannot be used")
    });
    news()
}

#[test]
fn settings_are_read_again_without_a_dropped_packet() {
    let lab = Lab::new(1);
    let path = lab.dir().join("tacit.toml");
    fs::write(&path, "device-limit = 1\n").unwrap();
    let gateway = Gateway::start_with(&lab, &["--config", path.to_str().unwrap()]);
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    // Numbered packets, for TCP would send again what is lost. The first one waits for the handshake.
    assert_eq!(Ping::run(client.namespace, TARGET_V4.into(), 1, "1", &[]).answered, [1]);
    let forwarder = gateway.forwarder();
    std::thread::scope(|scope| {
        let pinging =
            scope.spawn(|| Ping::run(client.namespace, TARGET_V4.into(), 600, "0.01", &[]));
        let is_over = || pinging.is_finished();
        read_again_and_again(&lab, &gateway, &path);
        assert!(!is_over(), "the settings were read when nobody looked any more");
        let ping = pinging.join().unwrap();
        assert_eq!((ping.longest_gap(), ping.answered.len()), (0, ping.sent), "{}", ping.text);
    });
    assert_eq!(gateway.forwarder(), forwarder);
    let sessions = gateway.sessions(EMAIL);
    assert!(sessions.len() == 1 && sessions[0]["ended_at"].is_null(), "{sessions:?}");
}

fn read_again_and_again(lab: &Lab, gateway: &Gateway<'_>, path: &Path) {
    assert!(!gateway.cli(&["device", "add", EMAIL, "telephone"]).status.success());
    let news = reload(gateway, path, "device-limit = 2\nmtu = 1380\n");
    assert!(news.contains("changed and in force setting=\"device-limit\""), "{news}");
    assert!(news.contains("changed, which takes a restart setting=\"mtu\""), "{news}");
    assert!(news.contains("applied=1 waiting=1"), "{news}");
    let telephone = gateway.add_device(EMAIL, "telephone");
    assert!(telephone.text.contains("MTU = 1420"), "what waits is not in force");

    // Unknown, and impossible.
    for wrong in ["device-limits = 3\n", "device-limit = 3\nmtu = 100\n"] {
        let news = reload(gateway, path, wrong);
        assert!(news.contains("the former ones stay in force"), "{news}");
        assert!(!gateway.cli(&["device", "add", EMAIL, "tablet"]).status.success());
    }

    // As an editor does it: another file in its place.
    let draft = lab.dir().join("draft");
    fs::write(&draft, "device-limit = 3\n").unwrap();
    fs::rename(&draft, path).unwrap();
    let news = reload(gateway, path, "device-limit = 3\n");
    assert!(news.contains("applied=1 waiting=0"), "{news}");
    gateway.add_device(EMAIL, "tablet");
}

/// The live settings but the region, which the sites of several gateways show (see `site/gateways.rs`).
fn live(log: &str, host: u8, number: u32) -> String {
    format!(
        "log = \"{log}\"\nendpoint = \"192.0.2.{host}\"\ndns = [\"192.0.2.{host}\"]\n\
         device-limit = {number}\nmetrics-least-sessions = {number}\n"
    )
}

#[test]
fn live_settings_are_in_force_once_they_are_read_again() {
    let lab = Lab::new(1);
    let path = lab.dir().join("tacit.toml");
    fs::write(&path, live("info", 53, 2)).unwrap();
    let mut gateway = Gateway::stopped(&lab, "gateway", &[]).with_settings_in(&path);
    gateway.run();
    let mut laptop = gateway.customer(EMAIL);
    assert!(laptop.text.contains("DNS = 192.0.2.53\n"), "{}", laptop.text);
    assert_eq!(laptop.endpoint.to_string(), "192.0.2.53:51820");
    laptop.endpoint.set_ip(GATEWAY_V4.into());
    let mut client = RawClient::new(&lab.clients[0], &laptop);
    client.handshake();
    gateway.wait_for_live(1);
    let echo =
        |client: &mut RawClient| assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"hello"));
    let counted = || {
        let text = fetch(&lab, "127.0.0.1:9586", "/metrics").unwrap();
        counter(&text, "inbound_packets")
    };
    wait_until("its packets to be told of", Duration::from_secs(5), || {
        echo(&mut client);
        gateway.json(&["status"])["totals"]["inbound_packets"].as_u64() > Some(2)
    });
    assert_eq!(counted(), 0, "of one session of two");

    // Nothing is said of it, but it is so.
    fs::write(&path, live("warn", 54, 3)).unwrap();
    gateway.reload();
    gateway.add_device(EMAIL, "telephone");
    let mut tablet = None;
    wait_until("room for a third device", Duration::from_secs(5), || {
        let output = gateway.cli(&["device", "add", EMAIL, "tablet"]);
        tablet = output.status.success().then(|| String::from_utf8(output.stdout).unwrap());
        tablet.is_some()
    });
    let tablet = tablet.unwrap();
    assert!(tablet.contains("DNS = 192.0.2.54\n"), "{tablet}");
    assert!(tablet.contains("Endpoint = 192.0.2.54:51820\n"), "{tablet}");
    let before = gateway.log();
    gateway.add_account("else@example.org");
    assert_eq!(gateway.log(), before, "something is said, but nothing that is wrong");

    let news = reload(&gateway, &path, &live("info", 54, 1));
    for setting in ["log", "device-limit", "metrics-least-sessions"] {
        assert!(news.contains(&format!("in force setting=\"{setting}\"")), "{news}");
    }
    gateway.add_account("another@example.org");
    assert!(gateway.log().ends_with(" changed by the operator action=\"account added\" uid=0\n"));
    wait_until("packets to be counted", Duration::from_secs(5), || {
        echo(&mut client);
        counted() > 0
    });
}

#[test]
fn settings_of_the_compose_file_are_settings() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    for name in ["data.key", "database-password"] {
        fs::write(secrets.join(name), "a-secret\n").unwrap();
        fs::set_permissions(secrets.join(name), Permissions::from_mode(0o600)).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose.yaml");
    let compose = fs::read_to_string(path).unwrap();
    let compose = compose.replace("/run/secrets", secrets.to_str().unwrap());
    // Of two gateways with the same settings, the second.
    let settings = compose.lines().map(str::trim).filter(|line| line.starts_with("TACIT_"));
    let settings = settings.map(|line| {
        let (name, rest) = line.split_once(": ").unwrap();
        let value = rest.split(" #").next().unwrap().trim().trim_matches('"');
        (name.to_owned(), value.to_owned())
    });
    let variables: BTreeMap<String, String> = settings.collect();
    let checked = tacit(&["config", "check"], &variables);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(variables.len() >= 7, "{variables:?}");
    let shown = shown(&[], &variables);
    assert_eq!(shown["gateway-name"].0, "turin");
    let is_set = |name: &String| {
        let key = name.trim_start_matches("TACIT_").to_lowercase().replace('_', "-");
        shown[&key].1.contains(name.as_str())
    };
    assert!(variables.keys().all(is_set), "{shown:?}");
}
