//! The gateway's side of the admin socket.
//!
//! A connection carries one request. Few are open at once, and none for long unless the gateway works for it, so that
//! nobody who may ask keeps others from asking.

use std::{future::Future, os::unix::net, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::post,
    serve::IncomingStream,
};
use serde::Deserialize;
use tacit_accounts::{AccountSelector, DataKind, Deed};
use tokio::net::UnixListener;

pub(crate) use super::caller::Caller;
use super::caller::Role;
use super::{
    AddAccount, AddDevice, ListAccounts, ListDevices, ListNotices, ListRules, ListSessions,
    ListStaleAddresses, NoteAudit, PublishRules, Purge, Refusal, RemoveDevice, Request,
    RetryNotices, RotateDevice, SettleNotice, ShowAccount, ShowAuditFacts, ShowRetention,
    ShowRules, ShowStatus, TryMail, backup,
};
use super::{
    fleet::{DrainGateway, ListGateways, RemoveGateway},
    keys::{RetireGatewayKey, RotateDataKey, RotateGatewayKey, ShowKeys},
    people::{
        CancelAccount, ChangeEmail, ExportAccount, GrantService, ListCodes, MakeCodes, SetPassword,
    },
    records::{ListDisclosures, ListStaffLog, MakeDisclosure, VerifyRecords},
};
use crate::{
    bounded::{Bounded, Work},
    control::Gateway,
};

/// How many may ask at once; more wait for their turn.
const CONNECTIONS: usize = 32;

/// How long a connection lasts at the most, before its request has come and after it was answered.
const LONGEST: Duration = Duration::from_secs(3);

/// A connection: who made it, and what is done for it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) caller: Caller,
    pub(super) work: Work,
}

impl Connected<IncomingStream<'_, Bounded<UnixListener>>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Bounded<UnixListener>>) -> Self {
        let held = stream.io();
        Self { caller: Caller::of(held.io()), work: held.work().clone() }
    }
}

/// How a [`Request`] is answered.
pub(crate) trait Answer: Request {
    /// Does what is asked.
    fn answer(
        self,
        gateway: Arc<Gateway>,
        caller: Caller,
    ) -> impl Future<Output = Result<Self::Response, Refused>> + Send;
}

/// A request that was not done: whose fault that is, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    error: String,
}

impl Refused {
    /// Refuses what cannot be done as it was asked.
    pub(crate) fn request(error: impl ToString) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, error: error.to_string() }
    }

    /// Refuses who may not ask for it.
    pub(super) fn role(role: Role) -> Self {
        Self { status: StatusCode::FORBIDDEN, error: role.reason().into() }
    }

    /// Reports that the gateway failed to do it.
    pub(crate) fn fault(error: impl ToString) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error: error.to_string() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { error: self.error })).into_response()
    }
}

/// Answers requests at `listener` until `stopped`, and those already begun after that.
///
/// # Errors
/// If the socket fails.
pub(crate) async fn serve(
    listener: net::UnixListener,
    gateway: Arc<Gateway>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = UnixListener::from_std(listener).context("listening at the admin socket")?;
    let service = router().with_state(gateway).into_make_service_with_connect_info::<Connection>();
    axum::serve(Bounded::new(listener, CONNECTIONS, LONGEST), service)
        .with_graceful_shutdown(stopped)
        .await
        .context("answering at the admin socket")
}

