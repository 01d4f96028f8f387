//! `tacit forwarder`: how the forwarder process is told what to do. It is not for people.

use std::{net::IpAddr, process::ExitCode};

use clap::Args;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

#[derive(Args)]
pub(super) struct ForwarderArguments {
    #[arg(long)]
    workers: usize,
    #[arg(long)]
    tunnel_v4: Ipv4Net,
    #[arg(long)]
    tunnel_v6: Ipv6Net,
    #[arg(long)]
    mtu: u16,
    #[arg(long)]
    uso: bool,
    #[arg(long)]
    allow_device_to_device: bool,
    #[arg(long)]
    allow_gateway: bool,
    #[arg(long)]
    allow_private: Vec<IpNet>,
}

pub(super) fn run(arguments: ForwarderArguments) -> ExitCode {
    // Without a name it would be listed as `exe`, after `/proc/self/exe`.
    let _ = rustix::thread::set_name(c"tacit-forwarder");
    tacit_forwarder::run(&arguments.into())
}

impl From<ForwarderArguments> for tacit_forwarder::Settings {
    fn from(arguments: ForwarderArguments) -> Self {
        let pair = |net: IpNet| -> (IpAddr, u8) { (net.addr(), net.prefix_len()) };
        Self {
            workers: arguments.workers,
            tunnel_v4: (arguments.tunnel_v4.addr(), arguments.tunnel_v4.prefix_len()),
            tunnel_v6: (arguments.tunnel_v6.addr(), arguments.tunnel_v6.prefix_len()),
            mtu: arguments.mtu,
            uso: arguments.uso,
            allow_device_to_device: arguments.allow_device_to_device,
            allow_gateway: arguments.allow_gateway,
            allow_private: arguments.allow_private.into_iter().map(pair).collect(),
        }
    }
}
