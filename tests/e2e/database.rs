//! A gateway whose store is in a database of a real PostgreSQL server, reached over TCP.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::{wait_for, wait_until},
    lab::TARGET_V4,
    postgres::Postgres,
    target::ECHO_PORT,
};

const EMAIL: &str = "someone@example.org";
const PASSWORD: &str = "a pass/word?with@signs";
/// The user's own database, the user, and where the server listens.
const DATABASE: &str = "postgres://vpn@127.0.0.1:5432/tacit";

/// A server that lets in who comes by TLS and with the password, as a user who has nothing but a database.
struct SecuredServer<'lab> {
    lab: &'lab Lab,
    server: Postgres<'lab>,
    authority: PathBuf,
}

impl<'lab> SecuredServer<'lab> {
    fn start(lab: &'lab Lab) -> Self {
        let dir = lab.dir().join("postgres");
        let logging =
            ["-c", "logging_collector=on", "-c", "log_line_prefix=%p ", "-c", "log_statement=all"];
        let server = Postgres::start_with(&dir, Some(&lab.gateway), &logging);
        let data = dir.join("data");
        let authority = make_authority(lab, "authority");
        let subject = "/CN=db.test -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
        make_certificate(lab, &data.join("server"), &format!("{subject} {}", by("authority")));
        lab.gateway.sh(&format!(
            "cd {}; chown postgres: server.key server.crt
             printf 'local all tacit trust\\nhostssl all all 127.0.0.1/32 scram-sha-256\\n' > pg_hba.conf",
            data.display()
        ));
        for sql in [
            "ALTER SYSTEM SET ssl = on",
            &format!("CREATE ROLE vpn LOGIN PASSWORD '{PASSWORD}'"),
            "CREATE DATABASE tacit OWNER vpn",
            "SELECT pg_reload_conf()",
        ] {
            let _ = server.sql("postgres", sql);
        }
        let shown = || server.sql("postgres", "SHOW ssl").trim() == "on";
        wait_until("TLS at the server", Duration::from_secs(5), shown);
        Self { lab, server, authority }
    }

