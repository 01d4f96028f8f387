//! What deploy/install puts in place, in the root directory of a Debian that has just been made.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tacit_tests::gateway::program;

/// The score that `systemd-analyze security` must stay below.
const WORST_SCORE: f32 = 2.0;

fn deploy(script: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(script))
}

fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {text}");
    text
}

/// A Debian with systemd, as small as it can be.
fn fresh_root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--include=systemd"]);
    command.arg(codename.expect("a Debian"));
    succeeds(command.arg(&root));
    root
}

/// The number of a group there.
fn group(root: &Path, name: &str) -> u32 {
    let groups = fs::read_to_string(root.join("etc/group")).unwrap();
    let group = groups.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    group
        .and_then(|rest| rest.split(':').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("{groups}"))
}

/// The lines of a section of the unit.
fn section(name: &str) -> Vec<String> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tacit.service");
    let unit = fs::read_to_string(unit).unwrap();
    let lines = unit.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn service_is_started_again_for_as_long_as_its_database_is_away() {
    let has = |name, line: &str| section(name).iter().any(|other| other == line);
    assert!(has("Unit", "StartLimitIntervalSec=0"), "systemd gives up after a few starts");
    assert!(has("Service", "Restart=on-failure") && has("Service", "RestartSec=2"));
}

#[test]
fn service_is_installed_in_a_fresh_root_and_taken_away_without_its_data() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = fresh_root(dir.path());
    let program = fs::canonicalize(program()).unwrap();
    let install =
        || succeeds(deploy("install").arg("--root").arg(&root).arg("--program").arg(&program));
    install();

    let mut check = Command::new("chroot");
    check.env_clear().env("PATH", "/usr/sbin:/usr/bin").arg(&root);
    check.args(["tacit", "config", "check"]);
    let checked = succeeds(&mut check);
    assert!(checked.contains("the settings are good"), "{checked}");
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(users.lines().any(|line| line.starts_with("tacit:")), "{users}");
    let settings = fs::metadata(root.join("etc/tacit/tacit.toml")).unwrap();
    let owners = (settings.uid(), settings.gid());
    assert_eq!((settings.mode() & 0o777, owners), (0o640, (0, group(&root, "tacit"))));

    let verified = succeeds(Command::new("chroot").arg(&root).args([
        "systemd-analyze",
        "verify",
        "--man=no",
        "tacit.service",
    ]));
    assert_eq!(verified.trim(), "");
    let score = succeeds(Command::new("chroot").arg(&root).args([
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        "tacit.service",
    ]));
    let score = score.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    println!("{}", score.trim());
    let number: f32 = score.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(number < WORST_SCORE, "{score}");

    fs::write(root.join("etc/tacit/tacit.toml"), "mtu = 1400\n").unwrap();
    fs::create_dir(root.join("var/lib/tacit")).unwrap();
    fs::write(root.join("var/lib/tacit/store.sqlite"), "accounts").unwrap();
    install();
    let settings = fs::read_to_string(root.join("etc/tacit/tacit.toml")).unwrap();
    assert_eq!(settings, "mtu = 1400\n", "an update leaves settings as they are");

    succeeds(deploy("uninstall").arg("--root").arg(&root));
    let is_there = |path: &str| root.join(path).exists();
    assert!(!is_there("usr/bin/tacit") && !is_there("usr/lib/systemd/system/tacit.service"));
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/tacit.service");
    assert!(wanted.symlink_metadata().is_err());
    assert!(is_there("var/lib/tacit/store.sqlite") && is_there("etc/tacit/tacit.toml"));
    let credentials = ["etc/credstore/tacit.data.key", "etc/credstore.encrypted/tacit.data.key"];
    for credential in credentials {
        fs::create_dir_all(root.join(credential).parent().unwrap()).unwrap();
        fs::write(root.join(credential), "key").unwrap();
    }
    succeeds(deploy("uninstall").arg("--root").arg(&root).arg("--purge"));
    assert!(!is_there("var/lib/tacit") && !is_there("etc/tacit"));
    assert!(!credentials.iter().any(|credential| is_there(credential)));
}
