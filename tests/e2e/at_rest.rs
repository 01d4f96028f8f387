//! What the data directory shows to somebody who has stolen it, and what the gateway says of a wrong data key.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tacit_tests::{Gateway, Lab, RawClient, clock::wait_until, lab::client_v4};

use crate::store;

const EMAIL: &str = "someone.searchable@example.org";

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Starts the gateway, which must refuse in one line, and returns the line.
fn refusal(lab: &Lab, gateway: &Gateway<'_>) -> String {
    let output = lab.gateway.output(&mut gateway.command());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn data_directory_without_its_key_names_nobody() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let _client = RawClient::connected(&lab.clients[0], &config);
    let sessions = gateway.wait_for_sessions(EMAIL, 1);
    let ip = client_v4(0, 2);
    assert_eq!(sessions[0]["connecting_ip"], ip.to_string());
    let secrets = [
        EMAIL.as_bytes().to_vec(),
        ip.to_string().into_bytes(),
        ip.to_ipv6_mapped().octets().to_vec(),
        config.preshared_key.to_vec(),
    ];
    let files = files(gateway.data_dir());
    let found = |needle: &[u8]| files.iter().any(|(_, bytes)| holds(bytes, needle));
    assert!(found(b"laptop"), "the search finds nothing at all");
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!found(secret), "secret {number} is in the data directory");
    }
}

#[test]
fn wrong_data_key_is_refused_and_nothing_is_changed() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    gateway.stop();
    let key_path = gateway.data_dir().join("data.key");
    let kept_path = lab.dir().join("kept.key");
    let stored = |gateway: &Gateway<'_>| {
        let mut files = files(gateway.data_dir());
        files.retain(|(path, _)| *path != key_path);
        files
    };
    let before = stored(&gateway);

    fs::rename(&key_path, &kept_path).unwrap();
    let line = refusal(&lab, &gateway);
    assert!(line.contains("data.key is missing") && line.contains("--data-key"), "{line}");
    assert!(!key_path.exists(), "a new key was made for a store that has one");

    fs::write(&key_path, "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n").unwrap();
    let line = refusal(&lab, &gateway);
    assert!(line.contains("chmod 600"), "{line}");
    fs::set_permissions(&key_path, Permissions::from_mode(0o600)).unwrap();
    let line = refusal(&lab, &gateway);
    assert!(line.contains("another data key"), "{line}");
    assert!(!line.contains("uFOu"), "{line}");
    assert!(stored(&gateway) == before, "the data directory was changed");

    let kept_path = kept_path.to_str().unwrap().to_owned();
    let mut again = Gateway::stopped(&lab, "gateway", &["--data-key", &kept_path]);
    // Moved out of the data directory, the file still belongs to the user that control becomes.
    let line = refusal(&lab, &again);
    let command = format!("chown root {kept_path}");
    assert!(line.contains(&format!("`{command}`")), "{line}");
    lab.gateway.sh(&command);
    again.run();
    assert_eq!(again.json(&["account", "list"])[0]["email"], EMAIL);
    let refused = again.cli(&["key", "rotate"]);
    let line = String::from_utf8_lossy(&refused.stderr);
    assert!(line.contains("outside the data directory"), "{line}");
    assert_eq!(again.json(&["key", "show"])["changing"], false);
}

#[test]
fn data_key_is_taken_from_a_systemd_credential_or_from_a_file_that_a_variable_names() {
    let lab = Lab::new(0);
    let credentials = |name: &str, key: &str| {
        let dir = lab.dir().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("data.key"), key).unwrap();
        fs::set_permissions(dir.join("data.key"), Permissions::from_mode(0o400)).unwrap();
        dir
    };
    let right = credentials("right", "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n");
    let wrong = credentials("wrong", "cFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n");
    let with = |variable: &str, value: &Path| {
        Gateway::stopped(&lab, "gateway", &[]).with_variable(variable, value.to_str().unwrap())
    };
    let mut gateway = with("CREDENTIALS_DIRECTORY", &right);
    gateway.run();
    gateway.add_account(EMAIL);
    gateway.stop();
    assert!(!gateway.data_dir().join("data.key").exists());
    let before = files(gateway.data_dir());
    for (variable, value) in
        [("CREDENTIALS_DIRECTORY", wrong.clone()), ("TACIT_DATA_KEY", wrong.join("data.key"))]
    {
        let line = refusal(&lab, &with(variable, &value));
        assert!(line.contains("another data key"), "{line}");
    }
    assert!(files(gateway.data_dir()) == before, "a wrong key changed something");
    let mut gateway = with("TACIT_DATA_KEY", &right.join("data.key"));
    gateway.run();
    assert_eq!(gateway.json(&["account", "list"])[0]["email"], EMAIL);
}

