use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use tacit_tests::Lab;

use super::Audited;

/// Where the gateway's metrics are, and where those are that somebody puts in their place.
const METRICS: &str = "127.0.0.1:9586";
const OTHERS: &str = "127.0.0.1:9587";

/// Answers as the gateway does, with a line more, for as long as the lab lasts.
fn tell_more(lab: &Lab, line: &'static str) {
    let listener = lab.gateway.within(|| TcpListener::bind(OTHERS).unwrap());
    let answer = lab.gateway.within(|| {
        let mut gateways = TcpStream::connect(METRICS).unwrap();
        write!(gateways, "GET /metrics HTTP/1.0\r\nHost: {METRICS}\r\n\r\n").unwrap();
        let mut answer = String::new();
        gateways.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap();
        format!("{status}\r\n\r\n{line}\n{body}")
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // To close a connection with something unread would cut off the answer.
            let asked = BufReader::new(&stream).lines().map_while(Result::ok);
            asked.take_while(|line| !line.is_empty()).for_each(drop);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn metric_that_names_somebody_is_seen() {
    for line in [
        "tacit_inbound_bytes_total{peer=\"laptop\"} 1",
        "tacit_drops_total{reason=\"203.0.113.9\"} 1",
    ] {
        let lab = Lab::new(0);
        let audited = Audited::start(&lab);
        tell_more(&lab, line);
        let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
        audited.sees_lines(
            "metrics-labels",
            &format!(
                "nft add table ip spy
                 nft add chain ip spy c '{{ type nat hook output priority -100; }}'
                 nft add rule ip spy c tcp dport {} redirect to :{}",
                port(METRICS),
                port(OTHERS)
            ),
            "nft delete table ip spy",
        );
    }
}
