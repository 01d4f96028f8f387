//! What strace saw: every file that the gateway wrote to and everything that it spoke to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::strace::{descriptors, quoted, recipients, strings, without_pid};

/// Every system call by which bytes leave a process, or a place to leave them is made. A question mark lets a
/// machine be without a call.
pub(super) const SYSTEM_CALLS: &str = "trace=\
?open,?openat,?openat2,?creat,?write,?writev,?pwrite64,?pwritev,?pwritev2,?sendto,?sendmsg,?sendmmsg,?sendfile,\
?copy_file_range,?splice,?tee,?vmsplice,?mmap,?rename,?renameat,?renameat2,?link,?linkat,?symlink,?symlinkat,\
?mkdir,?mkdirat,?mknod,?mknodat,?truncate,?setxattr,?setxattrat,?lsetxattr,?fsetxattr,?socket,?bind,?connect,?memfd_create,?memfd_secret,?shmget,?msgget,\
?msgsnd,?mq_open,?io_uring_setup,?io_setup,?process_vm_writev,?ptrace,?add_key,?execve,?execveat,?bpf";

/// What a gateway may do in the experiment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// Its program, as it sees it itself.
    pub(super) program: &'a str,
    /// Where clients are or were: nobody else gets a datagram.
    pub(super) clients: &'a [SocketAddr],
}

/// What the gateway did by system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Witness {
    /// How many system calls were seen.
    pub(super) calls: u64,
    /// Files that were opened for writing, written to, or made by another name.
    pub(super) files: BTreeSet<String>,
    /// Names that it gave: of files, directories, links and what they lead to, and sockets.
    pub(super) names: BTreeSet<Vec<u8>>,
    /// The names that a file got later, by its former one.
    pub(super) moved: BTreeMap<String, String>,
    /// Settings of the kernel that were changed.
    pub(super) kernel_settings: BTreeSet<String>,
    /// What else was written to, and how often: none of it leads out of the gateway but the tunnel itself.
    pub(super) channels: BTreeMap<&'static str, u64>,
    /// Whatever should not occur.
    pub(super) strange: BTreeSet<String>,
}

impl Witness {
    /// The name that a file has in the end.
    pub(super) fn last_name<'a>(&'a self, path: &'a str) -> &'a str {
        let mut name = path;
        // As many moves as there are names, so that moving in a circle ends.
        for _ in 0..self.moved.len() {
            let Some(next) = self.moved.get(name) else { break };
            name = next;
        }
        name
    }
}

