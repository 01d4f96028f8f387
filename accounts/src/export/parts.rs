//! What an export says of each thing.

use serde::Serialize;

use crate::{
    Consent, Device, Disclosure, FormerValue, Service, Session, StaffEntry, times::rfc3339,
};

#[derive(Serialize)]
pub(crate) struct ServicePart {
    pub(crate) name: String,
    pub(crate) ends_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DevicePart {
    pub(crate) name: String,
    pub(crate) public_key: String,
    pub(crate) tunnel_v4: String,
    pub(crate) tunnel_v6: String,
    pub(crate) key_since: String,
}

#[derive(Serialize)]
pub(crate) struct SessionPart {
    pub(crate) device: Option<String>,
    pub(crate) connecting_ip: String,
    pub(crate) began_at: String,
    pub(crate) ended_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ConsentPart {
    pub(crate) recipient: String,
    pub(crate) given_at: String,
    pub(crate) withdrawn_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct FormerPart {
    pub(crate) kind: &'static str,
    pub(crate) value: String,
    pub(crate) reason: &'static str,
    pub(crate) archived_at: String,
    pub(crate) keep_until: String,
}

#[derive(Serialize)]
pub(crate) struct RulesPart {
    pub(crate) version: i64,
    pub(crate) letter_written_at: Option<String>,
    pub(crate) letter_sent_at: Option<String>,
    pub(crate) accepted_on: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DisclosurePart {
    pub(crate) made_at: String,
    pub(crate) basis: &'static str,
    pub(crate) reference: String,
    pub(crate) recipient: String,
    pub(crate) sha256: String,
}

#[derive(Serialize)]
pub(crate) struct StaffPart {
    pub(crate) at: String,
    pub(crate) verb: String,
    pub(crate) data: String,
}

impl From<Service> for ServicePart {
    fn from(service: Service) -> Self {
        Self { name: service.name.to_string(), ends_at: service.ends_at.map(rfc3339) }
    }
}

impl From<Device> for DevicePart {
    fn from(device: Device) -> Self {
        Self {
            name: device.name.as_str().to_owned(),
            public_key: device.public_key.to_string(),
            tunnel_v4: device.tunnel_v4.to_string(),
            tunnel_v6: device.tunnel_v6.to_string(),
            key_since: rfc3339(device.created_at),
        }
    }
}

impl From<Session> for SessionPart {
    fn from(session: Session) -> Self {
        Self {
            device: session.device_name.map(|name| name.as_str().to_owned()),
            connecting_ip: session.connecting_ip.expose().to_string(),
            began_at: rfc3339(session.began_at),
            ended_at: session.ended_at.map(rfc3339),
        }
    }
}

impl From<Consent> for ConsentPart {
    fn from(consent: Consent) -> Self {
        Self {
            recipient: consent.recipient.expose().to_owned(),
            given_at: rfc3339(consent.given_at),
            withdrawn_at: consent.withdrawn_at.map(rfc3339),
        }
    }
}

impl From<FormerValue> for FormerPart {
    fn from(former: FormerValue) -> Self {
        Self {
            kind: former.kind.as_str(),
            value: former.value.to_string(),
            reason: former.reason.as_str(),
            archived_at: rfc3339(former.archived_at),
            keep_until: rfc3339(former.keep_until),
        }
    }
}

impl From<Disclosure> for DisclosurePart {
    fn from(disclosure: Disclosure) -> Self {
        Self {
            made_at: rfc3339(disclosure.at),
            basis: disclosure.basis.as_str(),
            reference: disclosure.reference.expose().to_owned(),
            recipient: disclosure.recipient.expose().to_owned(),
            sha256: disclosure.content_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// What the staff looked at or changed, and when. Not who: that is data of theirs.
impl From<StaffEntry> for StaffPart {
    fn from(entry: StaffEntry) -> Self {
        Self { at: rfc3339(entry.at), verb: entry.verb, data: entry.data }
    }
}

/// Each as the export says it.
pub(super) fn parts<T, P: From<T>>(things: Vec<T>) -> Vec<P> {
    things.into_iter().map(P::from).collect()
}
