//! Devices: connecting one in a minute, and what there is. A private key never comes here.

use std::{collections::HashSet, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use tacit_keys::{ClientConfig, PresharedKey, PublicKey};
use tacit_messages::{DeviceId, UnixSeconds};
use zeroize::Zeroizing;

use super::Done;
use crate::{
    Device, DeviceName, Entrance, StoreError,
    site::{
        Site,
        answer::{Answer, Failure, Frame, page, refused, to},
        choice::{self, Choice},
        fields::{Fields, Sent},
        visitor::Visitor,
        words::{Text, when},
    },
};

/// Seconds between keepalives: a device behind NAT stays reachable.
const KEEPALIVE: u16 = 25;

/// Within what time the same device once more is the same form once more.
const SENT_TWICE: Duration = Duration::from_secs(60);

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage<'a> {
    frame: Frame<'a>,
    done: Option<Text>,
    problem: Option<Text>,
    name: &'a str,
    public_key: &'a str,
    devices: Vec<Line>,
    limit: u32,
    has_service: bool,
    gateways: Vec<Choice>,
    chosen: i64,
}

struct Line {
    number: u64,
    name: String,
    /// What it was to be called, if that could not be.
    refused_name: Option<String>,
    public_key: String,
    addresses: String,
    since: String,
    is_connected: bool,
}

impl<'a> DevicesPage<'a> {
    async fn new(site: &'a Site, visitor: &Visitor) -> Result<Self, Failure> {
        let account = site.store.account(&crate::AccountSelector::Id(visitor.account)).await?;
        let devices = site.store.devices(visitor.account).await?;
        let connected: HashSet<DeviceId> =
            site.store.connected_devices(visitor.account).await?.into_iter().collect();
        let now = UnixSeconds::now();
        let line = |device: Device| Line {
            is_connected: connected.contains(&device.id),
            number: device.id.0,
            name: device.name.as_str().to_owned(),
            refused_name: None,
            public_key: device.public_key.to_string(),
            addresses: format!("{}, {}", device.tunnel_v4, device.tunnel_v6),
            since: when(device.created_at),
        };
        Ok(Self {
            frame: Frame::new(site, Some(visitor)),
            done: None,
            problem: None,
            name: "",
            public_key: "",
            devices: devices.into_iter().map(line).collect(),
            limit: account.device_limit,
            has_service: account.service_until.is_none_or(|until| until > now),
            gateways: choice::offered(site, choice::all(site).await?).await?,
            chosen: site.store.gateway_number(),
        })
    }
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visitor: Visitor,
    Done(done): Done,
) -> Answer {
    page(&DevicesPage { done, ..DevicesPage::new(&site, &visitor).await? })
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage<'a> {
    frame: Frame<'a>,
    name: &'a str,
    config: &'a str,
}

