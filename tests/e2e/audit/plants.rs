//! Violations that are made by system calls.
#![expect(
    unsafe_code,
    reason = "bpf(2), perf events, TUN queues and sockets of a protocol have no safe binding"
)]

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nlink::netlink::{
    Connection, Netfilter, Nflog, Nftables,
    netfilter::{ConntrackFilter, ConntrackGroup},
    nftables::{Expr, Family, RawExpr, Rule},
};
use tacit_tests::{Namespace, lab::TARGET_V4};
use tokio::runtime::Runtime;

/// Something that netlink keeps as long as its runtime.
pub(super) struct Held<T> {
    _value: T,
    _runtime: Runtime,
}

/// Does `work` in a namespace and keeps what it made.
fn hold<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> T + Send) -> Held<T> {
    namespace.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Held { _value: runtime.block_on(work()), _runtime: runtime }
    })
}

/// Listens to connections as they begin and end, as `conntrack -E` does.
pub(super) fn connection_listener(namespace: &Namespace) -> Held<Connection<Netfilter>> {
    hold(namespace, async || {
        let netfilter = Connection::<Netfilter>::new().unwrap();
        netfilter.subscribe(&[ConntrackGroup::New, ConntrackGroup::Destroy]).unwrap();
        netfilter
    })
}

/// Takes what rules log to group 5.
pub(super) fn log_group(namespace: &Namespace) -> Held<Connection<Nflog>> {
    hold(namespace, async || {
        let nflog = Connection::<Nflog>::new().unwrap();
        nflog.bind_group(5, 64).await.unwrap();
        nflog
    })
}

/// An attribute of a netlink message.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Adds a rule with an extension of iptables, a `target` or a `match`, to the chain `c` of the table `ip spy`.
///
/// Unlike iptables it has nothing else in it, so nothing counts.
fn extension_rule(namespace: &Namespace, kind: &str, name: &str, info: &[u8]) {
    let name = [name.as_bytes(), b"\0"].concat();
    let (revision, info) = (attribute(2, &[0; 4]), attribute(3, info));
    let extension = [attribute(1, &name), revision, info].concat();
    hold(namespace, async || {
        let nftables = Connection::<Nftables>::new().unwrap();
        let rule =
            Rule::new("spy", "c").family(Family::Ip).then(Expr::Raw(RawExpr::new(kind, extension)));
        nftables.add_rule(rule).await.unwrap();
    });
}

/// Adds a rule with the target NFQUEUE.
pub(super) fn queue_rule(namespace: &Namespace) {
    extension_rule(namespace, "target", "NFQUEUE", &[0; 8]);
}

/// Adds a rule that matches as a node of a cluster would, which the audit has never heard of.
pub(super) fn unheard_of_rule(namespace: &Namespace) {
    // One node, which is this one.
    let words: [u32; 4] = [1, 1, 0, 0];
    extension_rule(namespace, "match", "cluster", &words.map(u32::to_ne_bytes).concat());
}

/// Adds an element with a counter of its own to the set `s` of the table `ip spy`; nft asks for one in the set then.
pub(super) fn counting_element(namespace: &Namespace) {
    const BATCH_BEGIN: u16 = 16;
    const BATCH_END: u16 = 17;
    const NEW_ELEMENT: u16 = 10 << 8 | 12;
    const REQUEST_AND_CREATE: u16 = 1 | 0x400;
    const NFTABLES: u16 = 10;
    let message = |kind: u16, family: libc::c_int, resource: u16, attributes: &[u8]| {
        let mut bytes = ((20 + attributes.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(REQUEST_AND_CREATE.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([family as u8, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(attributes);
        bytes
    };
    let nested = |kind: u16, parts: &[Vec<u8>]| attribute(kind | 0x8000, &parts.concat());
    // NFTA_SET_ELEM_KEY with NFTA_DATA_VALUE, and NFTA_SET_ELEM_EXPR with a name and nothing else.
    let key = nested(1, &[attribute(1, &[203, 0, 113, 9])]);
    let counter = nested(7, &[attribute(1, b"counter\0"), nested(2, &[])]);
    let elements = nested(3, &[nested(1, &[key, counter])]);
    let attributes = [attribute(1, b"spy\0"), attribute(2, b"s\0"), elements].concat();
    let batch = [
        message(BATCH_BEGIN, libc::AF_UNSPEC, NFTABLES, &[]),
        message(NEW_ELEMENT, libc::AF_INET, 0, &attributes),
        message(BATCH_END, libc::AF_UNSPEC, NFTABLES, &[]),
    ]
    .concat();
    hold(namespace, async || {
        let nftables = Connection::<Nftables>::new().unwrap();
        nftables.socket().send(&batch).await.unwrap();
    });
    let listed = namespace.sh("nft list set ip spy s");
    assert!(listed.contains("203.0.113.9 counter"), "{listed}");
}

/// A socket that sees every packet, as tcpdump has.
pub(super) fn packet_socket(namespace: &Namespace, interface: &str) -> OwnedFd {
    namespace.within(|| {
        let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: no memory is passed.
        let socket = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol) });
        // SAFETY: all-zero bytes are an address of this type.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex =
            rustix::net::netdevice::name_to_index(&socket, interface).unwrap().cast_signed();
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is alive and as long as said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        socket
    })
}

/// A socket that sees every UDP datagram to this host.
pub(super) fn raw_socket(namespace: &Namespace) -> OwnedFd {
    namespace.within(|| {
        // SAFETY: no memory is passed.
        checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP) })
    })
}

