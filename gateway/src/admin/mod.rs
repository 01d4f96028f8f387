//! What operator verbs and the gateway say to each other: HTTP/JSON over a Unix socket.
//!
//! Each request is a type; it is sent by POST to its own path and answered by its response. A failure is
//! answered by a [`Refusal`]. Private keys of clients do not occur: the verb makes them and keeps them.

pub(crate) mod answers;
mod audit;
pub(crate) mod backup;
pub(crate) mod caller;
pub(crate) mod client;
pub(crate) mod fleet;
pub(crate) mod keys;
pub(crate) mod people;
pub(crate) mod records;
pub(crate) mod rules;
pub(crate) mod server;
pub(crate) mod socket;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tacit_keys::PublicKey;
use zeroize::{Zeroize, ZeroizeOnDrop};

use self::{
    caller::Role,
    people::{Consent, Service},
};
use crate::{audit::Verdict, config::LogLevel, endpoint::EndpointOrigin, rfc3339::Rfc3339};

/// Something that an operator verb asks of the gateway.
pub(crate) trait Request: Serialize + DeserializeOwned + Send + 'static {
    /// Where it is sent.
    const PATH: &'static str;

    /// What it takes to be answered.
    const ROLE: Role = Role::Operator;

    /// Whether the answer may take as long as the store has to be written anew.
    const IS_LENGTHY: bool = false;

    /// What it is answered.
    type Response: Serialize + DeserializeOwned + Send;
}

/// Declares requests, their paths and their responses, so that the list stands once.
macro_rules! requests {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $type:ty),* } $path:literal $(by $role:ident)? -> $response:ty
        $(where $constant:ident = $value:literal)?;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Deserialize, Serialize)]
            #[serde(deny_unknown_fields)]
            pub(crate) struct $name { $(pub(crate) $field: $type,)* }

            impl Request for $name {
                const PATH: &'static str = $path;
                $(const ROLE: Role = Role::$role;)?
                $(const $constant: bool = $value;)?
                type Response = $response;
            }
        )*
    };
}

use requests;

requests! {
    /// Asks how the gateway is.
    ShowStatus { without_counts: bool } "/status" -> Status;
    /// Adds an account.
    AddAccount { email: String, confirmation: Confirmation, days: Option<u32> }
        "/account/add" -> Account;
    /// Lists all accounts.
    ListAccounts {} "/account/list" -> Vec<Account>;
    /// Shows an account and its devices.
    ShowAccount { account: String } "/account/show" -> AccountWithDevices;
    /// Adds a device.
    AddDevice { account: String, name: String, public_key: PublicKey }
        "/device/add" -> DeviceWithConfig;
    /// Lists an account's devices.
    ListDevices { account: String } "/device/list" -> Vec<Device>;
    /// Gives a device a new key and drops the old one.
    RotateDevice { account: String, name: String, public_key: PublicKey }
        "/device/rotate" -> DeviceWithConfig;
    /// Removes a device.
    RemoveDevice { account: String, name: String } "/device/remove" -> Device;
    /// Asks for what an audit cannot read from the kernel.
    ShowAuditFacts {} "/audit/facts" -> AuditFacts;
    /// Asks which of these tunnel addresses have no live session.
    ListStaleAddresses { addresses: Vec<IpAddr> } "/audit/stale-addresses" by Root -> Vec<IpAddr>;
    /// Says what came of an audit: each check that there is, and how it came out.
    NoteAudit { checks: BTreeMap<String, Verdict>, commit: String } "/audit/note" by Root -> ();
    /// Lists an account's sessions.
    ListSessions { account: String } "/session/list" -> Vec<Session>;
    /// Removes what is past its time, or only counts it.
    Purge { remove: bool } "/session/purge" -> Purged where IS_LENGTHY = true;
    /// Publishes a version of the privacy rules.
    PublishRules { text: String, effective: String, minor: bool, summary: Option<String> }
        "/rules/publish" -> rules::Version;
    /// Lists all versions of the privacy rules.
    ListRules {} "/rules/list" -> Vec<rules::Version>;
    /// Shows the words of a version, or of the one in force.
    ShowRules { version: Option<i64> } "/rules/show" -> rules::VersionWithText;
    /// Asks how the letters are that tell of rules, and which ones somebody has to look after.
    ListNotices { to_look_after: bool } "/notice/list" -> rules::Notices;
    /// Has letters sent that were put off or refused.
    RetryNotices {} "/notice/retry" -> rules::Letters;
    /// Settles a letter in doubt.
    SettleNotice { letter: String, as_doubt: rules::Doubt } "/notice/settle" -> rules::Letters;
    /// Sends a letter to try the mail server.
    TryMail { to: String } "/notice/try" -> rules::Letters;
    /// Asks how long sessions are kept, and whether that holds.
    ShowRetention {} "/retention" -> Retention;
}

/// Why a request was not done, in one line.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Refusal {
    /// The line.
    pub(crate) error: String,
}

/// Who agreed that the account's holder may use the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Confirmation {
    /// The holder, who is of age.
    OfAge,
    /// A responsible adult, for a minor.
    ResponsibleAdult,
}