/// What stands behind a descriptor.
enum Descriptor<'a> {
    File(&'a str),
    KernelSetting(&'a str),
    Channel(&'static str),
    Strange,
}

impl Witness {
    /// Reads what strace wrote down of a gateway of which this much is `expected`.
    pub(super) fn read(trace: &str, expected: Expected<'_>) -> Self {
        let mut witness = Self::default();
        let mut connecting = BTreeMap::new();
        for line in trace.lines() {
            if witness.note_connection(line, &mut connecting) {
                continue;
            }
            let call = line.trim_start_matches(|digit: char| digit.is_ascii_digit()).trim_start();
            let Some((name, arguments)) = call.split_once('(') else { continue };
            // Otherwise it is the end of a call, a signal or an exit.
            if name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_') {
                witness.calls += 1;
                witness.note(name, arguments, expected, line);
            }
        }
        witness
    }

    /// Notes an attempt to connect, unless it failed; its end may stand on a later line of the same thread.
    fn note_connection<'a>(
        &mut self,
        line: &'a str,
        begun: &mut BTreeMap<&'a str, &'a str>,
    ) -> bool {
        let Some((thread, call)) = line.split_once(' ') else { return false };
        let call = call.trim_start();
        let begins = call.starts_with("connect(");
        if !begins && !call.starts_with("<... connect resumed>") {
            return false;
        }
        self.calls += u64::from(begins);
        if begins && call.ends_with("<unfinished ...>") {
            begun.insert(thread, line);
            return true;
        }
        let began = if begins { Some(line) } else { begun.remove(thread) };
        let failed = call.contains(" = -1 ") && !call.contains("EINPROGRESS");
        if let Some(began) = began.filter(|began| !failed && !began.contains("AF_NETLINK")) {
            self.strange.insert(without_pid(began));
        }
        true
    }

    fn note(&mut self, name: &str, arguments: &str, expected: Expected<'_>, line: &str) {
        let failed = arguments.contains(" = -1 ");
        match name {
            "open" | "openat" | "openat2" | "creat" | "truncate" => {
                let writes = name == "creat" || name == "truncate";
                let flags = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
                if !failed && (writes || flags.iter().any(|flag| arguments.contains(flag))) {
                    self.path(arguments, 0);
                    self.names_in(arguments);
                }
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" => {
                self.path(arguments, 1);
                self.names_in(arguments);
                let mut paths = quoted(arguments);
                if let (Some(from), Some(to)) = (paths.next(), paths.next()) {
                    self.moved.insert(from.to_owned(), to.to_owned());
                }
            }
            "mknod" | "mknodat" => {
                self.path(arguments, 0);
                self.names_in(arguments);
            }
            "socket" => {
                let is_other = arguments.contains("AF_NETLINK") && !is_netlink_in_use(arguments);
                if !failed && is_other {
                    self.strange.insert(without_pid(line));
                }
            }
            "mkdir" | "mkdirat" | "bind" => {
                if !failed {
                    self.names_in(arguments);
                }
            }
            "mmap" => {
                if arguments.contains("MAP_SHARED") && arguments.contains("PROT_WRITE") {
                    self.descriptors(arguments, expected, line);
                }
            }
            "execve" | "execveat" => {
                let itself = [format!("\"{}\"", expected.program), "\"/proc/self/exe\"".into()];
                if !failed && !itself.iter().any(|path| arguments.contains(path)) {
                    self.strange.insert(without_pid(line));
                }
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendto" | "sendmsg"
            | "sendmmsg" | "sendfile" | "copy_file_range" | "splice" | "tee" | "vmsplice" => {
                self.descriptors(arguments, expected, line);
            }
            _ if failed => {}
            _ => drop(self.strange.insert(without_pid(line))),
        }
    }

    /// Notes all that stands in quotes.
    fn names_in(&mut self, arguments: &str) {
        self.names.extend(strings(arguments));
    }

    /// Notes the path in quotes with that number.
    fn path(&mut self, arguments: &str, number: usize) {
        let Some(path) = quoted(arguments).nth(number) else { return };
        match described(path) {
            _ if !path.starts_with('/') => self.file_below(arguments, path),
            Descriptor::File(path) => drop(self.files.insert(path.to_owned())),
            Descriptor::KernelSetting(path) => self.setting(path),
            // Opening is no writing.
            Descriptor::Channel(_) | Descriptor::Strange => {}
        }
    }

    /// Notes a path that is relative to a directory's descriptor.
    fn file_below(&mut self, arguments: &str, path: &str) {
        let dir = descriptors(arguments).next().unwrap_or("");
        let place = format!("{}/{path}", dir.trim_end_matches('/'));
        match described(&place) {
            Descriptor::KernelSetting(path) => self.setting(path),
            _ => drop(self.files.insert(place)),
        }
    }

    /// Notes a setting of the kernel.
    fn setting(&mut self, path: &str) {
        self.kernel_settings.insert(path.to_owned());
    }

    fn descriptors(&mut self, arguments: &str, expected: Expected<'_>, line: &str) {
        let mut any = false;
        for descriptor in descriptors(arguments) {
            any = true;
            match described(descriptor) {
                Descriptor::File(path) => drop(self.files.insert(path.to_owned())),
                Descriptor::KernelSetting(path) => self.setting(path),
                Descriptor::Channel(name) => {
                    *self.channels.entry(name).or_default() += 1;
                    if name == DATAGRAMS && !expected.is_to_clients(arguments) {
                        self.strange.insert(without_pid(line));
                    }
                }
                Descriptor::Strange => drop(self.strange.insert(without_pid(line))),
            }
        }
        // Memory that is shared without a file is shared with children only.
        if !any && !arguments.contains("MAP_ANONYMOUS") {
            self.strange.insert(without_pid(line));
        }
    }
}

/// What datagrams to clients go out of.
const DATAGRAMS: &str = "WireGuard's UDP sockets";

impl Expected<'_> {
    /// Whether what a call sends goes to clients only.
    fn is_to_clients(&self, arguments: &str) -> bool {
        let failed = arguments.contains(") = -1 ");
        failed
            || recipients(arguments).is_some_and(|recipients| {
                !recipients.is_empty() && recipients.iter().all(|to| self.clients.contains(to))
            })
    }
}

