//! A backup of a running gateway, and other gateways made of it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use tacit_tests::{Gateway, Lab, postgres::SharedDatabase};

const ANN: &str = "ann@example.org";
const BEN: &str = "ben@example.org";

fn private(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().into()
}

/// Runs `tacit restore` for a gateway that does not run; what it says must be a line if it fails.
fn restore(lab: &Lab, gateway: &Gateway<'_>, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(gateway.command().get_program());
    command.env_clear().arg("restore").args(arguments).arg("--data-dir").arg(gateway.data_dir());
    let output = lab.gateway.output(&mut command);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() || stderr.lines().count() == 1, "{stderr}");
    assert!(!stderr.contains('\x1b'), "{stderr:?}");
    (output.status.code(), stderr)
}

fn give_data_key(from: &Gateway<'_>, to: &Gateway<'_>) {
    fs::copy(from.data_dir().join("data.key"), to.data_dir().join("data.key")).unwrap();
}

#[test]
fn clause_7_another_gateway_is_made_of_a_backup_and_the_data_key() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let config = gateway.customer(ANN);
    let passphrase = private(&lab.dir().join("passphrase"), "correct horse battery staple\n");
    let file = lab.dir().join("tacit.age");
    let file = file.to_str().unwrap();
    let by_passphrase = [file, "--passphrase-file", &passphrase];
    let said = gateway.json(&[&["backup"], &by_passphrase[..]].concat());
    assert_eq!(said["accounts"], 1, "{said}");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(gateway.cli(&[&["backup"], &by_passphrase[..]].concat()).status.code(), Some(1));
    let log = gateway.json(&["staff", "log"]);
    assert_eq!(log.as_array().unwrap().last().unwrap()["verb"], "backup", "{log}");
    let (code, refusal) = restore(&lab, &gateway, &by_passphrase);
    assert!(code == Some(1) && refusal.contains("another gateway uses"), "{refusal}");
    gateway.add_account(BEN);
    gateway.stop();

    let (code, refusal) = restore(&lab, &gateway, &by_passphrase);
    assert!(code == Some(1) && refusal.contains("--force"), "{refusal}");
    let mut copy = Gateway::stopped(&lab, "copy", &[]);
    let (code, refusal) = restore(&lab, &copy, &by_passphrase);
    assert!(code == Some(1) && refusal.contains("the data key"), "{refusal}");
    give_data_key(&gateway, &copy);
    let wrong = private(&lab.dir().join("wrong"), "incorrect horse battery\n");
    let (code, refusal) = restore(&lab, &copy, &[file, "--passphrase-file", &wrong]);
    assert!(code == Some(1) && refusal.contains("does not open"), "{refusal}");
    let (code, said) = restore(&lab, &copy, &by_passphrase);
    assert_eq!(code, Some(0), "{said}");
    copy.run();
    let accounts = copy.json(&["account", "list"]);
    assert_eq!(accounts.as_array().unwrap().len(), 1);
    assert_eq!(accounts[0]["email"], ANN);
    let device = &copy.json(&["device", "list", ANN])[0];
    assert_eq!(device["name"], "laptop");
    assert_eq!(device["tunnel_v4"], config.tunnel_v4.to_string());
    assert_eq!(copy.cli(&["staff", "verify"]).status.code(), Some(0));
    copy.stop();

    let (code, said) = restore(&lab, &gateway, &[&by_passphrase[..], &["--force"]].concat());
    assert_eq!(code, Some(0), "{said}");
    gateway.run();
    let accounts = gateway.json(&["account", "list"]);
    assert_eq!(accounts.as_array().unwrap().len(), 1, "Ben came after the backup");
}