/// How the gateway is.
#[derive(Deserialize, Serialize)]
pub(crate) struct Status {
    /// Version of the program that answers this.
    pub(crate) version: String,
    /// The commit it was built from.
    pub(crate) commit: String,
    /// Name of the TUN interface.
    pub(crate) interface: String,
    /// The gateway's WireGuard key.
    pub(crate) public_key: PublicKey,
    /// UDP addresses.
    pub(crate) listen: Vec<SocketAddr>,
    /// What client configs name; none if this host has no address.
    pub(crate) endpoint: Option<String>,
    /// IPv4 network of the tunnel.
    pub(crate) tunnel_v4: Ipv4Net,
    /// IPv6 network of the tunnel.
    pub(crate) tunnel_v6: Ipv6Net,
    /// Sessions now.
    pub(crate) sessions: u64,
    /// Devices registered; none while the store is away.
    pub(crate) devices_registered: Option<u64>,
    /// Accounts; none while the store is away.
    pub(crate) accounts: Option<u64>,
    /// Where accounts, devices and sessions are.
    pub(crate) store: StoreStatus,
    /// The process that carries packets.
    pub(crate) forwarder: ForwarderStatus,
    /// The process that answers this.
    pub(crate) control: ControlStatus,
    /// The process that starts forwarders.
    pub(crate) starter: StarterStatus,
    /// Whole-gateway counters since the gateway started.
    pub(crate) totals: TotalsStatus,
}

/// Where accounts, devices and sessions are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct StoreStatus {
    /// The program that keeps them.
    pub(crate) kind: String,
    /// What this gateway is called there.
    pub(crate) gateway: String,
    /// Since when it cannot be reached; none if it can.
    pub(crate) away_since: Option<Rfc3339>,
    /// Changes of sessions that wait to be written.
    pub(crate) waiting_changes: u64,
}

/// The process that carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ForwarderStatus {
    /// Its process id; none while it is being restarted.
    pub(crate) pid: Option<u32>,
    /// How often it had to be started again.
    pub(crate) restarts: u64,
    /// How often it was ended because it said more than it may.
    pub(crate) flagged: u64,
    /// When it started.
    pub(crate) since: Rfc3339,
}

/// The control process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ControlStatus {
    /// Its process id.
    pub(crate) pid: u32,
}

/// The process that starts forwarders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct StarterStatus {
    /// Its process id.
    pub(crate) pid: u32,
}

/// Whole-gateway counters since the gateway started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct TotalsStatus {
    /// Packets from devices.
    pub(crate) inbound_packets: u64,
    /// Their bytes.
    pub(crate) inbound_bytes: u64,
    /// Packets to devices.
    pub(crate) outbound_packets: u64,
    /// Their bytes.
    pub(crate) outbound_bytes: u64,
    /// Handshakes completed.
    pub(crate) handshakes: u64,
    /// Dropped packets by reason.
    pub(crate) drops: BTreeMap<String, u64>,
}

/// What an audit cannot read from the kernel: how the gateway was started.
#[derive(Deserialize, Serialize)]
pub(crate) struct AuditFacts {
    /// The forwarder's process id, as control calls it; none while it is being restarted.
    pub(crate) forwarder: Option<u32>,
    /// The starter's process id, as control calls it.
    pub(crate) starter: u32,
    /// Name of the TUN interface.
    pub(crate) interface: String,
    /// UDP addresses.
    pub(crate) listen: Vec<SocketAddr>,
    /// IPv4 network of the tunnel.
    pub(crate) tunnel_v4: Ipv4Net,
    /// IPv6 network of the tunnel.
    pub(crate) tunnel_v6: Ipv6Net,
    /// Directory of the store and the keys.
    pub(crate) data_dir: PathBuf,
    /// The store, if it is a file.
    pub(crate) store: PathBuf,
    /// The database that has the store, if it is a server's, and the file with its password.
    pub(crate) database: Option<(String, Option<PathBuf>)>,
    /// File of the data key, if the operator named one.
    pub(crate) data_key: Option<PathBuf>,
    /// Other files that settings name.
    pub(crate) named_files: Vec<PathBuf>,
    /// The admin socket.
    pub(crate) socket: PathBuf,
    /// The settings file.
    pub(crate) config: PathBuf,
    /// Its hash at the start; none if there was none.
    pub(crate) config_sha256: Option<String>,
    /// What the log shows.
    pub(crate) log: LogLevel,
    /// Where metrics are.
    pub(crate) metrics: Option<SocketAddr>,
    /// Days that a session is kept after its end.
    pub(crate) keep_sessions: u32,
    /// Days that a former value is kept.
    pub(crate) keep_archive: u32,
    /// Days that entries of the staff log and the disclosure register are kept.
    pub(crate) keep_records: u32,
    /// Fingerprint of the firewall table once it was set up.
    pub(crate) firewall: Option<String>,
    /// The commit that the program was built from.
    pub(crate) commit: String,
}

