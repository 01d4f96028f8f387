//! The command line. Results go to stdout, all else to stderr; exit codes are 0 done, 1 failed, 2 usage, 3 something
//! was found that must not be.

mod account;
mod audit;
mod backup;
mod code;
mod config;
mod device;
mod disclosure;
mod forwarder;
mod gateway;
mod inventory;
mod key;
mod notice;
mod password;
mod print;
mod private_output;
mod process;
mod prove;
mod rules;
mod sealed_file;
mod session;
mod staff;
mod starter;
mod status;
mod usage;

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand, error::ErrorKind};
use tokio::runtime;

use self::{
    account::AccountVerb,
    audit::{AuditArguments, Found},
    backup::{BackupArguments, RestoreArguments},
    code::CodeVerb,
    config::ConfigVerb,
    device::DeviceVerb,
    disclosure::DisclosureVerb,
    gateway::GatewayVerb,
    inventory::InventoryArguments,
    key::KeyVerb,
    notice::NoticeVerb,
    print::Printable,
    prove::ProveArguments,
    rules::RulesVerb,
    session::SessionVerb,
    staff::StaffVerb,
    status::StatusArguments,
};
use crate::{
    admin::{Request, client},
    config::{Overrides, Places, Sources},
    control, log, name_service,
    program::Program,
};

/// A WireGuard gateway that cannot keep a traffic log.
#[derive(Parser)]
#[command(
    name = "tacit",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  tacit run                                        start the gateway
  tacit account add ann@example.org --of-age       add an account
  tacit device add ann@example.org laptop > laptop.conf
                                                   add a device, keep its config
  tacit status                                     see how the gateway is
  tacit prove                                      see that it keeps nothing of the traffic
  tacit audit                                      see that it can keep no traffic log
  tacit --version                                  see which program this is

Every setting is a flag, a TACIT_… variable and a key of tacit.toml, in that order of precedence."
)]
struct Cli {
    #[command(flatten)]
    places: Places,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the gateway in the foreground; makes keys and store on first start.
    #[command(after_help = "Examples:
  tacit run
  tacit run --endpoint vpn.example.org --dns 9.9.9.9
  tacit run --listen 0.0.0.0:443 --listen '[::]:443'
  TACIT_ENDPOINT=vpn.example.org tacit run --config ./tacit.toml

A second gateway on the same machine, with tunnel networks of its own:
  tacit run --data-dir /var/lib/tacit-2 --socket /run/tacit-2/admin.sock \\
      --interface tacit1 --listen 0.0.0.0:51821 --listen '[::]:51821'")]
    Run(Box<Overrides>),