/// A queue of a TUN device, out of which some of its packets come.
pub(super) fn queue(namespace: &Namespace, interface: &str) -> File {
    namespace.within(|| {
        let queue = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        // SAFETY: all-zero bytes are a request of this type.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the request is alive and of the type that the driver reads.
        let attached = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        assert_eq!(attached, 0, "{}", io::Error::last_os_error());
        queue
    })
}

/// A connection of a tunnel address that no session has.
pub(super) fn stale_connection(namespace: &Namespace, address: Ipv4Addr) -> UdpSocket {
    namespace.sh(&format!("ip addr add {address}/32 dev lo"));
    namespace.within(|| {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.send_to(b"stale", (TARGET_V4, 9)).unwrap();
        socket
    })
}

/// Has the kernel forget the connections of an address, and takes it away.
pub(super) fn forget_connections(namespace: &Namespace, address: Ipv4Addr) {
    namespace.sh(&format!("ip addr del {address}/32 dev lo"));
    hold(namespace, async || {
        let netfilter = Connection::<Netfilter>::new().unwrap();
        netfilter
            .flush_conntrack_matching(&ConntrackFilter::new().orig_src(address))
            .await
            .unwrap();
    });
}

/// Kinds of BPF programs.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Kind {
    Tracepoint = 5,
    Xdp = 6,
}

/// Loads a program of two instructions: return `answer`.
pub(super) fn bpf_program(kind: Kind, answer: u8) -> OwnedFd {
    const PROG_LOAD: libc::c_long = 5;
    let code: [u64; 2] = [0xb7 | u64::from(answer) << 32, 0x95];
    let licence = c"GPL";
    let mut request = [0_u64; 16];
    request[0] = kind as u64 | (code.len() as u64) << 32;
    request[1] = code.as_ptr().expose_provenance() as u64;
    request[2] = licence.as_ptr().expose_provenance() as u64;
    bpf(PROG_LOAD, &mut request)
}

/// Attaches an XDP program to an interface for as long as the link lasts.
pub(super) fn xdp_link(namespace: &Namespace, interface: &str) -> [OwnedFd; 2] {
    const LINK_CREATE: libc::c_long = 28;
    const XDP: u64 = 37;
    const PASS: u8 = 2;
    namespace.within(|| {
        let program = bpf_program(Kind::Xdp, PASS);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let index = rustix::net::netdevice::name_to_index(&socket, interface).unwrap();
        let mut request = [0_u64; 16];
        request[0] = u64::from(program.as_raw_fd().cast_unsigned()) | u64::from(index) << 32;
        request[1] = XDP;
        [bpf(LINK_CREATE, &mut request), program]
    })
}

/// An event that counts how long this process runs, for nobody; one of the network would look the same.
pub(super) fn perf_event() -> OwnedFd {
    const SOFTWARE: u64 = 1;
    const LEN: usize = 128;
    // `struct perf_event_attr`: kind and length, and the first of the software's events.
    let mut event = [0_u64; LEN / 8];
    event[0] = SOFTWARE | (LEN as u64) << 32;
    let (itself, anywhere, alone, flags) = (0, -1, -1, 0);
    // SAFETY: the event is as long as it says.
    let result = unsafe {
        libc::syscall(libc::SYS_perf_event_open, event.as_ptr(), itself, anywhere, alone, flags)
    };
    checked(result as libc::c_int)
}

fn bpf(command: libc::c_long, request: &mut [u64; 16]) -> OwnedFd {
    // SAFETY: the request is as long as said, and what it points to is alive.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, request.as_mut_ptr(), size_of_val(request))
    };
    checked(result as libc::c_int)
}

fn checked(descriptor: libc::c_int) -> OwnedFd {
    assert!(descriptor >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just made it for this process.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