impl AuditFacts {
    /// The program that shows the store, as a shell has it.
    pub(crate) fn sql(&self) -> String {
        match &self.database {
            Some((url, _)) => format!("psql '{url}' -c"),
            None => format!("sqlite3 -readonly {}", self.store.display()),
        }
    }

    /// Whether an address of a tunnel network is a device's: the first of each is the gateway's own.
    pub(crate) fn is_of_a_device(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                self.tunnel_v4.contains(&v4)
                    && u32::from(v4) != u32::from(self.tunnel_v4.network()) + 1
            }
            IpAddr::V6(v6) => {
                self.tunnel_v6.contains(&v6)
                    && u128::from(v6) != u128::from(self.tunnel_v6.network()) + 1
            }
        }
    }
}

/// An account.
#[derive(Deserialize, Serialize)]
pub(crate) struct Account {
    /// Its number.
    pub(crate) id: i64,
    /// Its holder's e-mail address.
    pub(crate) email: String,
    /// Who agreed.
    pub(crate) confirmation: Confirmation,
    /// When it was added.
    pub(crate) created_at: Rfc3339,
    /// When its last service ends; none is never, 1970 is that it has none.
    pub(crate) service_until: Option<Rfc3339>,
    /// How many devices it has.
    pub(crate) devices: u32,
    /// How many it may have.
    pub(crate) device_limit: u32,
}

/// An account and its devices.
#[derive(Deserialize, Serialize)]
pub(crate) struct AccountWithDevices {
    /// The account.
    pub(crate) account: Account,
    /// Its services.
    pub(crate) services: Vec<Service>,
    /// Its devices.
    pub(crate) devices: Vec<Device>,
    /// To whom its customer agreed that data is disclosed.
    pub(crate) consents: Vec<Consent>,
}

/// A device.
#[derive(Deserialize, Serialize)]
pub(crate) struct Device {
    /// Its number; another one after its key was changed.
    pub(crate) id: u64,
    /// Its name, unique within the account.
    pub(crate) name: String,
    /// Its WireGuard key.
    pub(crate) public_key: PublicKey,
    /// Its address in the IPv4 tunnel network.
    pub(crate) tunnel_v4: Ipv4Addr,
    /// Its address in the IPv6 tunnel network.
    pub(crate) tunnel_v6: Ipv6Addr,
    /// When it was added, or its key last changed.
    pub(crate) created_at: Rfc3339,
}

/// A device and all that its config needs besides the private key.
#[derive(Deserialize, Serialize)]
pub(crate) struct DeviceWithConfig {
    /// The device.
    pub(crate) device: Device,
    /// The gateway's WireGuard key.
    pub(crate) gateway_public_key: PublicKey,
    /// The key shared with this device alone.
    pub(crate) preshared_key: PresharedKeyText,
    /// `host:port` of the gateway.
    pub(crate) endpoint: String,
    /// How sure the gateway is of it.
    pub(crate) endpoint_origin: EndpointOrigin,
    /// DNS servers.
    pub(crate) dns: Vec<IpAddr>,
    /// MTU of the tunnel in bytes.
    pub(crate) mtu: u16,
}

/// A preshared key as text, wiped when dropped.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct PresharedKeyText(String);

impl PresharedKeyText {
    /// Takes the text.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// A session of an account.
#[derive(Deserialize, Serialize)]
pub(crate) struct Session {
    /// The device's name; none once it is removed.
    pub(crate) device: Option<String>,
    /// Where the customer connected from.
    pub(crate) connecting_ip: IpAddr,
    /// When it began.
    pub(crate) began_at: Rfc3339,
    /// When it ended; none while it lasts.
    pub(crate) ended_at: Option<Rfc3339>,
}

/// What is past its time.
#[derive(Deserialize, Serialize)]
pub(crate) struct Purged {
    /// Whether it is removed; else it is only counted.
    pub(crate) removed: bool,
    /// Sessions are kept if they ended after this.
    pub(crate) latest_end: Rfc3339,
    /// Sessions that ended before.
    pub(crate) sessions: u64,
    /// Former numbers of devices that no session has any more.
    pub(crate) former_numbers: u64,
    /// Quarantines of addresses that are over.
    pub(crate) quarantines: u64,
    /// Former values in the archive.
    pub(crate) archived: u64,
    /// E-mail addresses that were not confirmed in time.
    pub(crate) unconfirmed: u64,
    /// Cancelled accounts of which nothing else is kept.
    pub(crate) accounts: u64,
    /// Entries of the staff log.
    pub(crate) staff_entries: u64,
    /// Entries of the disclosure register.
    pub(crate) disclosures: u64,
    /// Letters that nobody waits for any more.
    pub(crate) letters: u64,
}

/// How long sessions are kept.
#[derive(Deserialize, Serialize)]
pub(crate) struct Retention {
    /// Days that a session is kept after its end.
    pub(crate) keep_sessions: u32,
    /// When the session ended that ended first; none if none has.
    pub(crate) oldest_end: Option<Rfc3339>,
    /// No session may have ended before: a purge comes once a day.
    pub(crate) oldest_end_allowed: Rfc3339,
}
