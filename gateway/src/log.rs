//! Everything that the gateway can write to its log, which is stderr.
//!
//! Each event is a function here, with fields of [`FIELDS`] alone: an event with another one is not written.

use std::{fmt::Display, io, io::IsTerminal, process::ExitStatus, sync::OnceLock, time::Duration};

use std::os::unix::process::ExitStatusExt;
use tracing::{Level, Metadata, error, info, warn};
use tracing_subscriber::{
    Registry,
    filter::{FilterFn, Targets, filter_fn},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::program;

/// The fields that an event can have, `message` being a text of this file. None of them holds an address, a key, an
/// e-mail, a name or free text from outside.
pub(crate) const FIELDS: [&str; 21] = [
    "action",
    "applied",
    "attempt",
    "code",
    "commit",
    "error",
    "file",
    "line",
    "message",
    "milliseconds",
    "pid",
    "reason",
    "restarts",
    "rows",
    "seconds",
    "setting",
    "signal",
    "uid",
    "version",
    "waiting",
    "workers",
];

/// Lets events through that have known fields only.
fn known_fields() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|event| event.fields().iter().all(|field| FIELDS.contains(&field.name())))
}

/// Sends events of Tacit's own crates at `level` and above to stderr, and nobody else's.
pub(crate) fn start(level: Level) {
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let (ours, handle) = reload::Layer::new(ours(level));
    tracing_subscriber::registry().with(ours).with(to_stderr).with(known_fields()).init();
    let _ = LEVEL.set(handle);
}

/// Changes what is sent.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

fn ours(level: Level) -> Targets {
    Targets::new().with_target("tacit", level)
}

/// Sends events at `level` and above from now on.
pub(crate) fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails only without a subscriber, and then there is no log.
        let _ = handle.reload(ours(level));
    }
}

/// The gateway carries packets.
pub(crate) fn ready(workers: usize, pid: u32) {
    info!(version = program::VERSION, commit = program::COMMIT, workers, pid, "ready");
}

/// Rows that a crash left open were closed at the time the gateway was last known to run.
pub(crate) fn open_sessions_closed(rows: u64) {
    info!(rows, "sessions left open by a crash are closed");
}

/// Metrics are not to be had: nobody named an address for them, and another program has the default one.
pub(crate) fn metrics_off(problem: &dyn Display) {
    warn!(error = %problem, "metrics are off; name an address with --metrics, or `off`");
}

/// The site is not to be had: its default address is another program's, or the system keeps it from being served.
pub(crate) fn site_off(problem: &dyn Display) {
    warn!(error = %problem, "the customer site is off; name an address with --site, or `off`");
}

/// The site is where the operator wants it, and its visitors have nobody to ask.
pub(crate) fn no_contact() {
    warn!(
        "`contact` is not set, so pages name no address that customers can write to, as the privacy rules say (section 12)"
    );
}

/// The store failed a visitor of the site.
pub(crate) fn site_failed(problem: &dyn Display) {
    error!(error = %problem, "a page of the customer site could not be answered");
}

/// The site's renewed certificate is in use.
pub(crate) fn certificate_renewed() {
    info!("the customer site uses its renewed certificate");
}

/// The site's renewed certificate cannot be used.
pub(crate) fn certificate_not_renewed(problem: &dyn Display) {
    error!(error = %problem, "the customer site goes on with its former certificate");
}

/// The settings were read again: so many that are other than before are in force, so many wait.
pub(crate) fn settings_read(applied: usize, waiting: usize) {
    info!(applied, waiting, "the settings are read again");
}

/// The settings were read again, and something is wrong with them.
pub(crate) fn settings_not_read() {
    error!(
        "the settings cannot be used, and the former ones stay in force; `tacit config check` says why"
    );
}

/// A changed setting is in force.
pub(crate) fn setting_applied(setting: &str) {
    info!(setting, "changed and in force");
}