fn router() -> Router<Arc<Gateway>> {
    Router::new()
        .route(ShowStatus::PATH, post(handle::<ShowStatus>))
        .route(AddAccount::PATH, post(handle::<AddAccount>))
        .route(ListAccounts::PATH, post(handle::<ListAccounts>))
        .route(ShowAccount::PATH, post(handle::<ShowAccount>))
        .route(AddDevice::PATH, post(handle::<AddDevice>))
        .route(ListDevices::PATH, post(handle::<ListDevices>))
        .route(RotateDevice::PATH, post(handle::<RotateDevice>))
        .route(RemoveDevice::PATH, post(handle::<RemoveDevice>))
        .route(ListSessions::PATH, post(handle::<ListSessions>))
        .route(Purge::PATH, post(handle::<Purge>))
        .route(RotateDataKey::PATH, post(handle::<RotateDataKey>))
        .route(RotateGatewayKey::PATH, post(handle::<RotateGatewayKey>))
        .route(RetireGatewayKey::PATH, post(handle::<RetireGatewayKey>))
        .route(ShowKeys::PATH, post(handle::<ShowKeys>))
        .route(ShowRetention::PATH, post(handle::<ShowRetention>))
        .route(ShowAuditFacts::PATH, post(handle::<ShowAuditFacts>))
        .route(NoteAudit::PATH, post(handle::<NoteAudit>))
        .route(ListStaleAddresses::PATH, post(handle::<ListStaleAddresses>))
        .route(GrantService::PATH, post(handle::<GrantService>))
        .route(ChangeEmail::PATH, post(handle::<ChangeEmail>))
        .route(SetPassword::PATH, post(handle::<SetPassword>))
        .route(CancelAccount::PATH, post(handle::<CancelAccount>))
        .route(ExportAccount::PATH, post(handle::<ExportAccount>))
        .route(ListGateways::PATH, post(handle::<ListGateways>))
        .route(DrainGateway::PATH, post(handle::<DrainGateway>))
        .route(RemoveGateway::PATH, post(handle::<RemoveGateway>))
        .route(MakeCodes::PATH, post(handle::<MakeCodes>))
        .route(ListCodes::PATH, post(handle::<ListCodes>))
        .route(ListStaffLog::PATH, post(handle::<ListStaffLog>))
        .route(VerifyRecords::PATH, post(handle::<VerifyRecords>))
        .route(MakeDisclosure::PATH, post(handle::<MakeDisclosure>))
        .route(ListDisclosures::PATH, post(handle::<ListDisclosures>))
        .route(PublishRules::PATH, post(handle::<PublishRules>))
        .route(ListRules::PATH, post(handle::<ListRules>))
        .route(ShowRules::PATH, post(handle::<ShowRules>))
        .route(ListNotices::PATH, post(handle::<ListNotices>))
        .route(RetryNotices::PATH, post(handle::<RetryNotices>))
        .route(SettleNotice::PATH, post(handle::<SettleNotice>))
        .route(TryMail::PATH, post(handle::<TryMail>))
        .route(backup::PATH, post(backup::answer))
        .fallback(|| async {
            Refused {
                status: StatusCode::NOT_FOUND,
                error: "the gateway does not know this request; is it another version?".into(),
            }
        })
        .layer(map_response(async |mut response: Response| {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }))
}

async fn handle<R: Answer>(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(Connection { caller, work }): ConnectInfo<Connection>,
    body: Bytes,
) -> Result<Json<R::Response>, Refused>
where
    R::Response: 'static,
{
    if !gateway.roles.has(&caller, R::ROLE) {
        return Err(Refused::role(R::ROLE));
    }
    let request: R = serde_json::from_slice(&body)
        .map_err(|error| Refused::request(format!("the request is not understood: {error}")))?;
    let _busy = work.begin();
    let named: Named = serde_json::from_slice(&body).unwrap_or_default();
    let answering = async move {
        let answer = request.answer(Arc::clone(&gateway), caller.clone()).await;
        if answer.is_err() {
            named.note_look(&gateway, &caller).await?;
        }
        answer
    };
    // A verb that is interrupted must not leave a change half done, so it is carried on without it.
    match tokio::spawn(answering).await {
        Ok(answer) => answer.map(Json),
        Err(_) => Err(Refused::fault("the gateway failed to answer")),
    }
}

/// Whom a request names, whichever it is.
#[derive(Default, Deserialize)]
struct Named {
    account: Option<String>,
    email: Option<String>,
}

impl Named {
    /// Writes to the staff log that a refusal is going to tell that they are customers, if they are, or of a device or a
    /// consent that they do not have.
    async fn note_look(&self, gateway: &Gateway, caller: &Caller) -> Result<(), Refused> {
        for named in self.account.iter().chain(&self.email) {
            let Ok(selector) = named.parse::<AccountSelector>() else { continue };
            if let Ok(account) = gateway.store.account(&selector).await {
                let deed = Deed::on(account.id, "refused", &[DataKind::Email]);
                gateway.note_look(caller, deed).await?;
            }
        }
        Ok(())
    }
}
