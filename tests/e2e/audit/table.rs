//! Every check, and the test that plants what it must see.

use std::collections::{BTreeMap, BTreeSet};

use tacit_tests::{Gateway, Lab};

/// The files that have tests which plant, and what is in them.
const FILES: &[(&str, &str)] = &[
    ("collector", include_str!("collector.rs")),
    ("files", include_str!("files.rs")),
    ("firewall", include_str!("firewall.rs")),
    ("host", include_str!("host.rs")),
    ("kernel", include_str!("kernel.rs")),
    ("network", include_str!("network.rs")),
    ("processes", include_str!("processes.rs")),
    ("restarted", include_str!("restarted.rs")),
];

/// Checks by the test that plants against them. A test plants, sees exactly that check say so, removes and sees it pass.
const PLANTS: &[(&str, &[&str])] = &[
    ("collector::metric_that_names_somebody_is_seen", &["metrics-labels"]),
    ("files::store_that_holds_more_than_it_may_is_seen", &["store-retention", "store-schema"]),
    ("files::file_that_others_may_use_is_seen", &["file-modes"]),
    ("files::file_that_no_gateway_keeps_is_seen", &["data-directory"]),
    ("files::address_in_the_log_and_a_changed_network_are_seen", &["log-content", "network-drift"]),
    ("files::settings_file_that_was_changed_since_the_start_is_seen", &["config-drift"]),
    (
        "firewall::rule_that_records_or_copies_packets_is_seen",
        &[
            "firewall-copies",
            "firewall-counters",
            "firewall-log",
            "firewall-queue",
            "firewall-sets",
            "firewall-trace",
            "firewall-unknown",
        ],
    ),
    ("firewall::rules_of_iptables_are_seen", &["firewall-legacy"]),
    ("host::swap_in_the_clear_is_seen", &["swap"]),
    ("host::module_that_exports_flows_is_seen", &["kernel-modules"]),
    ("host::scope_of_ptrace_is_told", &["ptrace-scope"]),
    (
        "host::core_dumps_that_go_to_a_program_hold_no_memory_of_the_gateway",
        &["core-pattern", "starter-memory"],
    ),
    ("kernel::kernel_that_traces_the_network_or_a_program_is_seen", &["kernel-tracing"]),
    ("kernel::kernel_that_audits_network_calls_is_seen_where_it_can_be_asked", &["kernel-audit"]),
    (
        "network::whoever_watches_an_interface_is_seen",
        &[
            "interface-mirrors",
            "interface-programs",
            "packet-sockets",
            "raw-sockets",
            "traffic-control",
            "tunnel-queues",
        ],
    ),
    (
        "network::whoever_has_connections_recorded_or_told_is_seen",
        &[
            "conntrack-accounting",
            "conntrack-ended-sessions",
            "conntrack-listeners",
            "conntrack-timestamps",
            "kernel-packet-log",
            "packet-listeners",
        ],
    ),
    ("network::program_that_could_watch_the_kernel_is_seen", &["bpf-programs"]),
    ("processes::program_that_has_events_written_down_is_seen", &["perf-events"]),
    (
        "processes::hole_in_the_seal_around_the_forwarder_is_seen",
        &["forwarder-limits", "forwarder-memory", "forwarder-tracer"],
    ),
    (
        "processes::hole_in_the_seal_around_control_or_the_starter_is_seen",
        &["control-memory", "control-tracer", "starter-memory"],
    ),
    (
        "processes::forwarder_with_a_right_is_seen",
        &["forwarder-capabilities", "forwarder-system-calls", "forwarder-user"],
    ),
    (
        "processes::control_with_a_right_is_seen",
        &["control-capabilities", "control-system-calls", "control-user"],
    ),
    ("processes::starter_with_a_right_is_seen", &["starter-capabilities", "starter-system-calls"]),
    ("processes::forwarder_with_a_descriptor_too_many_is_seen", &["forwarder-descriptors"]),
    ("processes::control_with_a_descriptor_that_sees_packets_is_seen", &["control-descriptors"]),
    ("processes::control_with_a_file_open_that_no_gateway_keeps_is_seen", &["data-directory"]),
    ("processes::forwarder_that_shares_a_namespace_is_seen", &["forwarder-namespaces"]),
    ("restarted::talkative_log_and_one_that_is_kept_are_told", &["log-destination", "log-level"]),
    ("restarted::program_that_is_no_longer_on_the_disk_is_seen", &["executable"]),
    ("restarted::program_that_nobody_else_can_build_is_told", &["build-id"]),
    ("restarted::process_that_is_not_the_gateways_own_is_seen", &["gateway-processes"]),
];

/// What several tests plant.
const SHARED: &str = "sees_who_watches";

/// The body of a test, with what it shares with others; none if there is no such test.
fn body(test: &str) -> Option<String> {
    let (file, name) = test.split_once("::")?;
    let text = FILES.iter().find(|(other, _)| *other == file)?.1;
    let (_, rest) = text.split_once(&format!("#[test]\nfn {name}() {{\n"))?;
    let own = rest.split_once("\n}\n")?.0;
    if !own.contains(&format!("audited.{SHARED}(")) {
        return Some(own.to_owned());
    }
    let (_, rest) = include_str!("mod.rs").split_once(&format!("fn {SHARED}("))?;
    Some(format!("{own}{}", rest.split_once("\n    }\n")?.0))
}

#[test]
fn every_check_has_a_test_that_plants_against_it() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let listed = gateway.json(&["audit", "--list"]);
    let checks: BTreeSet<&str> =
        listed.as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    let mut planted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (test, ids) in PLANTS {
        let body = body(test).unwrap_or_else(|| panic!("there is no test {test}"));
        for id in *ids {
            assert!(body.contains(&format!("\"{id}\"")), "{test} plants nothing against {id}");
            planted.entry(id).or_default().push(test);
        }
    }
    let missing: Vec<_> = checks.iter().filter(|id| !planted.contains_key(**id)).collect();
    assert!(missing.is_empty(), "no test plants against {missing:?}");
    let gone: Vec<_> = planted.keys().filter(|id| !checks.contains(**id)).collect();
    assert!(gone.is_empty(), "there is no check {gone:?}");
}