/// A changed setting comes into force with the next start.
pub(crate) fn setting_waits(setting: &str) {
    warn!(setting, "changed, which takes a restart");
}

/// The gateway was told to stop.
pub(crate) fn stopping() {
    info!("stopping");
}

/// Everything is as it was before the start.
pub(crate) fn stopped() {
    info!("stopped");
}

/// The forwarder is gone.
pub(crate) fn forwarder_died(status: Option<ExitStatus>) {
    let code = status.and_then(|status| status.code());
    let signal = status.and_then(|status| status.signal());
    error!(code, signal, "the forwarder died; its sessions are ended and it starts again");
}

/// The starter is gone, and with it the way to a new forwarder.
pub(crate) fn starter_died() {
    error!("the starter died; the gateway stops, because no forwarder could be started again");
}

/// Others that share the store went on without this gateway.
pub(crate) fn gateway_ends(why: &dyn Display) {
    error!(error = %why, "the gateway stops, for another start");
}

/// A new forwarder carries packets.
pub(crate) fn forwarder_restarted(restarts: u64, pid: u32) {
    warn!(restarts, pid, "the forwarder runs again");
}

/// A new forwarder could not be started.
pub(crate) fn forwarder_not_started(reason: &'static str, wait: Duration) {
    let milliseconds = wait.as_millis();
    error!(reason, milliseconds, "the forwarder did not start; trying again");
}

/// The forwarder panicked.
pub(crate) fn forwarder_fault(file: &'static str, line: u32) {
    error!(file, line, "the forwarder panicked");
}

/// The forwarder said nothing for too long and is killed.
pub(crate) fn forwarder_silent(silence: Duration) {
    error!(seconds = silence.as_secs(), "the forwarder hangs and is killed");
}

/// The forwarder said more than sessions justify, or what it cannot know, and is killed.
pub(crate) fn forwarder_flagged(reason: &'static str) {
    error!(reason, "the forwarder said more than it may and is killed");
}

/// The link to the forwarder failed, so it is killed.
pub(crate) fn link_failed(problem: &dyn Display) {
    error!(error = %problem, "the forwarder is killed");
}

/// Devices can no longer be looked up; who is not connected yet has to wait.
pub(crate) fn lookups_failing(problem: &dyn Display) {
    warn!(error = %problem, "devices cannot be looked up; new connections wait");
}

/// Devices can be looked up again.
pub(crate) fn lookups_work_again() {
    info!("devices can be looked up again");
}

/// The operator has this gateway left by its clients, or not any more.
pub(crate) fn draining(is_draining: bool) {
    if is_draining {
        warn!("the gateway is drained: whatever leads clients here is to lead them elsewhere");
    } else {
        info!("the gateway is not drained any more");
    }
}

/// A session could not be written yet.
pub(crate) fn session_not_written(problem: &dyn Display, attempt: u32) {
    warn!(error = %problem, attempt, "a session is not written yet; trying again");
}

/// Sessions were still to be written when the gateway had to stop.
pub(crate) fn sessions_kept(rows: usize) {
    warn!(
        rows,
        "the store did not take these session changes in time; they wait, sealed, for the next start"
    );
}

/// Sessions were still to be written when the gateway had to stop, and could not be kept for the next start either.
pub(crate) fn sessions_lost(problem: &dyn Display, rows: usize) {
    error!(error = %problem, rows, "the store did not take these session changes in time, and they could not be kept");
}

/// Sessions that waited since the last stop are in the store.
pub(crate) fn unwritten_taken_up(rows: usize) {
    info!(rows, "the session changes that waited since the last stop are written");
}

/// Sessions that waited since the last stop cannot be read.
pub(crate) fn unwritten_put_aside(problem: &dyn Display) {
    error!(error = %problem, "the session changes that waited since the last stop cannot be written; their file is put aside as sessions.unread");
}

