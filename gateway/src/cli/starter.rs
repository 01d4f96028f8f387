//! `tacit starter`: how control tells the starter process what to do. It is not for people.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::Args;

use crate::starter;

#[derive(Args)]
pub(super) struct StarterArguments {
    #[arg(long)]
    admin_socket: PathBuf,
    #[arg(long)]
    admin_socket_inode: u64,
    /// The command line of every forwarder.
    #[arg(last = true)]
    forwarder: Vec<OsString>,
}

pub(super) fn run(arguments: StarterArguments) -> ExitCode {
    // Without a name it would be listed as `exe`, after `/proc/self/exe`.
    let _ = rustix::thread::set_name(c"tacit-starter");
    let StarterArguments { admin_socket, admin_socket_inode, forwarder } = arguments;
    starter::run(starter::Settings { admin_socket, admin_socket_inode, forwarder })
}