/// Switches of an interface: forwarding, what that moves along, and what keeps the tunnel's own quiet.
const SWITCHES: [&str; 6] =
    ["accept_ra", "accept_redirects", "autoconf", "disable_ipv6", "forwarding", "send_redirects"];

/// Whether a gateway has use for changing this file of the kernel's: forwarding, and what a core dump holds.
pub(super) fn is_expected_setting(path: &str) -> bool {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match words[..] {
        ["proc", process, "coredump_filter"] => {
            process == "self" || process.bytes().all(|digit| digit.is_ascii_digit())
        }
        ["proc", "sys", "net", "ipv4", "ip_forward"] => true,
        ["proc", "sys", "net", "ipv4" | "ipv6", "conf", _, switch] => SWITCHES.contains(&switch),
        _ => false,
    }
}

/// Parts of the kernel that a gateway talks to by netlink.
const NETLINK_IN_USE: [&str; 2] = ["ROUTE", "NETFILTER"];

/// Whether a netlink socket, or the call that makes one, is of these; before its first message only its number is known,
/// so there the call tells.
fn is_netlink_in_use(text: &str) -> bool {
    let is_numbered = text
        .strip_prefix("NETLINK:[")
        .is_some_and(|inside| inside.starts_with(|first: char| first.is_ascii_digit()));
    is_numbered
        || NETLINK_IN_USE.iter().any(|part| {
            text.contains(&format!("NETLINK_{part}")) || text.contains(&format!("[{part}:"))
        })
}

