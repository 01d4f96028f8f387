//! A verb's side of the admin socket.

use std::{io, path::Path, time::Duration};

use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Full};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

use super::{Refusal, Request};

/// How long a verb waits for the gateway's answer, unless that may take long.
const PATIENCE: Duration = Duration::from_secs(60);

const ASKING: &str = "asking the gateway";

/// Asks the gateway at `socket_path` and waits for its answer.
///
/// # Errors
/// If no gateway runs there, if it refuses, or if it does not answer.
pub(crate) async fn call<R: Request>(
    socket_path: &Path,
    request: R,
) -> anyhow::Result<R::Response> {
    call_within(PATIENCE, socket_path, request).await
}

async fn call_within<R: Request>(
    patience: Duration,
    socket_path: &Path,
    request: R,
) -> anyhow::Result<R::Response> {
    let stream = connect(socket_path).await?;
    let exchange = exchange(stream, R::PATH, serde_json::to_vec(&request)?);
    let answer = if R::IS_LENGTHY {
        exchange.await
    } else {
        timeout(patience, exchange)
            .await
            .map_err(|_| anyhow!("the gateway did not answer within {} s", patience.as_secs()))?
    };
    let (status, body) = answer.context(ASKING)?;
    if status.is_success() {
        return serde_json::from_slice(&body).context(
            "the gateway's answer is not understood; are it and this program the same version?",
        );
    }
    Err(refusal(status, &body))
}

fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => anyhow!(refusal.error),
        Err(_) => anyhow!("the gateway answered {status}"),
    }
}

/// Asks the gateway at `socket_path` for what is at `path`, and passes it on piece by piece.
///
/// # Errors
/// If no gateway runs there, if it refuses, or if `take` fails.
pub(crate) async fn stream(
    socket_path: &Path,
    path: &str,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stream = connect(socket_path).await?;
    let (response, _carrier) = request(stream, path, Vec::new()).await.context(ASKING)?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        return Err(refusal(status, &body.collect().await.context(ASKING)?.to_bytes()));
    }
    while let Some(frame) = body.frame().await {
        if let Some(piece) = frame.context(ASKING)?.data_ref() {
            take(piece)?;
        }
    }
    Ok(())
}

/// The number of the process that listens at `socket_path`, as the kernel vouches for it (`SO_PEERCRED`).
///
/// # Errors
/// If no gateway runs there, or where its number means nothing.
pub(crate) async fn peer(socket_path: &Path) -> anyhow::Result<u32> {
    let credentials = connect(socket_path).await?.peer_cred().context("asking who listens")?;
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    pid.context("the gateway's processes cannot be seen from here; run this where they can")
}

async fn connect(socket_path: &Path) -> anyhow::Result<UnixStream> {
    let path = socket_path.display();
    UnixStream::connect(socket_path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("no gateway runs at {path}; start one with `tacit run` or name its --socket")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("{path} is closed to this user; be root or a member of the group tacit")
        }
        _ => anyhow!(error).context(format!("connecting to {path}")),
    })
}

async fn exchange(
    stream: UnixStream,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (response, _carrier) = request(stream, path, body).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// What carries an answer, until this is dropped.
struct Carrier {
    connection: JoinHandle<hyper::Result<()>>,
    _sender: SendRequest<Full<Bytes>>,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn request(
    stream: UnixStream,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(Response<Incoming>, Carrier)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::post(path)
        .header(hyper::header::HOST, "tacit")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await;
    Ok((response?, Carrier { connection, _sender: sender }))
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode, routing::post};
    use tokio::{net::UnixListener, time::sleep};

    use super::*;
    use crate::admin::{ListDevices, Purge};

    const PATIENCE: Duration = Duration::from_millis(100);
    const ANSWER: &str = "there is nothing to purge";

    #[tokio::test]
    async fn purge_is_waited_for_however_long_it_takes_and_other_answers_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let late = async || {
            sleep(PATIENCE * 3).await;
            (StatusCode::UNPROCESSABLE_ENTITY, Json(Refusal { error: ANSWER.into() }))
        };
        let router =
            Router::new().route(Purge::PATH, post(late)).route(ListDevices::PATH, post(late));
        tokio::spawn(async { axum::serve(listener, router).await });

        let purged = call_within(PATIENCE, &path, Purge { remove: true }).await;
        assert_eq!(purged.err().unwrap().to_string(), ANSWER);
        let account = "ann@example.org".into();
        let listed = call_within(PATIENCE, &path, ListDevices { account }).await;
        assert!(listed.err().unwrap().to_string().contains("did not answer within"));
    }
}
