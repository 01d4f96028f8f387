//! The metrics endpoint: totals of the whole gateway for those who look after it. No label tells people apart, and
//! while there are few sessions nothing that a forwarder counts is, for then a total is somebody's.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use serde::{Deserialize, Serialize};

use crate::{bounded::Bounded, config::Settings, control::Gateway, log, program};

/// Where metrics are unless told otherwise; a gateway that finds it taken goes on without.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9586);

/// How many may ask at once.
const CONNECTIONS: usize = 16;

/// How long a connection lasts at the most.
const LONGEST: Duration = Duration::from_secs(10);

/// What OpenMetrics calls itself.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where an operator wants metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum MetricsAddress {
    /// Nowhere.
    Off,
    /// At this TCP address.
    At(SocketAddr),
}

impl FromStr for MetricsAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|_| "must be ADDR:PORT or `off`"),
        }
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MetricsAddress> for String {
    fn from(address: MetricsAddress) -> Self {
        match address {
            MetricsAddress::Off => "off".into(),
            MetricsAddress::At(address) => address.to_string(),
        }
    }
}

/// Listens where the operator wants, or at the default address if it is free.
///
/// # Errors
/// If the address that the operator named cannot be had.
pub(crate) fn listen(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    match settings.metrics {
        Some(MetricsAddress::Off) => Ok(None),
        Some(MetricsAddress::At(address)) => {
            let listener = TcpListener::bind(address);
            listener.map(Some).context("`metrics` is an address that cannot be listened on")
        }
        None => match TcpListener::bind(DEFAULT) {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                log::metrics_off(&error);
                Ok(None)
            }
        },
    }
}

/// Answers at `listener`.
///
/// # Errors
/// If the socket fails.
pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(gateway);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(Bounded::new(listener, CONNECTIONS, LONGEST), router).await
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> (StatusCode, &'static str) {
    if gateway.is_draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the gateway is drained; tunnels go on\n");
    }
    if gateway.store_state.away_since().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store is away; tunnels go on\n");
    }
    match gateway.forwarder.status().pid {
        Some(_) => (StatusCode::OK, "ready\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the forwarder is starting again\n"),
    }
}

async fn metrics(
    State(gateway): State<Arc<Gateway>>,
) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let text = exposition(gateway).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text))
}

fn exposition(gateway: Arc<Gateway>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("tacit");
    let build = Info::new([("version", program::VERSION), ("commit", program::COMMIT)]);
    registry.register("build", "The program", build);
    registry.register_collector(Box::new(Totals::of(&gateway)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// What the whole gateway comes to at one time.
#[derive(Debug)]
struct Totals {
    gauges: Vec<(&'static str, &'static str, u64)>,
    times: Vec<(&'static str, &'static str, Duration)>,
    counters: Vec<(&'static str, &'static str, u64)>,
    drops: Vec<(String, u64)>,
}

impl Totals {
    fn of(gateway: &Gateway) -> Self {
        let forwarder = &gateway.forwarder;
        let (status, sessions) = (forwarder.status(), forwarder.sessions());
        let of_many = forwarder.counted_of_many();
        let counters = vec![
            ("forwarder_restarts", "Forwarders that had to be replaced", status.restarts),
            ("forwarder_flagged", "Forwarders that said more than they may", status.flagged),
            (
                "site_requests_refused",
                "Requests at the customer site that could not be answered as they were asked",
                gateway.site_errors.refused(),
            ),
            (
                "site_requests_failed",
                "Requests at which the customer site itself failed",
                gateway.site_errors.failed(),
            ),
            (
                "handshakes",
                "Handshakes completed, while there are many sessions",
                of_many.handshakes,
            ),
            (
                "inbound_packets",
                "Packets from devices, while there are many sessions",
                of_many.inbound_packets,
            ),
            (
                "inbound_bytes",
                "Bytes from devices, while there are many sessions",
                of_many.inbound_bytes,
            ),
            (
                "outbound_packets",
                "Packets to devices, while there are many sessions",
                of_many.outbound_packets,
            ),
            (
                "outbound_bytes",
                "Bytes to devices, while there are many sessions",
                of_many.outbound_bytes,
            ),
        ];
        Self {
            gauges: vec![
                ("sessions", "Sessions now", sessions),
                ("forwarder_up", "Whether there is a forwarder", status.pid.is_some().into()),
                (
                    "store_up",
                    "Whether the store can be reached",
                    gateway.store_state.away_since().is_none().into(),
                ),
                (
                    "handshakes_waiting",
                    "Handshake messages that the forwarder has not looked at yet",
                    forwarder.handshakes_waiting(),
                ),
                (
                    "former_key_sessions",
                    "Sessions now with the gateway's former key",
                    gateway.former_key_sessions(),
                ),
                (
                    "session_changes_waiting",
                    "Begins and ends of sessions that the store has not taken yet",
                    gateway.store_state.waiting() as u64,
                ),
            ],
            times: vec![(
                "store_latency_seconds",
                "How long the store took for the last sign of life, one each 30 seconds",
                gateway.store_state.latency(),
            )],
            counters,
            drops: of_many.drops.into_iter().collect(),
        }
    }
}

impl Collector for Totals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in &self.gauges {
            let gauge = ConstGauge::new(*value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, time) in &self.times {
            let gauge = ConstGauge::new(time.as_secs_f64());
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        for (name, help, value) in &self.counters {
            let counter = ConstCounter::new(*value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Dropped packets and messages by reason, while there are many sessions";
        let mut drops = encoder.encode_descriptor("drops", help, None, MetricType::Counter)?;
        for (reason, count) in &self.drops {
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(*count).encode(drops.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_one_or_off() {
        assert_eq!("off".parse(), Ok(MetricsAddress::Off));
        let address = "127.0.0.1:9586".parse().unwrap();
        assert_eq!("127.0.0.1:9586".parse(), Ok(MetricsAddress::At(address)));
        assert!("9586".parse::<MetricsAddress>().is_err());
        assert_eq!(String::from(MetricsAddress::At(address)), "127.0.0.1:9586");
    }
}
