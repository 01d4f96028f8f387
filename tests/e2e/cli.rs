//! The command line, as operators and their scripts see it.

use std::process::{Command, Output};

use tacit_tests::{Gateway, Lab, config::Config, gateway::program};

const EMAIL: &str = "someone@example.org";

fn tacit(arguments: &[&str]) -> Output {
    Command::new(program()).env_clear().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn verbs_say_in_one_line_that_the_gateway_does_not_run() {
    let verbs: [&[&str]; 13] = [
        &["account", "cancel", EMAIL],
        &["account", "export", EMAIL],
        &["code", "list"],
        &["staff", "verify"],
        &["disclosure", "list"],
        &["status"],
        &["account", "list"],
        &["account", "show", EMAIL],
        &["device", "list", EMAIL],
        &["device", "add", EMAIL, "laptop"],
        &["session", "list", EMAIL],
        &["session", "purge"],
        &["key", "rotate"],
    ];
    for verb in verbs {
        let output = tacit(&[verb, &["--socket", "/nonexistent/tacit.sock"]].concat());
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        assert!(output.stdout.is_empty());
        assert_eq!(stderr(&output).trim_end().lines().count(), 1, "{}", stderr(&output));
    }
}

#[test]
fn version_names_the_commit_and_the_hash_of_the_file() {
    let output = tacit(&["--version"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let hash = Command::new("sha256sum").arg(program()).output().unwrap().stdout;
    let hash = String::from_utf8(hash).unwrap();
    assert!(said.contains(hash.split(' ').next().unwrap()), "{said}");

    let (_, commit) = said.split_once("(commit ").expect("a commit");
    let commit = commit.split(',').next().unwrap();
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    assert_eq!(gateway.json(&["status"])["commit"], commit);
    assert!(gateway.text(&["status", "--without-counts"]).contains("not counted"));
    assert!(gateway.text(&["status"]).contains(commit));
}

#[test]
fn wrong_usage_exits_with_two() {
    let wrong: [&[&str]; 5] = [
        &["nonsense"],
        &["account", "add", EMAIL],
        &["account", "add", EMAIL, "--of-age", "--responsible-adult"],
        &["device", "add"],
        &["run", "--mtu", "large"],
    ];
    for arguments in wrong {
        let output = tacit(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn inventory_needs_no_running_gateway() {
    let output = tacit(&["inventory"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("connecting_ip") && text.contains("clause 3, sealed"), "{text}");
    let output = tacit(&["inventory", "--json"]);
    let fields: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |table: &str, column: &str| {
        let fields = fields.as_array().unwrap().iter();
        fields.clone().find(|field| field["table"] == table && field["column"] == column).cloned()
    };
    let email = find("accounts", "email").unwrap();
    assert_eq!((&email["sealed"], &email["clause"]), (&true.into(), &3.into()), "{email}");
    assert_eq!(find("tunnel_pool", "id").unwrap()["clause"], serde_json::Value::Null);
}

#[test]
fn help_of_every_verb_has_an_example() {
    let verbs: [&[&str]; 41] = [
        &["gateway"],
        &["gateway", "list"],
        &["gateway", "drain"],
        &["gateway", "resume"],
        &["gateway", "remove"],
        &["config"],
        &["config", "check"],
        &["config", "show"],
        &["account", "grant"],
        &["account", "email"],
        &["account", "password"],
        &["account", "cancel"],
        &["account", "export"],
        &["code"],
        &["code", "make"],
        &["code", "list"],
        &["staff"],
        &["staff", "log"],
        &["staff", "verify"],
        &["disclosure"],
        &["disclosure", "make"],
        &["disclosure", "list"],
        &[],
        &["run"],
        &["status"],
        &["account"],
        &["account", "add"],
        &["account", "list"],
        &["account", "show"],
        &["device"],
        &["device", "add"],
        &["device", "list"],
        &["device", "rotate"],
        &["device", "remove"],
        &["session"],
        &["session", "list"],
        &["session", "purge"],
        &["inventory"],
        &["key"],
        &["key", "rotate"],
        &["key", "show"],
    ];
    for verb in verbs {
        let output = tacit(&[verb, &["--help"]].concat());
        assert!(output.status.success(), "{verb:?}");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(help.contains("Example"), "no example in the help of {verb:?}:\n{help}");
        assert!(help.contains("tacit"), "{help}");
        assert!(
            !help.contains("forwarder --workers"),
            "the hidden verb is in the help of {verb:?}"
        );
    }
}

#[test]
fn everything_that_prints_data_prints_json() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    gateway.add_device(EMAIL, "laptop");

    let status = gateway.json(&["status"]);
    for field in ["interface", "public_key", "listen", "endpoint", "forwarder", "control", "totals"]
    {
        assert!(!status[field].is_null(), "status has no {field}: {status}");
    }
    assert_eq!(status["interface"], "tacit0");
    assert_eq!((&status["accounts"], &status["devices_registered"]), (&1.into(), &1.into()));
    let accounts = gateway.json(&["account", "list"]);
    assert_eq!(accounts[0]["email"], EMAIL, "{accounts}");
    let shown = gateway.json(&["account", "show", EMAIL]);
    assert!(shown.to_string().contains(EMAIL) && shown.to_string().contains("laptop"), "{shown}");
    assert_eq!(gateway.json(&["device", "list", EMAIL])[0]["name"], "laptop");
    assert_eq!(gateway.json(&["session", "list", EMAIL]), serde_json::json!([]));
    let added = gateway.json(&["device", "add", EMAIL, "phone"]);
    assert_eq!(added["device"]["name"], "phone");
    let config = Config::parse(added["config"].as_str().unwrap());
    assert!(config.text.contains("AllowedIPs = 0.0.0.0/0, ::/0"), "{}", config.text);
    assert!(!config.text.contains("PersistentKeepalive"), "{}", config.text);
}

#[test]
fn failures_exit_with_one_and_say_why_in_one_line() {
    let lab = Lab::new(0);
    let gateway = Gateway::start_with(&lab, &["--device-limit", "2"]);
    gateway.add_account(EMAIL);
    gateway.add_device(EMAIL, "one");
    gateway.add_device(EMAIL, "two");
    let failures: [(&[&str], &str); 6] = [
        (&["account", "add", EMAIL, "--of-age"], ""),
        (&["account", "show", "nobody@example.org"], ""),
        (&["account", "add", "not an address", "--of-age"], ""),
        (&["device", "add", EMAIL, "three"], "2"),
        (&["device", "remove", EMAIL, "nothing"], ""),
        (&["device", "add", EMAIL, "four", "--public-key", "short"], "key"),
    ];
    for (arguments, word) in failures {
        let output = gateway.cli(arguments);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {}", output.status);
        assert!(output.stdout.is_empty(), "{arguments:?} printed to stdout");
        assert!(stderr(&output).contains(word), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
}

#[test]
fn tables_are_for_people() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    gateway.add_device(EMAIL, "laptop");
    assert!(gateway.text(&["account", "list"]).contains(EMAIL));
    assert!(gateway.text(&["device", "list", EMAIL]).contains("laptop"));
    assert!(gateway.text(&["status"]).contains("tacit0"));
    gateway.text(&["session", "list", EMAIL]);
    gateway.text(&["device", "remove", EMAIL, "laptop"]);
    assert!(!gateway.text(&["device", "list", EMAIL]).contains("laptop"));
}

#[test]
fn settings_come_from_flag_then_variable_then_file() {
    let lab = Lab::new(0);
    let file = lab.dir().join("tacit.toml");
    let unknown = lab.dir().join("unknown.toml");
    std::fs::write(&file, "interface = \"fromfile\"\nlisten = [\"0.0.0.0:50001\"]\nmtu = 1300\n")
        .unwrap();
    std::fs::write(&unknown, "interfaec = \"tacit0\"\n").unwrap();

    let output = tacit(&["run", "--config", unknown.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("interfaec"), "{}", stderr(&output));

    let mut command = Command::new(program());
    command.env_clear().env("TACIT_INTERFACE", "fromenv").env("TACIT_MTU", "1310");
    command.args(["run", "--mtu", "1320", "--endpoint", "198.51.100.1", "--config"]).arg(&file);
    command
        .arg("--data-dir")
        .arg(lab.dir().join("data"))
        .arg("--socket")
        .arg(lab.dir().join("s.sock"));
    command.stderr(std::process::Stdio::null());
    let mut child = lab.gateway.start(&mut command).unwrap();
    let link = tacit_tests::clock::wait_for(std::time::Duration::from_secs(10), || {
        let output =
            lab.gateway.output(Command::new("ip").args(["-o", "link", "show", "fromenv", "up"]));
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let sockets = lab.gateway.sh("cat /proc/net/udp");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(link.expect("interface fromenv").contains("mtu 1320"));
    assert!(sockets.contains(":C351"), "port 50001 is not open: {sockets}");
}

#[test]
fn config_can_be_written_to_a_file_and_as_a_qr_code() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    let file = lab.dir().join("wg0.conf");
    gateway.text(&["device", "add", EMAIL, "file", "--output", file.to_str().unwrap()]);
    assert!(Config::parse(&std::fs::read_to_string(&file).unwrap()).text.contains("[Peer]"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let output = gateway.cli(&["device", "add", EMAIL, "qr", "--qr"]);
    let all = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&all).contains('\u{2588}'), "no QR code was drawn");
}