fn described(descriptor: &str) -> Descriptor<'_> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| descriptor.starts_with(prefix));
    let is_connected = descriptor.contains("->");
    if starts(&["/proc/", "/sys/"]) {
        Descriptor::KernelSetting(descriptor)
    } else if starts(&["/dev/net/tun"]) {
        Descriptor::Channel("tunnel device")
    } else if starts(&["/dev/null"]) {
        Descriptor::Channel("/dev/null")
    } else if starts(&["/dev/shm/"]) || (starts(&["/"]) && !starts(&["/dev/"])) {
        Descriptor::File(descriptor.trim_end_matches(" (deleted)").trim_end_matches("(deleted)"))
    } else if starts(&["anon_inode:[eventfd]"]) {
        Descriptor::Channel("wake-ups between threads")
    } else if starts(&["NETLINK:["]) && is_netlink_in_use(descriptor) {
        Descriptor::Channel("kernel, by netlink")
    } else if starts(&["pipe:"]) {
        Descriptor::Channel("stdout and stderr, and pipes between its processes")
    } else if starts(&["UDP:[", "UDPv6:["]) && descriptor.ends_with(":51820]") && !is_connected {
        Descriptor::Channel(DATAGRAMS)
    } else if starts(&["UNIX:", "UNIX-SEQPACKET:"]) && is_connected {
        Descriptor::Channel("messages between forwarder and control")
    } else if starts(&["UNIX-STREAM:"]) && is_connected {
        Descriptor::Channel("admin socket, and wake-ups between threads")
    } else {
        Descriptor::Strange
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(trace: &str) -> Witness {
        let clients = ["198.51.100.7:4000", "[2001:db8::7]:4001"].map(|to| to.parse().unwrap());
        Witness::read(trace, Expected { program: "/run/tacit-prove/tacit", clients: &clients })
    }

    #[test]
    fn what_a_gateway_does_is_known() {
        let witness = read(
            r#"
2     execve("/run/tacit-prove/tacit", ["/run/tacit-prove/tacit", ...], 0x7f /* 3 vars */) = 0
2     write(4<anon_inode:[eventfd]>, ""..., 8 <unfinished ...>
3     <... write resumed>) = 8
3     socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER) = 18<NETLINK:[99]>
3     socket(AF_NETLINK, SOCK_DGRAM|SOCK_CLOEXEC, NETLINK_ROUTE <unfinished ...>
3     sendto(18<NETLINK:[99]>, ..., 20, 0, NULL, 0) = 20
3     sendto(18<NETLINK:[NETFILTER:13]>, ..., 20, 0, NULL, 0) = 20
3     sendto(3<UNIX:[273381->273380]>, ""..., 256, MSG_DONTWAIT|MSG_NOSIGNAL, NULL, 0) = 256
3     pwrite64(11</run/d/store.sqlite>, ""..., 4096, 0) = 4096
3     mmap(NULL, 32768, PROT_READ|PROT_WRITE, MAP_SHARED, 13</run/d/store.sqlite-shm>, 0) = 0x7f99aad5a000
3     writev(17<UNIX-STREAM:[276006->276005,"/run/s.sock.13"]>, [...], 2) = 945
3     write(9</proc/sys/net/ipv4/ip_forward>, ""..., 1) = 1
3     write(2<pipe:[99]>, ""..., 73) = 73
3     openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 3</etc/hosts>
3     rename("/run/s.sock.13", "/run/s.sock") = 0
4     writev(5</dev/net/tun<char 10:200>>, [...], 2) = 60
4     sendmsg(6<UDPv6:[[::]:51820]>, {msg_name={sa_family=AF_INET6, sin6_port=htons(4001), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::7", &sin6_addr), sin6_scope_id=0}, msg_namelen=28, ...}, 0) = 60
4     +++ exited with 0 +++
"#,
        );
        let files = ["/run/d/store.sqlite", "/run/d/store.sqlite-shm", "/run/s.sock"];
        assert!(witness.files.iter().eq(files.iter()), "{witness:?}");
        assert_eq!(witness.last_name("/run/s.sock.13"), "/run/s.sock");
        assert!(witness.kernel_settings.iter().eq(["/proc/sys/net/ipv4/ip_forward"]));
        assert!(witness.strange.is_empty(), "{witness:?}");
        assert_eq!(witness.channels["tunnel device"], 1);
        assert_eq!(witness.channels["WireGuard's UDP sockets"], 1);
        assert_eq!(witness.calls, 16);
    }

    #[test]
    fn file_that_is_opened_for_writing_is_noted_wherever_it_is() {
        let witness = read(
            r#"
3     openat(AT_FDCWD</home>, "leak", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</home/leak>
3     openat(AT_FDCWD</>, "/var/leak", O_RDWR|O_CLOEXEC <unfinished ...>
3     openat(AT_FDCWD</>, "/var/none", O_RDWR|O_CLOEXEC) = -1 ENOENT (No such file or directory)
"#,
        );
        assert!(witness.files.iter().eq(["/home/leak", "/var/leak"]), "{witness:?}");
    }

    #[test]
    fn connection_counts_unless_it_failed() {
        let nobody =
            "3     connect(9<UNIX-STREAM:[7]>, {sun_path=\"/run/x\"}, 110 <unfinished ...>\n";
        let failed = "3     <... connect resumed>) = -1 ENOENT (No such file or directory)";
        assert!(
            read(&format!("{nobody}4     <... connect resumed>) = 0\n{failed}")).strange.is_empty()
        );
        let made = "3     <... connect resumed>) = 0";
        assert_eq!(read(&format!("{nobody}{made}")).strange.len(), 1);
    }

    #[test]
    fn whatever_leads_elsewhere_is_strange() {
        for line in [
            "3     sendto(9<UDP:[192.0.2.1:4000->192.0.2.9:514]>, \"\"..., 20, 0, NULL, 0) = 20",
            "3     connect(9<UNIX-DGRAM:[77]>, {sa_family=AF_UNIX, sun_path=\"/dev/log\"}, 110) = 0",
            "3     sendto(9<UNIX-DGRAM:[77]>, \"\"..., 20, 0, NULL, 0) = 20",
            "3     write(9<TCP:[192.0.2.1:4000->192.0.2.9:514]>, \"\"..., 20) = 20",
            "3     memfd_create(\"x\", 0) = 9",
            "3     execve(\"/usr/bin/logger\", [\"logger\"], 0x7f /* 3 vars */) = 0",
            "3     sendto(9<UDP:[0.0.0.0:514]>, \"\"..., 20, 0, {sa_family=AF_INET}, 16) = 20",
            "3     write(9</dev/kmsg<char 1:11>>, \"\"..., 20) = 20",
            "3     socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_AUDIT) = 9<NETLINK:[77]>",
            "3     sendto(9<NETLINK:[AUDIT:3]>, ..., 20, 0, NULL, 0) = 20",
            "3     setxattr(\"/run/d/x\", \"\"..., \"\"..., 5, 0) = 0",
        ] {
            assert_eq!(read(line).strange.len(), 1, "{line}");
        }
    }

    #[test]
    fn datagram_to_nobodys_address_is_strange() {
        let v4 = |port: u16, ip: &str| {
            format!("sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"{ip}\")")
        };
        let mapped = "sa_family=AF_INET6, sin6_port=htons(4000), sin6_flowinfo=htonl(0), \
                      inet_pton(AF_INET6, \"::ffff:198.51.100.7\", &sin6_addr), sin6_scope_id=0";
        let message = |name: &str| {
            let call = format!(
                "sendmsg(6<UDP:[0.0.0.0:51820]>, {{msg_name={{{name}}}, msg_iov=[...]}}, 0)"
            );
            read(&format!("3     {call} = 60")).strange.len()
        };
        assert_eq!(message(&v4(4000, "198.51.100.7")), 0);
        assert_eq!(message(mapped), 0);
        assert_eq!(message(&v4(4000, "198.51.100.8")), 1);
        assert_eq!(message(&v4(514, "198.51.100.7")), 1, "another port");
        assert_eq!(message("sa_family=AF_INET, ..."), 1, "what is not understood is not trusted");

        let sent = |name: &str, result: &str| {
            let call = format!(
                "sendto(6<UDP:[0.0.0.0:51820]>, \"\"..., 60, 0, {{{name}}}, 16) = {result}"
            );
            read(&format!("3     {call}")).strange.len()
        };
        assert_eq!(sent(&v4(4000, "198.51.100.7"), "60"), 0);
        assert_eq!(sent(&v4(4000, "203.0.113.9"), "60"), 1);
        assert_eq!(sent(&v4(4000, "203.0.113.9"), "-1 EPERM (Operation not permitted)"), 0);
        let both = format!("{}}}, {{{}", v4(4000, "198.51.100.7"), v4(4000, "203.0.113.9"));
        assert_eq!(message(&both), 1, "one of several");
    }

    #[test]
    fn every_name_that_is_given_is_noted() {
        let witness = read(
            r#"
3     mkdir("/run/d/one", 0700) = 0
3     mkdirat(AT_FDCWD</>, "two", 0700 <unfinished ...>
3     symlink("three", "/run/d/four") = 0
3     rename("/run/d/five", "/run/d/six") = 0
3     bind(5<UNIX:[7]>, {sa_family=AF_UNIX, sun_path=@"seven"}, 13) = 0
3     openat(AT_FDCWD</>, "/run/d/eight", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</run/d/eight>
3     mkdir("/run/d/none", 0700) = -1 EACCES (Permission denied)
3     openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 3</etc/hosts>
"#,
        );
        let names = [
            "/run/d/eight",
            "/run/d/five",
            "/run/d/four",
            "/run/d/one",
            "/run/d/six",
            "seven",
            "three",
            "two",
        ];
        let names: BTreeSet<Vec<u8>> = names.map(|name| name.as_bytes().to_vec()).into();
        assert_eq!(witness.names, names);
    }

    #[test]
    fn setting_that_a_gateway_has_no_use_for_is_told_from_those_it_has() {
        for expected in [
            "/proc/self/coredump_filter",
            "/proc/17/coredump_filter",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/net/ipv6/conf/all/forwarding",
            "/proc/sys/net/ipv6/conf/uplink/accept_ra",
        ] {
            assert!(is_expected_setting(expected), "{expected}");
        }
        for other in [
            "/proc/sys/net/ipv4/conf/all/tag",
            "/proc/sys/kernel/hostname",
            "/proc/17/comm",
            "/proc/x/coredump_filter",
            "/sys/class/net/tacit0/ifalias",
        ] {
            assert!(!is_expected_setting(other), "{other}");
        }
    }
}