#[test]
fn clause_7_store_moves_from_a_file_to_a_server_and_only_its_recipient_opens_it_on_the_way() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.customer(ANN);
    let keygen = Command::new("age-keygen").output().expect("Debian's age");
    let identity = private(&lab.dir().join("key"), &String::from_utf8(keygen.stdout).unwrap());
    let public = Command::new("age-keygen").args(["-y", &identity]).output().unwrap().stdout;
    let public = String::from_utf8(public).unwrap();
    let file = lab.dir().join("tacit.age");
    let file = file.to_str().unwrap();
    gateway.text(&["backup", file, "--recipient", public.trim()]);
    gateway.stop();
    // The program that the format is named after opens it too.
    let opened = Command::new("age").args(["-d", "-i", &identity, file]).output().unwrap();
    assert!(
        opened.stdout.starts_with(b"{\"tacit\":"),
        "{}",
        String::from_utf8_lossy(&opened.stderr)
    );

    let database = SharedDatabase::create();
    let url = database.url();
    let mut copy = Gateway::stopped(&lab, "copy", &["--database", &url]);
    give_data_key(&gateway, &copy);
    let by_key = [file, "--identity-file", &identity, "--database", &url];
    let (code, said) = restore(&lab, &copy, &by_key);
    assert_eq!(code, Some(0), "{said}");
    let (code, refusal) = restore(&lab, &copy, &by_key);
    assert!(code == Some(1) && refusal.contains("--force"), "{refusal}");
    copy.run();
    assert_eq!(copy.json(&["account", "list"])[0]["email"], ANN);
    assert_eq!(copy.json(&["device", "list", ANN])[0]["name"], "laptop");
    let mut third = Gateway::stopped(&lab, "third", &[]);
    give_data_key(&gateway, &third);
    let (code, refusal) = restore(&lab, &third, &[&by_key[..], &["--force"]].concat());
    assert!(code == Some(1) && refusal.contains("a gateway uses this database"), "{refusal}");

    let back = lab.dir().join("back.age");
    let back = back.to_str().unwrap();
    copy.text(&["backup", back, "--recipient", public.trim()]);
    copy.stop();
    let (code, said) = restore(&lab, &third, &[back, "--identity-file", &identity]);
    assert_eq!(code, Some(0), "{said}");
    third.run();
    assert_eq!(third.json(&["account", "list"])[0]["email"], ANN);
}

#[test]
fn hostile_backups_and_names_are_refused_in_a_line_and_leave_nothing() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let passphrase = private(&lab.dir().join("passphrase"), "correct horse battery staple\n");
    let short = private(&lab.dir().join("short"), "short\n");
    let loose = private(&lab.dir().join("loose"), "correct horse battery staple\n");
    fs::set_permissions(&loose, Permissions::from_mode(0o644)).unwrap();
    let dir = lab.dir().join("backups");
    fs::create_dir(&dir).unwrap();
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let outputs = [
        gateway.cli(&["backup", &file("a"), "--passphrase-file", &short]),
        gateway.cli(&["backup", &file("a"), "--passphrase-file", &loose]),
        gateway.cli(&["backup", &file("a"), "--passphrase-file", "/nonexistent"]),
        gateway.cli(&["backup", &file("a"), "--recipient", "age1hello"]),
        gateway.cli(&["backup", &file("a")]),
        gateway.cli(&["backup", &file("no\x1b[2J/such\ndir"), "--passphrase-file", &passphrase]),
        gateway.cli(&["backup", "/dev/null", "--passphrase-file", &passphrase]),
    ];
    for (number, output) in outputs.into_iter().enumerate() {
        let stderr = String::from_utf8(output.stderr).unwrap();
        let told = (output.status.code(), stderr.lines().count());
        assert_eq!(told, (Some(1), 1), "{number}: {stderr}");
        assert!(!stderr.contains('\x1b'), "{number}: {stderr:?}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);

    let copy = Gateway::stopped(&lab, "copy", &[]);
    give_data_key(&gateway, &copy);
    gateway.text(&["backup", &file("good"), "--passphrase-file", &passphrase]);
    let good = fs::read(file("good")).unwrap();
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    let hostile: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("text", b"hello\n"),
        ("head", b"age-encryption.org/v1\n-> X"),
        ("cut-off", &good[..good.len() - 20]),
        ("changed", &changed),
    ];
    for (name, bytes) in hostile {
        fs::write(file(name), bytes).unwrap();
        let (code, _) = restore(&lab, &copy, &[&file(name), "--passphrase-file", &passphrase]);
        assert_eq!(code, Some(1), "{name}");
        let mut names: Vec<_> =
            fs::read_dir(copy.data_dir()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["data.key", "lock"], "{name} left something");
    }
}
