//! What strace saw: every file that the gateway wrote to and everything that it spoke to.

use std::collections::{BTreeMap, BTreeSet};

/// Every system call by which bytes leave a process, or a place to leave them is made. A question mark lets a
/// machine be without a call.
pub(super) const SYSTEM_CALLS: &str = "trace=\
?open,?openat,?openat2,?creat,?write,?writev,?pwrite64,?pwritev,?pwritev2,?sendto,?sendmsg,?sendmmsg,?sendfile,\
?copy_file_range,?splice,?tee,?vmsplice,?mmap,?rename,?renameat,?renameat2,?link,?linkat,?symlink,?symlinkat,\
?mknod,?mknodat,?truncate,?setxattr,?lsetxattr,?fsetxattr,?connect,?memfd_create,?memfd_secret,?shmget,?msgget,\
?msgsnd,?mq_open,?io_uring_setup,?io_setup,?process_vm_writev,?ptrace,?add_key,?execve,?execveat,?bpf";

/// What the gateway did by system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Witness {
    /// How many system calls were seen.
    pub(super) calls: u64,
    /// Files that were opened for writing, written to, or made by another name.
    pub(super) files: BTreeSet<String>,
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
    /// Reads what strace wrote down; `program` is the gateway's own.
    pub(super) fn read(trace: &str, program: &str) -> Self {
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
                witness.note(name, arguments, program, line);
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

    fn note(&mut self, name: &str, arguments: &str, program: &str, line: &str) {
        let failed = arguments.contains(" = -1 ");
        match name {
            "open" | "openat" | "openat2" | "creat" | "truncate" => {
                let writes = name == "creat" || name == "truncate";
                let flags = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
                if !failed && (writes || flags.iter().any(|flag| arguments.contains(flag))) {
                    self.path(arguments, 0);
                }
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" => {
                self.path(arguments, 1);
                let mut paths = arguments.split('"').skip(1).step_by(2);
                if let (Some(from), Some(to)) = (paths.next(), paths.next()) {
                    self.moved.insert(from.to_owned(), to.to_owned());
                }
            }
            "mknod" | "mknodat" => self.path(arguments, 0),
            "mmap" => {
                if arguments.contains("MAP_SHARED") && arguments.contains("PROT_WRITE") {
                    self.descriptors(arguments, line);
                }
            }
            "execve" | "execveat" => {
                let itself = [format!("\"{program}\""), "\"/proc/self/exe\"".into()];
                if !failed && !itself.iter().any(|path| arguments.contains(path)) {
                    self.strange.insert(without_pid(line));
                }
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendto" | "sendmsg"
            | "sendmmsg" | "sendfile" | "copy_file_range" | "splice" | "tee" | "vmsplice" => {
                self.descriptors(arguments, line);
            }
            _ if failed => {}
            _ => drop(self.strange.insert(without_pid(line))),
        }
    }

    /// Notes the path in quotes with that number.
    fn path(&mut self, arguments: &str, number: usize) {
        let Some(path) = arguments.split('"').nth(2 * number + 1) else { return };
        match described(path) {
            _ if !path.starts_with('/') => self.file_below(arguments, path),
            Descriptor::File(path) => drop(self.files.insert(path.to_owned())),
            Descriptor::KernelSetting(path) => drop(self.kernel_settings.insert(path.to_owned())),
            // Opening is no writing.
            Descriptor::Channel(_) | Descriptor::Strange => {}
        }
    }

    /// Notes a path that is relative to a directory's descriptor.
    fn file_below(&mut self, arguments: &str, path: &str) {
        let dir = descriptors(arguments).next().unwrap_or("");
        let place = format!("{}/{path}", dir.trim_end_matches('/'));
        match described(&place) {
            Descriptor::KernelSetting(path) => drop(self.kernel_settings.insert(path.to_owned())),
            _ => drop(self.files.insert(place)),
        }
    }

    fn descriptors(&mut self, arguments: &str, line: &str) {
        let mut any = false;
        for descriptor in descriptors(arguments) {
            any = true;
            match described(descriptor) {
                Descriptor::File(path) => drop(self.files.insert(path.to_owned())),
                Descriptor::KernelSetting(path) => {
                    self.kernel_settings.insert(path.to_owned());
                }
                Descriptor::Channel(name) => *self.channels.entry(name).or_default() += 1,
                Descriptor::Strange => drop(self.strange.insert(without_pid(line))),
            }
        }
        // Memory that is shared without a file is shared with children only.
        if !any && !arguments.contains("MAP_ANONYMOUS") {
            self.strange.insert(without_pid(line));
        }
    }
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
    } else if starts(&["NETLINK:"]) {
        Descriptor::Channel("kernel, by netlink")
    } else if starts(&["pipe:"]) {
        Descriptor::Channel("stdout and stderr, and pipes between its processes")
    } else if starts(&["UDP:[", "UDPv6:["]) && descriptor.ends_with(":51820]") && !is_connected {
        Descriptor::Channel("WireGuard's UDP sockets")
    } else if starts(&["UNIX:", "UNIX-SEQPACKET:"]) && is_connected {
        Descriptor::Channel("messages between forwarder and control")
    } else if starts(&["UNIX-STREAM:"]) && is_connected {
        Descriptor::Channel("admin socket, and wake-ups between threads")
    } else {
        Descriptor::Strange
    }
}

/// What stands in angle brackets behind each number, such as `/a/file` of `5</a/file>`.
fn descriptors(arguments: &str) -> impl Iterator<Item = &str> {
    let mut rest = arguments;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('<')?;
            let is_descriptor = rest[..open].ends_with(|last: char| last.is_ascii_digit())
                || rest[..open].ends_with("FDCWD");
            let inside = &rest[open + 1..];
            let close = closing(inside)?;
            rest = &inside[close + 1..];
            if is_descriptor {
                return Some(&inside[..close]);
            }
        }
    })
}

/// Where the bracket that is open already is closed; arrows and brackets within are passed over.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut before = ' ';
    for (place, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
        before = character;
    }
    None
}

fn without_pid(line: &str) -> String {
    line.trim_start_matches(|digit: char| digit.is_ascii_digit()).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(trace: &str) -> Witness {
        Witness::read(trace, "/run/tacit-prove/tacit")
    }

    #[test]
    fn what_a_gateway_does_is_known() {
        let witness = read(
            r#"
2     execve("/run/tacit-prove/tacit", ["/run/tacit-prove/tacit", ...], 0x7f /* 3 vars */) = 0
2     write(4<anon_inode:[eventfd]>, ""..., 8 <unfinished ...>
3     <... write resumed>) = 8
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
4     sendmsg(6<UDPv6:[[::]:51820]>, ..., 0) = 60
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
        assert_eq!(witness.calls, 13);
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
        ] {
            assert_eq!(read(line).strange.len(), 1, "{line}");
        }
    }
}