    /// Check and show the settings that a gateway would start with.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit config check
  tacit config show"
    )]
    Config(ConfigVerb),

    /// Show how the running gateway is.
    Status(StatusArguments),

    /// Add, look at, change, export and cancel accounts.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit account add ann@example.org --of-age
  tacit account list
  tacit account cancel ann@example.org"
    )]
    Account(AccountVerb),

    /// Add, look at, rotate and remove devices.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit device add ann@example.org laptop > laptop.conf
  tacit device remove ann@example.org laptop"
    )]
    Device(DeviceVerb),

    /// Look at sessions, and remove old ones.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit session list ann@example.org
  tacit session purge"
    )]
    Session(SessionVerb),

    /// See and direct the gateways that share a database.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit gateway list
  tacit gateway drain oslo"
    )]
    Gateway(GatewayVerb),

    /// Make and list activation codes, which switch a service on.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit code make --service vpn --days 30
  tacit code list"
    )]
    Code(CodeVerb),

    /// Disclose what is held about an account, on a lawful basis only, and look at the register of that.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit disclosure make 17 --basis consent --reference 'letter of 3 May' --recipient 'a notary' --output answer.json
  tacit disclosure list"
    )]
    Disclosure(DisclosureVerb),

    /// See who of the staff looked at or changed what, and that nothing of it was tampered with.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit staff log
  tacit staff verify"
    )]
    Staff(StaffVerb),

    /// Change the data key, which seals what is personal in the store.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit key rotate --wait
  tacit key show"
    )]
    Key(KeyVerb),

    /// Publish and look at the privacy rules.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit rules publish rules.md --effective 2026-03-01
  tacit rules list"
    )]
    Rules(RulesVerb),

    /// Look after the letters that tell customers of changed rules.
    #[command(
        subcommand,
        after_help = "Examples:
  tacit notice list --wait
  tacit notice retry"
    )]
    Notice(NoticeVerb),

    /// Show every field of the store: what it is, why it may be kept, whether it is sealed, how long it stays.
    Inventory(InventoryArguments),

    /// Write the store of the running gateway to a sealed file, as it is at one moment, and read it back.
    ///
    /// The file holds all rows of the store: accounts, devices, sessions, rules and letters, archive, staff log and
    /// disclosure register, still sealed with the data key where they are in the store. It holds neither the data key
    /// nor the gateway's own key nor tacit.toml. It is sealed once more, with a passphrase or for the holders of keys,
    /// in the format of age. What is purged later stays in it: remove old backups in time.
    #[command(after_help = "Examples:
  tacit backup monday.age
  tacit backup monday.age --passphrase-file /root/passphrase
  age-keygen -o backup.key          # elsewhere; it prints the public key
  tacit backup monday.age --recipient age1fl8g…x7")]
    Backup(BackupArguments),

    /// Make a store of a backup, for a gateway that does not run.
    ///
    /// The store may be of another kind than the one that was backed up. The data key that was in use then must be in
    /// its place. What happened since the backup is undone: accounts that were cancelled since are there again.
    #[command(after_help = "Examples:
  tacit restore monday.age
  tacit restore monday.age --identity-file backup.key --force
  tacit restore monday.age --database postgres://tacit@db.example.org/tacit")]
    Restore(RestoreArguments),

    /// Send marked traffic through a private gateway, then search all that it wrote and holds for the marks.
    Prove(ProveArguments),

    /// Check that host, processes, store and configuration are unable to keep a traffic log, with evidence.
    Audit(AuditArguments),
}

/// Exit code of a command line that is not written as it must be.
const WRONG_USAGE: u8 = 2;

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    if let Some(ended) = process::run() {
        return ended;
    }
    name_service::use_built_in();
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(ending) if ending.kind() == ErrorKind::DisplayVersion => {
            concluded(print_version().map(|()| ExitCode::SUCCESS))
        }
        Err(ending) => match usage::fault(&ending) {
            Some(fault) => {
                eprintln!("tacit: {}", Printable(&fault));
                ExitCode::from(WRONG_USAGE)
            }
            None => ending.exit(),
        },
    }
}

fn print_version() -> anyhow::Result<()> {
    let program = Program::running().context("reading the program's own file")?;
    print::write_line(&program.to_string()).context("writing to stdout")
}

impl Cli {
    /// Does what the verb says.
    fn run(self) -> ExitCode {
        let done = match self.verb {
            Verb::Prove(arguments) => return concluded(prove::run(&arguments)),
            Verb::Run(overrides) => run_gateway(&self.places, &overrides),
            Verb::Audit(arguments) => return concluded(audit_gateway(&self.places, arguments)),
            Verb::Staff(verb) => return concluded(ask_about_staff(&self.places, verb)),
            Verb::Inventory(arguments) => inventory::run(&arguments),
            Verb::Config(verb) => config::run(&self.places, &verb),
            Verb::Restore(arguments) => restore_store(&self.places, arguments),
            verb => ask_gateway(&self.places, verb),
        };
        concluded(done.map(|()| ExitCode::SUCCESS))
    }
}

/// The exit code of what was done; says why if it failed.
fn concluded(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("tacit: {}", Printable(&causes(&error)));
        ExitCode::FAILURE
    })
}

/// The error and its causes in one text; a cause that an error already tells is not repeated.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        match (told.is_empty(), told.contains(&cause)) {
            (true, _) => cause,
            (false, true) => told,
            (false, false) => format!("{told}: {cause}"),
        }
    })
}

