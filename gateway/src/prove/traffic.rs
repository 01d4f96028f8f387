//! The traffic of the experiment: for each mark what is said to whom, in the form in which it travels.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::ensure;
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    mark::{self, Family, Mark, Value},
    namespace::Namespace,
    target::Arrival,
};

/// How often a datagram is sent before it counts as lost; the first ones wait for the handshake.
const TRIES: usize = 8;
/// How long its echo may take.
const ECHO_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a connection may take in all.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two pieces, so that they travel in packets of their own.
const PAUSE: Duration = Duration::from_millis(20);

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

impl Transport {
    /// The protocol in the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// One thing that a client says.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// Number of the mark in what is said.
    pub(super) mark: usize,
    /// Number of the mark that is the destination.
    pub(super) destination: usize,
    /// By which protocol.
    pub(super) transport: Transport,
    /// How the mark is written there.
    pub(super) written: Written,
}

/// How a mark is written in what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The name in a DNS question.
    DnsQuestion,
    /// The server's name in a TLS greeting.
    TlsGreeting,
    /// The path of an HTTP request.
    HttpPath,
    /// A cookie of an HTTP request.
    HttpCookie,
    /// As it is.
    Plain,
    /// Behind the header of a compressed stream.
    Compressed,
    /// In base64.
    Base64,
    /// In hexadecimal digits.
    Hex,
    /// In UTF-16.
    Utf16,
    /// From the last byte to the first.
    Reversed,
    /// One half in a packet, the other in the next.
    Split,
}

/// What each client says: how the mark is written, what the report calls it, by which protocol, to which port.
const PLAN: &[(Written, &str, Transport, Option<u16>)] = &[
    (Written::DnsQuestion, "DNS name", Transport::Udp, Some(53)),
    (Written::TlsGreeting, "TLS server name (SNI)", Transport::Tcp, Some(443)),
    (Written::HttpPath, "HTTP path", Transport::Tcp, Some(80)),
    (Written::HttpCookie, "HTTP cookie", Transport::Tcp, None),
    (Written::Plain, "payload", Transport::Udp, None),
    (Written::Compressed, "payload that looks compressed", Transport::Udp, None),
    (Written::Base64, "payload in base64", Transport::Udp, None),
    (Written::Hex, "payload in hexadecimal", Transport::Udp, None),
    (Written::Utf16, "payload in UTF-16", Transport::Tcp, None),
    (Written::Reversed, "payload reversed", Transport::Tcp, None),
    (Written::Split, "payload split across packets", Transport::Udp, None),
    (Written::Split, "payload split across segments", Transport::Tcp, None),
];

/// Adds the marks of what client `client` says, and where to, and returns what it says.
///
/// Every destination is an address and port of its own; the families take turns.
pub(super) fn plan(client: &str, marks: &mut Vec<Mark>) -> Vec<Exchange> {
    let families = [Family::V4, Family::V6].into_iter().cycle();
    PLAN.iter()
        .zip(families)
        .map(|((written, what, transport, port), family)| {
            let port = port.unwrap_or_else(mark::port);
            let content = format!("{what}, client {client}");
            let content = match written {
                Written::Compressed => Mark::bytes(content),
                _ => Mark::text(content),
            };
            marks.push(content);
            marks.push(Mark::destination(
                format!("destination of the {what}, client {client}"),
                family,
                port,
            ));
            let mark = marks.len() - 2;
            Exchange { mark, destination: mark + 1, transport: *transport, written: *written }
        })
        .collect()
}

impl Exchange {
    /// Where it goes.
    pub(super) fn to(&self, marks: &[Mark]) -> Option<SocketAddr> {
        match marks[self.destination].value {
            Value::Destination(to) => Some(to),
            _ => None,
        }
    }

    /// What is said, packet by packet.
    fn pieces(&self, marks: &[Mark]) -> Vec<Vec<u8>> {
        let content = marks[self.mark].content();
        match self.written {
            Written::DnsQuestion => vec![dns_question(&content)],
            Written::TlsGreeting => vec![tls_greeting(&content)],
            Written::HttpPath => vec![http_request(&content, b"-")],
            Written::HttpCookie => vec![http_request(b"-", &content)],
            Written::Plain => vec![[b"here it is: ", content.as_slice(), b"."].concat()],
            Written::Compressed => vec![[&[0x78, 0x9c], content.as_slice()].concat()],
            Written::Base64 => vec![BASE64_STANDARD.encode(&content).into_bytes()],
            Written::Hex => {
                vec![content.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()]
            }
            Written::Utf16 => vec![content.iter().flat_map(|byte| [*byte, 0]).collect()],
            Written::Reversed => vec![content.into_iter().rev().collect()],
            Written::Split => {
                content.chunks(content.len().div_ceil(2)).map(<[u8]>::to_vec).collect()
            }
        }
    }

    /// Says it from within the client's namespace; the answer must be an echo.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn say(&self, client: &Namespace, marks: &[Mark]) -> anyhow::Result<()> {
        let Some(to) = self.to(marks) else { return Ok(()) };
        let pieces = self.pieces(marks);
        client.within(|| match self.transport {
            Transport::Udp => pieces.iter().try_for_each(|piece| send_datagram(to, piece)),
            Transport::Tcp => send_stream(to, &pieces),
        })
    }

    /// Whether all of it came to where it was sent.
    pub(super) fn arrived(&self, marks: &[Mark], arrivals: &[Arrival]) -> bool {
        let here = |arrival: &&Arrival| {
            Some(arrival.to) == self.to(marks) && arrival.transport == self.transport
        };
        let pieces = self.pieces(marks);
        match self.transport {
            Transport::Udp => pieces
                .iter()
                .all(|piece| arrivals.iter().filter(here).any(|arrival| arrival.bytes == *piece)),
            Transport::Tcp => {
                arrivals.iter().filter(here).any(|arrival| arrival.bytes == pieces.concat())
            }
        }
    }
}