#[test]
fn purge_shows_first_and_then_really_removes() {
    let lab = Lab::new(1);
    let gateway = Gateway::start_with(&lab, &["--keep-sessions", "0"]);
    let config = gateway.customer(EMAIL);
    let _client = RawClient::connected(&lab.clients[0], &config);
    gateway.wait_for_sessions(EMAIL, 1);
    gateway.text(&["device", "remove", EMAIL, "laptop"]);
    let ended = || !gateway.sessions(EMAIL)[0]["ended_at"].is_null();
    wait_until("the session's end", Duration::from_secs(5), ended);
    let session: Vec<Vec<u8>> =
        store::blobs(&gateway.store(), "SELECT connecting_ip FROM sessions");
    let found =
        || files(gateway.data_dir()).iter().any(|(_, bytes)| holds(bytes, &session[0][..29]));
    assert!(found());

    for _ in 0..2 {
        let shown = gateway.json(&["session", "purge"]);
        assert_eq!((&shown["removed"], &shown["sessions"]), (&false.into(), &1.into()), "{shown}");
    }
    assert_eq!(gateway.sessions(EMAIL).len(), 1);
    let purged = gateway.json(&["session", "purge", "--yes"]);
    assert_eq!((&purged["removed"], &purged["sessions"]), (&true.into(), &1.into()), "{purged}");
    assert!(gateway.sessions(EMAIL).is_empty());
    assert!(!found(), "the removed row is still in the files");
}

/// Which data key the gateway says that it uses, once nothing is being changed.
fn settled_key(gateway: &Gateway<'_>) -> String {
    wait_until("everything to be sealed anew", Duration::from_secs(20), || {
        gateway.json(&["key", "show"])["changing"] == false
    });
    gateway.json(&["key", "show"])["key"].as_str().unwrap().to_owned()
}

#[test]
fn data_key_is_changed_while_the_gateway_runs_and_the_former_one_is_gone() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let config = gateway.customer(EMAIL);
    let key_path = gateway.data_dir().join("data.key");
    let old_file = fs::read_to_string(&key_path).unwrap();
    let old_key = settled_key(&gateway);
    let sealed = "SELECT email FROM accounts UNION ALL SELECT preshared_key FROM devices";
    let old_values = store::blobs(&gateway.store(), sealed);
    assert_eq!(old_values.len(), 2);

    let rotated = gateway.json(&["key", "rotate", "--wait"]);
    assert_eq!(rotated["changing"], false, "{rotated}");
    assert_ne!(rotated["key"], old_key);
    let new_file = fs::read_to_string(&key_path).unwrap();
    assert_eq!(new_file.lines().count(), 1);
    assert!(!new_file.contains(old_file.trim_end()));
    for value in &old_values {
        let left =
            files(gateway.data_dir()).into_iter().find(|(_, bytes)| holds(bytes, &value[..29]));
        assert_eq!(left.map(|(path, _)| path), None, "old ciphertext is in the files");
    }

    gateway.stop();
    let replaced = fs::read(&key_path).unwrap();
    fs::write(&key_path, &old_file).unwrap();
    assert!(refusal(&lab, &gateway).contains("another data key"));
    fs::write(&key_path, replaced).unwrap();
    gateway.run();
    assert_eq!(settled_key(&gateway), rotated["key"].as_str().unwrap());
    assert_eq!(gateway.json(&["account", "show", EMAIL])["account"]["email"], EMAIL);
    drop(config);
}

#[test]
fn change_of_the_data_key_survives_kills_at_any_moment() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    for number in 0..30 {
        gateway.add_account(&format!("{number}{EMAIL}"));
    }
    for milliseconds in [0, 3, 10, 25] {
        let former = settled_key(&gateway);
        gateway.text(&["key", "rotate"]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        gateway.kill();
        gateway.run();
        assert_ne!(settled_key(&gateway), former);
        let file = fs::read_to_string(gateway.data_dir().join("data.key")).unwrap();
        assert_eq!(file.lines().count(), 1, "the former key is still in the file");
        assert_eq!(gateway.json(&["account", "list"]).as_array().unwrap().len(), 30);
        let found = gateway.json(&["account", "show", &format!("7{EMAIL}")]);
        assert_eq!(found["account"]["id"], 8, "{found}");
    }
}