fn run_gateway(places: &Places, overrides: &Overrides) -> anyhow::Result<()> {
    let settings = crate::config::load(places, overrides)?.settings;
    log::start(settings.log.into());
    control::run(settings, Sources::new(places, overrides))
}

fn restore_store(places: &Places, arguments: RestoreArguments) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting")?.block_on(backup::restore(places, arguments))
}

/// Exit code of an audit that found something.
const FOUND_SOMETHING: u8 = 3;

fn audit_gateway(places: &Places, arguments: AuditArguments) -> anyhow::Result<ExitCode> {
    let socket_path = places.socket_path()?;
    // One thread, which may have to move to the gateway's network namespace.
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    Ok(exit_code(runtime.block_on(audit::run(&socket_path, arguments))?))
}

fn exit_code(found: Found) -> ExitCode {
    match found {
        Found::Nothing => ExitCode::SUCCESS,
        Found::Violation => ExitCode::from(FOUND_SOMETHING),
    }
}

fn ask_about_staff(places: &Places, verb: StaffVerb) -> anyhow::Result<ExitCode> {
    let gateway = RunningGateway { socket_path: &places.socket_path()? };
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    Ok(exit_code(runtime.block_on(staff::run(&gateway, verb))?))
}

fn ask_gateway(places: &Places, verb: Verb) -> anyhow::Result<()> {
    let gateway = RunningGateway { socket_path: &places.socket_path()? };
    runtime::Builder::new_current_thread().enable_all().build().context("starting")?.block_on(
        async {
            match verb {
                Verb::Status(arguments) => status::run(&gateway, arguments).await,
                Verb::Account(verb) => account::run(&gateway, verb).await,
                Verb::Device(verb) => device::run(&gateway, verb).await,
                Verb::Session(verb) => session::run(&gateway, verb).await,
                Verb::Key(verb) => key::run(&gateway, verb).await,
                Verb::Gateway(verb) => gateway::run(&gateway, verb).await,
                Verb::Code(verb) => code::run(&gateway, verb).await,
                Verb::Disclosure(verb) => disclosure::run(&gateway, verb).await,
                Verb::Rules(verb) => rules::run(&gateway, verb).await,
                Verb::Notice(verb) => notice::run(&gateway, verb).await,
                Verb::Backup(arguments) => backup::back_up(&gateway, arguments).await,
                Verb::Run(_)
                | Verb::Restore(_)
                | Verb::Staff(_)
                | Verb::Inventory(_)
                | Verb::Config(_)
                | Verb::Prove(_)
                | Verb::Audit(_) => Ok(()),
            }
        },
    )
}

/// The gateway that an operator verb asks.
struct RunningGateway<'a> {
    socket_path: &'a Path,
}

impl RunningGateway<'_> {
    async fn ask<R: Request>(&self, request: R) -> anyhow::Result<R::Response> {
        client::call(self.socket_path, request).await
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn commands(command: &clap::Command) -> Vec<&clap::Command> {
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        below.flat_map(|below| [vec![below], commands(below)].concat()).collect()
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in commands(&Cli::command()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  "), "{}", verb.get_name());
        }
    }

    #[test]
    fn cause_is_told_once() {
        let error = anyhow::anyhow!("denied").context("opening x: denied").context("starting");
        assert_eq!(causes(&error), "starting: opening x: denied");
    }

    #[test]
    fn every_setting_is_a_flag_a_variable_and_a_key() {
        let settings = serde_json::to_value(crate::config::Settings::default()).unwrap();
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for key in settings.as_object().unwrap().keys() {
            let flag = run.get_arguments().chain(command.get_arguments());
            let flag = flag.into_iter().find(|flag| flag.get_long() == Some(key));
            let variable = format!("TACIT_{}", key.replace('-', "_").to_uppercase());
            let named = flag.and_then(|flag| flag.get_env()).and_then(|name| name.to_str());
            assert_eq!(named, Some(variable.as_str()), "{key}");
        }
    }
}
