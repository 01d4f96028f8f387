//! `tacit device`.
//!
//! A client's private key is made here, in the operator's process, and goes into the config that is printed; the
//! gateway only ever sees the public key.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, error::ErrorKind};
use serde::Serialize;
use tacit_keys::{ClientConfig, PresharedKey, PrivateKey, PublicKey, qr};
use zeroize::Zeroizing;

use super::{
    RunningGateway,
    print::{Output, table, write_line},
    private_output::PrivateOutput,
};
use crate::{
    admin::{AddDevice, Device, DeviceWithConfig, ListDevices, RemoveDevice, RotateDevice},
    endpoint::EndpointOrigin,
};

#[derive(Subcommand)]
pub(super) enum DeviceVerb {
    /// Add a device and print its config, with a private key that is shown this once.
    #[command(after_help = "Examples:
  tacit device add ann@example.org laptop > laptop.conf
  tacit device add ann@example.org laptop --output laptop.conf
  tacit device add ann@example.org phone --qr
  tacit device add 17 router --public-key \"$(wg pubkey < private.key)\"")]
    Add(NewKeyArguments),

    /// List an account's devices.
    #[command(after_help = "Examples:
  tacit device list ann@example.org
  tacit device list 17 --json")]
    List {
        /// E-mail address or number of the account.
        account: String,
        #[command(flatten)]
        output: Output,
    },

    /// Give a device a new key and print its new config; the old key stops working at once.
    #[command(after_help = "Examples:
  tacit device rotate ann@example.org laptop > laptop.conf
  tacit device rotate ann@example.org phone --qr")]
    Rotate(NewKeyArguments),

    /// Remove a device; its key stops working at once.
    #[command(after_help = "Examples:
  tacit device remove ann@example.org laptop")]
    Remove {
        /// E-mail address or number of the account.
        account: String,
        /// Name of the device.
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct NewKeyArguments {
    /// E-mail address or number of the account.
    account: String,
    /// Name of the device, unique within the account.
    name: String,
    /// Public key of a private key that was made on the device and stays there.
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
    /// Seconds between keepalives, for a device behind NAT that must be reachable [default: none].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    keepalive: Option<u16>,
    /// Print the config as a QR code for the WireGuard apps.
    #[arg(long, conflicts_with_all = ["public_key", "json"])]
    qr: bool,
    /// Write the config to a new file that only its owner can read.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
    #[command(flatten)]
    format: Output,
}

pub(super) async fn run(gateway: &RunningGateway<'_>, verb: DeviceVerb) -> anyhow::Result<()> {
    match verb {
        DeviceVerb::Add(arguments) => {
            let key = DeviceKey::new(arguments.made_on_device());
            let file = arguments.open_output()?;
            let request = AddDevice {
                account: arguments.account.clone(),
                name: arguments.name.clone(),
                public_key: key.public,
            };
            deliver(&arguments, key, file, gateway.ask(request).await)
        }
        DeviceVerb::Rotate(arguments) => {
            let key = DeviceKey::new(arguments.made_on_device());
            let file = arguments.open_output()?;
            let request = RotateDevice {
                account: arguments.account.clone(),
                name: arguments.name.clone(),
                public_key: key.public,
            };
            deliver(&arguments, key, file, gateway.ask(request).await)
        }
        DeviceVerb::List { account, output } => {
            output.print(&gateway.ask(ListDevices { account }).await?, |list| devices_table(list))
        }
        DeviceVerb::Remove { account, name, output } => {
            let removed = gateway.ask(RemoveDevice { account, name }).await?;
            output.print(&removed, |device| devices_table(std::slice::from_ref(device)))?;
            eprintln!("The device is removed and disconnected.");
            Ok(())
        }
    }
}

/// Returns a table of `devices`.
pub(super) fn devices_table(devices: &[Device]) -> String {
    let rows = devices.iter().map(|device| {
        [
            device.name.clone(),
            device.tunnel_v4.to_string(),
            device.tunnel_v6.to_string(),
            device.public_key.to_string(),
            device.created_at.to_string(),
        ]
    });
    table(["DEVICE", "TUNNEL IPV4", "TUNNEL IPV6", "PUBLIC KEY", "KEY SINCE"], rows, "no devices")
}

/// A device's key: the pair if it is made here, else what the device told of it.
struct DeviceKey {
    private: Option<PrivateKey>,
    public: PublicKey,
}

impl DeviceKey {
    fn new(made_on_device: Option<PublicKey>) -> Self {
        match made_on_device {
            Some(public) => Self { private: None, public },
            None => {
                let private = PrivateKey::generate();
                Self { public: private.public_key(), private: Some(private) }
            }
        }
    }
}

impl NewKeyArguments {
    /// Reads the key that the device told of. Clap would print one that is wrong, and it may be a private key.
    fn made_on_device(&self) -> Option<PublicKey> {
        let text = self.public_key.as_ref()?;
        match text.parse() {
            Ok(public) => Some(public),
            Err(error) => {
                let message = format!("--public-key: {error}\n");
                clap::Error::raw(ErrorKind::ValueValidation, message).exit()
            }
        }
    }

    /// Makes the file for the config before anything is changed, so that a file in the way is found in time.
    fn open_output(&self) -> anyhow::Result<Option<PrivateOutput>> {
        self.output.as_deref().map(PrivateOutput::create).transpose()
    }
}

/// Hands the config to the operator in the way that was asked for.
fn deliver(
    arguments: &NewKeyArguments,
    key: DeviceKey,
    file: Option<PrivateOutput>,
    answer: anyhow::Result<DeviceWithConfig>,
) -> anyhow::Result<()> {
    let answer = answer?;
    hint(&answer, key.private.is_none());
    let lost =
        "the device is registered, but its config is lost; run `tacit device rotate` for another";
    let config = render(&answer, key, arguments.keepalive).context(lost)?;
    if let Some(mut file) = file {
        file.write(&config).context(lost)?;
        eprintln!("The config is in {}.", file.path().display());
    }
    if let Some(text) = on_stdout(arguments, &answer, &config).context(lost)? {
        write_line(&text).context(lost)?;
    }
    Ok(())
}

fn render(
    answer: &DeviceWithConfig,
    key: DeviceKey,
    persistent_keepalive: Option<u16>,
) -> anyhow::Result<Zeroizing<String>> {
    let preshared_key: PresharedKey = answer.preshared_key.expose().parse()?;
    let config = ClientConfig {
        private_key: key.private,
        tunnel_v4: answer.device.tunnel_v4,
        tunnel_v6: answer.device.tunnel_v6,
        dns: answer.dns.clone(),
        mtu: Some(answer.mtu),
        gateway_public_key: answer.gateway_public_key,
        preshared_key,
        endpoint: answer.endpoint.clone(),
        persistent_keepalive,
    };
    Ok(config.render())
}

/// What goes to stdout, unless all is said by the file.
fn on_stdout(
    arguments: &NewKeyArguments,
    answer: &DeviceWithConfig,
    config: &Zeroizing<String>,
) -> anyhow::Result<Option<Zeroizing<String>>> {
    #[derive(Serialize)]
    struct Json<'a> {
        device: &'a Device,
        config: &'a str,
    }
    if arguments.format.json {
        let json = Json { device: &answer.device, config };
        return Ok(Some(Zeroizing::new(serde_json::to_string_pretty(&json)?)));
    }
    if arguments.qr {
        return Ok(Some(qr::terminal(config)?));
    }
    Ok(arguments.output.is_none().then(|| config.clone()))
}

/// Tells on stderr what the operator should know of the config.
fn hint(answer: &DeviceWithConfig, key_is_on_device: bool) {
    let endpoint = &answer.endpoint;
    match answer.endpoint_origin {
        EndpointOrigin::Named => {}
        EndpointOrigin::Found => eprintln!(
            "Hint: the config names {endpoint}, an address found on this host; `tacit run --endpoint HOST` names another."
        ),
        EndpointOrigin::FoundPrivate => eprintln!(
            "Hint: the config names {endpoint}, which is private: only clients in its network can reach it. \
             Start the gateway with `tacit run --endpoint HOST`."
        ),
    }
    if key_is_on_device {
        eprintln!("Hint: insert the device's private key where the config says so.");
    }
}