/// What came to a server and is not what was said to it, in words and each once.
pub(super) fn never_said(
    exchanges: &[&Exchange],
    marks: &[Mark],
    arrivals: &[Arrival],
) -> BTreeSet<String> {
    let was_said = |arrival: &Arrival| {
        let mut here = exchanges.iter().filter(|exchange| {
            exchange.transport == arrival.transport && exchange.to(marks) == Some(arrival.to)
        });
        here.any(|exchange| {
            let pieces = exchange.pieces(marks);
            match arrival.transport {
                Transport::Udp => pieces.contains(&arrival.bytes),
                Transport::Tcp => pieces.concat() == arrival.bytes,
            }
        })
    };
    let others = arrivals.iter().filter(|arrival| !was_said(arrival));
    others.map(|arrival| format!("{} to {}", arrival.transport.name(), arrival.to)).collect()
}

fn send_datagram(to: SocketAddr, datagram: &[u8]) -> anyhow::Result<()> {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ECHO_PATIENCE))?;
    let mut buffer = vec![0; 65_536];
    let mut is_answered = || socket.recv(&mut buffer).is_ok_and(|len| buffer[..len] == *datagram);
    for others in 0..TRIES {
        socket.send(datagram)?;
        if is_answered() {
            // To an echo that finds no socket any more the kernel would answer that nobody is there, which nobody has sent.
            (0..others).take_while(|_| is_answered()).for_each(drop);
            return Ok(());
        }
    }
    anyhow::bail!("a datagram to {to} was not answered")
}

fn send_stream(to: SocketAddr, pieces: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for piece in pieces {
        stream.write_all(piece)?;
        thread::sleep(PAUSE);
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer == pieces.concat(), "a connection to {to} was not answered");
    Ok(())
}

/// Asks for the IPv4 address of `name`.example (RFC 1035).
fn dns_question(name: &[u8]) -> Vec<u8> {
    // Any number; recursion desired, one question.
    let mut question = vec![0x7a, 0xc1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [name, b"example"] {
        question.push(label.len() as u8);
        question.extend(label);
    }
    question.extend([0, 0, 1, 0, 1]);
    question
}

/// A ClientHello of TLS 1.3 that names the server `name`.example (RFC 8446, RFC 6066).
fn tls_greeting(name: &[u8]) -> Vec<u8> {
    let host = [name, b".example"].concat();
    let with_len = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let server_name = with_len(&[&[0], with_len(&host).as_slice()].concat());
    let extensions = [
        [&[0, 0], with_len(&server_name).as_slice()].concat(),
        // Supported versions: TLS 1.3.
        vec![0, 43, 0, 3, 2, 3, 4],
    ];
    let hello = [
        &[3, 3],
        // What is random for a client that goes on.
        [0x7a; 32].as_slice(),
        // No session, one cipher, no compression.
        &[0, 0, 2, 0x13, 1, 1, 0],
        &with_len(&extensions.concat()),
    ]
    .concat();
    let handshake = [&[1, 0], with_len(&hello).as_slice()].concat();
    [&[22, 3, 1], with_len(&handshake).as_slice()].concat()
}

fn http_request(path: &[u8], cookie: &[u8]) -> Vec<u8> {
    [
        b"GET /".as_slice(),
        path,
        b" HTTP/1.1\r\nHost: www.example\r\nCookie: visit=",
        cookie,
        b"\r\nConnection: close\r\n\r\n",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_traffic_carries_its_mark_and_has_a_destination_of_its_own() {
        let mut marks = Vec::new();
        let exchanges = plan("A", &mut marks);
        assert_eq!(marks.len(), 2 * PLAN.len());
        let mut destinations: Vec<_> =
            exchanges.iter().map(|exchange| exchange.to(&marks).unwrap()).collect();
        destinations.sort();
        destinations.dedup();
        assert_eq!(destinations.len(), PLAN.len());
        for exchange in &exchanges {
            let search = super::super::search::Search::new(&marks).unwrap();
            let found = search.bytes(&exchange.pieces(&marks)[0]).hits;
            assert_eq!(found.len(), 1, "{exchange:?}");
            assert_eq!(found[0].mark, exchange.mark);
        }
    }

    #[test]
    fn half_a_message_has_not_arrived() {
        let mut marks = Vec::new();
        let exchanges = plan("A", &mut marks);
        let split = exchanges
            .iter()
            .find(|exchange| {
                exchange.written == Written::Split && exchange.transport == Transport::Udp
            })
            .unwrap();
        let to = split.to(&marks).unwrap();
        let arrival =
            |bytes: &Vec<u8>| Arrival { to, transport: Transport::Udp, bytes: bytes.clone() };
        let pieces = split.pieces(&marks);
        assert!(!split.arrived(&marks, &[arrival(&pieces[0])]));
        let all: Vec<_> = pieces.iter().map(arrival).collect();
        assert!(split.arrived(&marks, &all));
        assert!(never_said(&[split], &marks, &all).is_empty());
    }

    #[test]
    fn what_no_client_said_is_told() {
        let mut marks = Vec::new();
        let exchanges = plan("A", &mut marks);
        let said = &exchanges[0];
        let (to, transport) = (said.to(&marks).unwrap(), said.transport);
        let arrival = Arrival { to, transport, bytes: b"of somebody else".to_vec() };
        assert_eq!(never_said(&[said], &marks, &[arrival]).len(), 1);
    }
}
