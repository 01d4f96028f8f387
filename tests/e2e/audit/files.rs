use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use tacit_tests::{Gateway, Lab};

use super::Audited;

/// Runs a statement on the live store, beside the gateway.
fn execute(gateway: &Gateway<'_>, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(gateway.store()).foreign_keys(false);
        let mut connection = options.busy_timeout(Duration::from_secs(5)).connect().await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn store_that_holds_more_than_it_may_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let gateway = &audited.gateway;
    let planted = [
        (
            "store-schema",
            "ALTER TABLE sessions ADD COLUMN destination TEXT",
            "ALTER TABLE sessions DROP COLUMN destination",
        ),
        ("store-schema", "CREATE TABLE flows (destination TEXT)", "DROP TABLE flows"),
        ("store-schema", "CREATE VIEW seen AS SELECT id FROM sessions", "DROP VIEW seen"),
        (
            "store-schema",
            "CREATE TRIGGER kept AFTER DELETE ON sessions BEGIN SELECT 1; END",
            "DROP TRIGGER kept",
        ),
        (
            "store-retention",
            "INSERT INTO sessions (id, account_id, device_id, connecting_ip, began_at, ended_at)
             VALUES (4711, 1, 1, x'00', 1, 2)",
            "DELETE FROM sessions WHERE id = 4711",
        ),
        (
            "store-retention",
            "INSERT INTO freed_addresses (address_offset, quarantined_until) VALUES (4711, 1)",
            "DELETE FROM freed_addresses WHERE address_offset = 4711",
        ),
        (
            "store-retention",
            "INSERT INTO devices (id, account_id, name, public_key, preshared_key, address_offset, created_at)
             VALUES (4711, 1, 'x', zeroblob(32), x'00', 4711, 1);
             INSERT INTO rotated_devices (former_id, device_id) VALUES (4710, 4711)",
            "DELETE FROM rotated_devices WHERE former_id = 4710; DELETE FROM devices WHERE id = 4711",
        ),
        (
            "store-retention",
            "INSERT INTO archive (id, account_id, kind, value, reason, archived_at, keep_until)
             VALUES (4711, 1, 'e-mail', x'00', 'changed', 1, 2)",
            "DELETE FROM archive WHERE id = 4711",
        ),
        (
            "store-retention",
            "INSERT INTO pending_addresses (id, token_hash, account_id, email, requested_at, expires_at)
             VALUES (4711, zeroblob(32), 1, x'00', 1, 2)",
            "DELETE FROM pending_addresses WHERE id = 4711",
        ),
        (
            "store-retention",
            "INSERT INTO accounts (id, email, email_hash, confirmation, created_at, cancelled_at)
             VALUES (4711, x'00', zeroblob(32), 'of-age', 1, 2)",
            "DELETE FROM accounts WHERE id = 4711",
        ),
        (
            "store-retention",
            "INSERT INTO staff_log (number, at, uid, verb, data, hash)
             VALUES (0, 1, 0, 'account show', 'e-mail', zeroblob(32))",
            "DELETE FROM staff_log WHERE number = 0",
        ),
        (
            "store-retention",
            "INSERT INTO disclosures
                 (number, at, uid, account_id, basis, reference, recipient, content_hash, hash)
             VALUES (0, 1, 0, 1, 'consent', x'00', x'00', zeroblob(32), zeroblob(32))",
            "DELETE FROM disclosures WHERE number = 0",
        ),
        (
            "store-retention",
            "INSERT INTO letters (id, kind, content, queued_at, state, state_since, due_at, attempts)
             VALUES (4711, 'address', x'00', 1, 'queued', 1, 4000000000, 0)",
            "DELETE FROM letters WHERE id = 4711",
        ),
    ];
    for (id, plant, remove) in planted {
        audited.sees(id, || execute(gateway, plant), |()| execute(gateway, remove));
    }
}

#[test]
fn file_that_others_may_use_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let data_dir = audited.gateway.data_dir().display();
    let (store, socket) = (audited.gateway.store(), audited.gateway.socket());
    let planted = [
        (store.display().to_string(), "640", "600"),
        (format!("{data_dir}/gateway.key"), "604", "600"),
        (format!("{data_dir}/data.key"), "620", "600"),
        (format!("{data_dir}"), "777", "755"),
        (socket.display().to_string(), "666", "660"),
    ];
    for (path, planted, kept) in planted {
        let chmod = |mode: &str| format!("chmod {mode} {path}");
        audited.sees_lines("file-modes", &chmod(planted), &chmod(kept));
    }
}

#[test]
fn file_that_no_gateway_keeps_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let kept = audited.gateway.data_dir().join("traffic.log");
    let keep = |owner: Option<u32>| {
        fs::write(&kept, "").unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&kept, owner, owner).unwrap();
    };
    let remove = |()| fs::remove_file(&kept).unwrap();
    let gateways = fs::metadata(audited.gateway.store()).unwrap().uid();
    audited.sees("data-directory", || keep(Some(gateways)), remove);
    audited.sees_as("data-directory", "WARN", || keep(Some(0)), remove);
}

#[test]
fn address_in_the_log_and_a_changed_network_are_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let log = audited.gateway.data_dir().with_extension("log");
    for said in ["to 203.0.113.9", "of ann@example.org", "2001:db8::9"] {
        let len = fs::metadata(&log).unwrap().len();
        audited.sees(
            "log-content",
            || writeln!(File::options().append(true).open(&log).unwrap(), "{said}").unwrap(),
            |()| File::options().write(true).open(&log).unwrap().set_len(len).unwrap(),
        );
    }
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let write = |value| format!("echo {value} > /proc/sys/net/{key}");
        audited.sees_lines("network-drift", &write(0), &write(1));
    }
}

#[test]
fn settings_file_that_was_changed_since_the_start_is_seen() {
    let lab = Lab::new(0);
    let path = lab.dir().join("tacit.toml");
    fs::write(&path, "device-limit = 7\n").unwrap();
    let audited = Audited::start_with(&lab, &["--config", path.to_str().unwrap()]);
    audited.sees(
        "config-drift",
        || fs::write(&path, "device-limit = 8\n").unwrap(),
        |()| fs::write(&path, "device-limit = 7\n").unwrap(),
    );
    let away = path.with_extension("away");
    audited.sees(
        "config-drift",
        || fs::rename(&path, &away).unwrap(),
        |()| fs::rename(&away, &path).unwrap(),
    );
}