/// Adds a device with the public key that was made elsewhere, and shows its config without the private one. The script
/// of the page before gets the config alone, and puts the private key in.
pub(super) async fn add(State(site): State<Arc<Site>>, headers: HeaderMap, sent: Sent) -> Answer {
    let Sent { visitor, fields } = &sent;
    let wants_text = headers.get("accept").is_some_and(|kind| kind == "text/plain");
    let name = fields.trimmed("name");
    match try_to_add(&site, visitor, fields).await? {
        Ok(config) if wants_text => Ok(plain(StatusCode::OK, &config)),
        Ok(config) => {
            page(&DevicePage { frame: Frame::new(&site, Some(visitor)), name, config: &config })
        }
        Err(problem) if wants_text => {
            Ok(plain(StatusCode::UNPROCESSABLE_ENTITY, &problem.to_string()))
        }
        Err(problem) => {
            let devices = DevicesPage::new(&site, visitor).await?;
            let chosen = fields.text("gateway").parse().unwrap_or(devices.chosen);
            let public_key = fields.trimmed("public_key");
            refused(&DevicesPage { problem: Some(problem), name, public_key, chosen, ..devices })
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text.to_owned()).into_response()
}

async fn try_to_add(
    site: &Site,
    visitor: &Visitor,
    fields: &Fields,
) -> Result<Result<Zeroizing<String>, Text>, Failure> {
    let name = match DeviceName::parse(fields.trimmed("name")) {
        Ok(name) => name,
        Err(error) => return Ok(Err(site.words.device_name(error))),
    };
    let Ok(public_key) = fields.trimmed("public_key").parse::<PublicKey>() else {
        return Ok(Err(site.words.say("problem.no-key")));
    };
    let gateways = choice::all(site).await?;
    if gateways.is_empty() {
        return Ok(Err(site.words.say("problem.no-entrance")));
    }
    if gateways.iter().any(|gateway| gateway.entrance.public_key == public_key) {
        return Ok(Err(site.words.say("problem.own-key")));
    }
    let offered = choice::offered(site, gateways).await?;
    let Some(Choice { entrance, .. }) = choice::find(offered, fields.text("gateway")) else {
        return Ok(Err(site.words.say("problem.no-such-gateway")));
    };
    let preshared_key = PresharedKey::generate();
    let account = visitor.account;
    let added = site.door.add_device(&site.store, account, &name, public_key, &preshared_key).await;
    let error = match added {
        Ok(device) => return Ok(Ok(config(&device, preshared_key, entrance))),
        Err(error) => error,
    };
    // The form was sent twice, and the browser shows the second answer.
    let now = UnixSeconds::now();
    let before = site.store.device_just_added(account, &name, public_key, SENT_TWICE, now).await?;
    match before {
        Some((device, preshared_key)) => Ok(Ok(config(&device, preshared_key, entrance))),
        None => site.words.door(error).map(Err),
    }
}

fn config(device: &Device, preshared_key: PresharedKey, entrance: Entrance) -> Zeroizing<String> {
    let config = ClientConfig {
        private_key: None,
        tunnel_v4: device.tunnel_v4,
        tunnel_v6: device.tunnel_v6,
        dns: entrance.dns,
        mtu: Some(entrance.mtu),
        gateway_public_key: entrance.public_key,
        preshared_key,
        endpoint: entrance.endpoint,
        persistent_keepalive: Some(KEEPALIVE),
    };
    config.render()
}

/// The device of the visitor that a form names.
async fn named(site: &Site, sent: &Sent) -> Result<Option<Device>, Failure> {
    let number: Option<u64> = sent.fields.text("device").parse().ok();
    let devices = site.store.devices(sent.visitor.account).await?;
    Ok(devices.into_iter().find(|device| Some(device.id.0) == number))
}

pub(super) async fn rename(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let Some(problem) = try_to_rename(&site, &sent).await? else {
        return Ok(to("/devices?done=name"));
    };
    let mut page = DevicesPage::new(&site, &sent.visitor).await?;
    let number = sent.fields.text("device");
    if let Some(line) = page.devices.iter_mut().find(|line| line.number.to_string() == number) {
        line.refused_name = Some(sent.fields.trimmed("name").to_owned());
    }
    refused(&DevicesPage { problem: Some(problem), ..page })
}

/// Gives a device another name, or says why not.
async fn try_to_rename(site: &Site, sent: &Sent) -> Result<Option<Text>, Failure> {
    let Some(device) = named(site, sent).await? else {
        return site.words.store(StoreError::NoSuchDevice).map(Some);
    };
    let name = match DeviceName::parse(sent.fields.trimmed("name")) {
        Ok(name) => name,
        Err(error) => return Ok(Some(site.words.device_name(error))),
    };
    match site.store.rename_device(device.account, device.id, &name).await {
        Ok(()) => Ok(None),
        Err(error) => site.words.store(error).map(Some),
    }
}

/// Removes a device. One that is not there any more is removed: the form was sent twice.
pub(super) async fn remove(State(site): State<Arc<Site>>, sent: Sent) -> Answer {
    let done = || Ok(to("/devices?done=device"));
    let Ok(number) = sent.fields.text("device").parse() else { return done() };
    let (account, now) = (sent.visitor.account, UnixSeconds::now());
    match site.store.remove_device_numbered(account, DeviceId(number), now).await {
        Ok(removed) => site.surroundings.disconnect(&[removed]).await,
        Err(StoreError::NoSuchDevice) => {}
        Err(error) => return Err(error.into()),
    }
    done()
}
