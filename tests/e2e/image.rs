//! The image, built and run by a real Docker engine.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tacit_tests::{
    Client, Docker, Implementation, Lab,
    config::Config,
    docker::CONTAINERS_V6,
    gateway::program,
    lab::{DNS_V4, GATEWAY_V4, GATEWAY_V6, TARGET_V4, TARGET_V6},
    transfer::{Direction, transfer},
};

const EMAIL: &str = "someone@example.org";

/// The largest that the image may be, in bytes.
const LARGEST: u64 = 25_000_000;

/// The files that the image has, and no other.
const FILES: [&str; 2] = ["etc/ssl/certs/ca-certificates.crt", "usr/bin/tacit"];

fn build(lab: &Lab, docker: &Docker<'_>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/build-image");
    let mut command = Command::new(script);
    docker.environment(&mut command).env("CARGO_TARGET_DIR", lab.dir());
    command.arg("--program").arg(fs::canonicalize(program()).unwrap());
    let output = lab.gateway.output(&mut command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "deploy/build-image: {stderr}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// The files of all of the image's layers.
fn files(lab: &Lab) -> Vec<String> {
    let list = "docker save tacit > /run/image.tar
        for layer in $(tar -tf /run/image.tar | grep 'layer.tar$'); do
            tar -xOf /run/image.tar $layer | tar -t
        done
        rm /run/image.tar";
    let list = lab.gateway.sh(&format!("export DOCKER_HOST=unix:///run/docker.sock\n{list}"));
    let mut files: Vec<_> =
        list.lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect();
    files.sort();
    files
}

/// Starts a container of the image as deploy/README.md says.
fn run(lab: &Lab, docker: &Docker<'_>) {
    let endpoint = format!("TACIT_ENDPOINT={GATEWAY_V4}");
    let dns = format!("TACIT_DNS={DNS_V4}");
    let data = format!("{}:/var/lib/tacit", lab.dir().join("data").display());
    docker.text(&[
        "run",
        "--detach",
        "--name",
        "tacit",
        "--cap-add",
        "NET_ADMIN",
        "--cap-add",
        "IPC_LOCK",
        "--device",
        "/dev/net/tun",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "net.ipv6.conf.all.disable_ipv6=0",
        "--sysctl",
        "net.ipv6.conf.all.forwarding=1",
        "--publish",
        "51820:51820/udp",
        "--volume",
        &data,
        "--env",
        &endpoint,
        "--env",
        &dns,
        "--health-interval",
        "1s",
        "tacit",
    ]);
    docker.wait_until_healthy("tacit");
}

fn exec(docker: &Docker<'_>, arguments: &[&str]) -> String {
    docker.text(&[&["exec", "tacit", "tacit"], arguments].concat())
}

/// Audits in the container with all rights, as `docker exec --privileged` does where root has them all to give.
fn audit(lab: &Lab, docker: &Docker<'_>) -> Output {
    let pid = docker.text(&["inspect", "--format", "{{.State.Pid}}", "tacit"]);
    let mut command = Command::new("nsenter");
    command.args(["--target", pid.trim(), "--mount", "--uts", "--ipc", "--net", "--pid", "--root"]);
    command.args(["/usr/bin/tacit", "audit", "--json"]);
    lab.gateway.output(&mut command)
}

#[test]
fn image_is_one_program_that_forwards_and_passes_the_audit() {
    let lab = Lab::new(1);
    let docker = Docker::start(&lab.gateway, &lab.dir().join("docker"));
    build(&lab, &docker);
    let image: Value = serde_json::from_str(&docker.text(&["image", "inspect", "tacit"])).unwrap();
    let size = image[0]["Size"].as_u64().unwrap();
    println!("the image has {size} bytes");
    assert_eq!(files(&lab), FILES);
    let labels = &image[0]["Config"]["Labels"];
    let version =
        String::from_utf8(Command::new(program()).arg("--version").output().unwrap().stdout);
    let revision = labels["org.opencontainers.image.revision"].as_str().unwrap();
    assert!(version.unwrap().contains(&format!("(commit {revision},")), "{labels}");
    let parts = fs::read(lab.dir().join("image/tacit.cdx.json")).unwrap();
    let parts: Value = serde_json::from_slice(&parts).unwrap();
    let names: Vec<_> = parts["components"].as_array().unwrap().iter().collect();
    for name in ["boringtun", "rustls", "sqlx"] {
        let part = names.iter().find(|part| part["name"] == name).expect(name);
        assert_eq!(part["hashes"][0]["content"].as_str().unwrap().len(), 64, "{part}");
    }

    run(&lab, &docker);
    exec(&docker, &["account", "add", EMAIL, "--of-age"]);
    let config = Config::parse(&exec(&docker, &["device", "add", EMAIL, "laptop"]));
    lab.target_namespace.sh(&format!("ip -6 route add {CONTAINERS_V6} via {GATEWAY_V6}"));
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    for target in [TARGET_V4.into(), TARGET_V6.into()] {
        for direction in [Direction::Up, Direction::Down] {
            transfer(client.namespace, direction, target, 1, 1_000_000).unwrap();
        }
    }

    let audit = audit(&lab, &docker);
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap();
    let told = |verdict: &str| {
        let checks = report["checks"].as_array().unwrap().iter();
        checks.filter(|check| check["verdict"] == verdict).cloned().collect::<Vec<_>>()
    };
    println!("audit in the container: {} pass, {} warn", told("PASS").len(), told("WARN").len());
    assert_eq!(told("FAIL"), [] as [Value; 0]);
    assert_eq!(audit.status.code(), Some(0));

    docker.text(&["stop", "tacit"]);
    let ended = docker.text(&["inspect", "--format", "{{.State.ExitCode}}", "tacit"]);
    assert_eq!(ended.trim(), "0", "{:?}", docker.docker(&["logs", "tacit"]));
    assert!(size < LARGEST, "the image has {size} bytes");
}