/// Sessions of gateways that are taken for dead were closed at the time each was last known to run.
pub(crate) fn sessions_of_the_dead_closed(rows: u64) {
    warn!(rows, "another gateway has been silent for minutes; its sessions are closed");
}

/// The store cannot be reached.
pub(crate) fn store_away(problem: &dyn Display) {
    error!(error = %problem, "the store is away; tunnels go on, changes of sessions wait, and nobody new connects");
}

/// The store can be reached again.
pub(crate) fn store_back(away: Duration, rows: usize) {
    let seconds = away.as_secs();
    info!(
        seconds,
        rows, "the store is back; the changes of sessions that waited are being written"
    );
}

/// The store did not take note that the gateway is alive.
pub(crate) fn alive_not_written(problem: &dyn Display) {
    warn!(error = %problem, "the time of the gateway's last sign of life is not written");
}

/// Whose service is over could not be looked up.
pub(crate) fn service_ends_unknown(problem: &dyn Display) {
    warn!(error = %problem, "the ends of services cannot be looked up; trying again");
}

/// Sessions past their time are gone from the store and its files.
pub(crate) fn purged(rows: u64) {
    info!(rows, "sessions past their time are removed");
}

/// What is past its time could not be removed.
pub(crate) fn not_purged(problem: &dyn Display) {
    error!(error = %problem, "what is past its time is not removed; trying again within the hour");
}

/// Nothing is sealed with a former data key any more, and that key is gone.
pub(crate) fn data_key_changed() {
    info!("the data key is changed; nothing is sealed with the former one");
}

/// Not everything could be sealed with the new data key yet.
pub(crate) fn data_key_not_changed(problem: &dyn Display, wait: Duration) {
    error!(error = %problem, seconds = wait.as_secs(), "not all is sealed with the new data key; trying again");
}

/// The mail server's name is not known; letters wait until a start that knows it.
pub(crate) fn mail_server_unknown(problem: &dyn Display) {
    warn!(error = %problem, "`mail-server` cannot be looked up; letters wait until the gateway is started again");
}

/// Letters cannot be sent for now.
pub(crate) fn mail_failing(problem: &dyn Display) {
    warn!(error = %problem, "letters cannot be sent; trying again");
}

/// Letters can be sent again.
pub(crate) fn mail_works_again() {
    info!("letters can be sent again");
}

/// Nobody knows whether the mail server has these letters.
pub(crate) fn letters_in_doubt(rows: u64) {
    warn!(
        rows,
        "nobody knows whether the mail server has these letters; `tacit notice list` says what to do"
    );
}

/// Changed rules come later than on their date for these customers.
pub(crate) fn customers_told_late(rows: u64) {
    warn!(
        rows,
        "these customers were not told of changed rules in time; for them the change comes 14 days after the letter"
    );
}

/// Acceptances and missing letters could not be looked for.
pub(crate) fn rules_not_looked_after(problem: &dyn Display) {
    error!(error = %problem, "who accepted the rules, and who must be told, is not written yet; trying again");
}

/// Somebody with access to the admin socket changed something.
pub(crate) fn changed(action: &'static str, uid: u32) {
    info!(action, uid, "changed by the operator");
}

/// A backup that somebody asked for is not whole.
pub(crate) fn not_backed_up(problem: &dyn Display) {
    error!(error = %problem, "a backup could not be finished");
}

/// A step of stopping failed; the next ones are taken all the same.
pub(crate) fn stop_failed(problem: &dyn Display) {
    error!(error = %problem, "stopping left something behind");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn event_with_a_field_that_is_not_listed_is_not_written() {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(written.clone());
        let subscriber = tracing_subscriber::registry().with(layer).with(known_fields());
        tracing::subscriber::with_default(subscriber, || {
            info!(rows = 7_u64, "kept");
            info!(destination = "203.0.113.9", "leaked");
            info!(rows = 7_u64, email = "ann@example.org", "leaked");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("kept") && !text.contains("leaked"), "{text}");
    }
}
