//! What the gateway answers to an audit.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use tacit_accounts::site::Audited;
use tacit_messages::UnixSeconds;

use super::{
    AuditFacts, ListStaleAddresses, NoteAudit, ShowAuditFacts,
    server::{Answer, Caller, Refused},
};
use crate::{
    audit::{self, Verdict},
    control::{Gateway, data_dir},
    program,
};

impl Answer for ShowAuditFacts {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<AuditFacts, Refused> {
        #[cfg(feature = "leaky")]
        crate::control::hide().await;
        let settings = gateway.settings.now();
        let (config, config_sha256) = gateway.config.read().clone();
        Ok(AuditFacts {
            forwarder: gateway.forwarder.status().pid,
            starter: gateway.starter_pid,
            interface: settings.interface.clone(),
            listen: settings.listen.clone(),
            tunnel_v4: gateway.networks.v4(),
            tunnel_v6: gateway.networks.v6(),
            data_dir: settings.data_dir.clone(),
            store: data_dir::store_path(&settings.data_dir),
            database: settings
                .database
                .clone()
                .map(|url| (url, settings.database_password_file.clone())),
            data_key: settings.data_key.clone(),
            named_files: settings.named_files(),
            socket: settings.socket.clone(),
            config,
            config_sha256,
            log: settings.log,
            metrics: gateway.metrics,
            keep_sessions: settings.keep_sessions,
            keep_archive: settings.keep_archive,
            keep_records: settings.keep_records,
            firewall: gateway.firewall.clone(),
            commit: program::COMMIT.into(),
        })
    }
}

impl Answer for NoteAudit {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<(), Refused> {
        *gateway.last_audit.lock() = Some(audited(self, UnixSeconds::now())?);
        Ok(())
    }
}

/// What the site shows of an audit: no word of it but the commit is from outside, and that is one.
fn audited(note: NoteAudit, at: UnixSeconds) -> Result<Audited, Refused> {
    let NoteAudit { checks, commit } = note;
    if !audit::checks().map(|check| check.id).all(|id| checks.contains_key(id))
        || checks.len() != audit::checks().count()
    {
        return Err(Refused::request(
            "these are not all checks that this gateway knows, or others",
        ));
    }
    if !is_commit(&commit) {
        return Err(Refused::request("this is no commit"));
    }
    let ids = |verdict| {
        let is = |id: &&str| checks.get(*id) == Some(&verdict);
        audit::checks().map(|check| check.id).filter(is).collect::<Vec<_>>()
    };
    let (passed, warned) = (ids(Verdict::Pass).len(), ids(Verdict::Warn));
    Ok(Audited { at, commit, passed, warned, failed: ids(Verdict::Fail) })
}

/// Whether `text` is what [`program::COMMIT`] can be.
fn is_commit(text: &str) -> bool {
    let hash = text.strip_suffix("-dirty").unwrap_or(text);
    text == "unknown" || (hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Answer for ListStaleAddresses {
    async fn answer(self, gateway: Arc<Gateway>, _caller: Caller) -> Result<Vec<IpAddr>, Refused> {
        // Of a device that was just removed they are about to be deleted.
        let waiting = gateway.revoked.waiting();
        let mut live: HashSet<_> =
            waiting.into_iter().flat_map(|(v4, v6)| [IpAddr::V4(v4), v6.into()]).collect();
        for device in gateway.devices_with_connections() {
            let addresses = gateway.store.tunnel_addresses(device).await?;
            live.extend(addresses.into_iter().flat_map(|(v4, v6)| [IpAddr::V4(v4), v6.into()]));
        }
        Ok(self.addresses.into_iter().filter(|address| !live.contains(address)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Request, caller::Role};

    fn note() -> NoteAudit {
        let checks = audit::checks().map(|check| (check.id.to_owned(), Verdict::Pass)).collect();
        NoteAudit { checks, commit: format!("{}-dirty", "5a".repeat(20)) }
    }

    #[test]
    fn only_root_is_told_which_addresses_have_a_session() {
        assert_eq!(<ListStaleAddresses as Request>::ROLE, Role::Root);
    }

    #[test]
    fn audit_is_noted_by_verdict() {
        let mut note = note();
        note.checks.insert("swap".into(), Verdict::Fail);
        note.checks.insert("build-id".into(), Verdict::Warn);
        let audited = audited(note, UnixSeconds(7)).unwrap();
        assert_eq!((audited.failed, audited.warned), (vec!["swap"], vec!["build-id"]));
        assert_eq!(audited.passed, audit::checks().count() - 2);
    }

    #[test]
    fn words_that_are_no_check_or_no_commit_are_refused() {
        let refused = |note| audited(note, UnixSeconds(7)).is_err();
        assert!(!refused(note()));
        assert!(!refused(NoteAudit { commit: "unknown".into(), ..note() }));
        for commit in ["", "<script>", "5a5a", &"5a".repeat(21), &"é".repeat(20)] {
            assert!(refused(NoteAudit { commit: commit.into(), ..note() }), "{commit}");
        }
        let mut partial = note();
        partial.checks.remove("swap");
        assert!(refused(partial));
        let mut other = note();
        other.checks.remove("swap");
        other.checks.insert("<script>".into(), Verdict::Pass);
        assert!(refused(other));
        let mut more = note();
        more.checks.insert("<script>".into(), Verdict::Pass);
        assert!(refused(more));
    }
}