    /// A private file with a password.
    fn password_file(&self, password: &str) -> String {
        let path = self.lab.dir().join("password");
        fs::write(&path, format!("{password}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// The database's address for who trusts the certificate in `root`.
    fn url(&self, root: &Path) -> String {
        format!("{DATABASE}?sslmode=verify-full&sslrootcert={}", root.display())
    }

    fn gateway(&self, url: &str, password: &str) -> Gateway<'lab> {
        let file = self.password_file(password);
        let settings = ["--database", url, "--database-password-file", &file];
        Gateway::stopped(self.lab, "gateway", &settings)
    }

    /// What the server was told since it runs, a statement a line: process and words.
    fn statements(&self) -> Vec<(u32, String)> {
        let files = fs::read_dir(self.lab.dir().join("postgres/data/log")).unwrap();
        let text: String =
            files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        let statement = |line: &str| {
            let (process, rest) = line.split_once(' ')?;
            let (_, words) =
                rest.split_once(" statement: ").or_else(|| rest.split_once(" execute "))?;
            let words = words.split_once(": ").map_or(words, |(_, words)| words);
            Some((process.parse().ok()?, words.to_owned()))
        };
        text.lines().filter_map(statement).collect()
    }
}

/// Makes a certificate and its key, and returns where the certificate is.
fn make_certificate(lab: &Lab, path: &Path, more: &str) -> PathBuf {
    lab.gateway.sh(&format!(
        "cd {}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -keyout {path}.key -out {path}.crt -subj {more} 2>&1; chmod 600 {path}.key",
        lab.dir().display(),
        path = path.display(),
    ));
    path.with_extension("crt")
}

fn make_authority(lab: &Lab, name: &str) -> PathBuf {
    make_certificate(lab, &lab.dir().join(name), &format!("/CN={name}"))
}

/// Says whose key signs a certificate.
fn by(authority: &str) -> String {
    format!("-CA {authority}.crt -CAkey {authority}.key")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn database_is_reached_by_tls_with_the_right_root_and_password_alone() {
    let lab = Lab::new(0);
    let secured = SecuredServer::start(&lab);
    let other = make_authority(&lab, "other");
    let right = secured.url(&secured.authority);
    let refused = [
        (secured.url(&other), PASSWORD),
        (right.replace("127.0.0.1", "localhost"), PASSWORD),
        (format!("{DATABASE}?sslmode=verify-full"), PASSWORD),
        (format!("{DATABASE}?sslmode=disable"), PASSWORD),
        (right.clone(), "wrong"),
    ];
    for (url, password) in refused {
        let output = lab.gateway.output(&mut secured.gateway(&url, password).command());
        let said = stderr(&output);
        let line = said.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(1), "{url}: {said}");
        assert!(line.contains("`database`"), "{url}: {said}");
        assert!(!said.contains(PASSWORD) && !said.contains("wrong"), "{said}");
    }
    let mut gateway = secured.gateway(&right, PASSWORD);
    gateway.run();
    gateway.add_account(EMAIL);
    let ways = "SELECT DISTINCT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'vpn'";
    assert_eq!(secured.server.sql("postgres", ways).trim(), "t|TLSv1.3");
    assert_eq!(secured.server.sql("tacit", "SELECT COUNT(*) FROM accounts").trim(), "1");
    assert!(!gateway.log().contains(PASSWORD));
}

#[test]
fn audit_reads_the_database_and_changes_nothing_in_it() {
    let lab = Lab::new(0);
    let secured = SecuredServer::start(&lab);
    let mut gateway = secured.gateway(&secured.url(&secured.authority), PASSWORD);
    gateway.run();
    gateway.customer(EMAIL);
    let audit = ["audit", "--only", "store-schema", "--only", "store-retention"];
    assert_eq!(gateway.json(&audit)["verdict"], "PASS");
    // It alone asks for triggers.
    let auditor = || {
        let mut statements = secured.statements().into_iter();
        Some(statements.find(|(_, words)| words.contains("pg_trigger"))?.0)
    };
    let auditor = wait_for(Duration::from_secs(5), auditor).expect("what it asked");
    let told = secured.statements().into_iter().filter(|(process, _)| *process == auditor);
    let told: Vec<String> = told.map(|(_, words)| words).collect();
    let reads = |words: &String| words.starts_with("SELECT") || words.starts_with("SET ");
    assert!(told.iter().all(reads), "{told:?}");
    assert!(told[0].contains("default_transaction_read_only"), "{told:?}");

    let _ = secured.server.sql("tacit", "ALTER TABLE sessions ADD COLUMN destination TEXT");
    let output = gateway.cli(&audit);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("sessions.destination"));
}

#[test]
fn gateway_carries_on_when_its_database_was_away() {
    let lab = Lab::new(1);
    let mut secured = SecuredServer::start(&lab);
    let mut gateway = secured.gateway(&secured.url(&secured.authority), PASSWORD);
    gateway.run();
    let config = gateway.customer(EMAIL);
    let mut client = RawClient::connected(&lab.clients[0], &config);
    gateway.wait_for_sessions(EMAIL, 1);

    secured.server.stop();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"an established tunnel goes on"));
    let output = gateway.cli(&["account", "show", EMAIL]);
    let said = stderr(&output);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    secured.server.run();
    let answers = || gateway.cli(&["account", "show", EMAIL]).status.success();
    wait_until("answers from the database", Duration::from_secs(10), answers);
    gateway.add_device(EMAIL, "phone");
    assert_eq!(gateway.sessions(EMAIL).len(), 1);
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"after"));
}

#[test]
fn verb_waits_for_a_database_that_is_just_starting() {
    let lab = Lab::new(0);
    let mut secured = SecuredServer::start(&lab);
    let mut gateway = secured.gateway(&secured.url(&secured.authority), PASSWORD);
    gateway.run();
    gateway.add_account(EMAIL);
    secured.server.stop();
    std::thread::scope(|scope| {
        let verb = scope.spawn(|| gateway.cli(&["account", "list"]));
        std::thread::sleep(Duration::from_millis(500));
        secured.server.run();
        let output = verb.join().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(EMAIL));
    });
}
