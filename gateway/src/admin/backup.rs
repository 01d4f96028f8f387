//! The store's lines for a backup, as a stream: they need not fit into memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, State},
    response::Response,
};
use hyper::body::{Body as HttpBody, Frame};
use tacit_accounts::{DataKind, Deed};
use tacit_messages::UnixSeconds;
use tokio::sync::mpsc;

use super::{
    caller::Role,
    server::{Connection, Refused},
};
use crate::{bounded::Busy, control::Gateway, log};

/// Where the lines are asked for.
pub(crate) const PATH: &str = "/backup";

/// How many pieces may wait for whoever takes them.
const PIECES: usize = 4;

/// Pieces as the body of an answer. If the last line is missing, the store failed meanwhile.
struct Pieces {
    receiver: mpsc::Receiver<Vec<u8>>,
    _busy: Busy,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.receiver.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}

/// Answers with the lines, once it is in the staff log that somebody gets them.
pub(super) async fn answer(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(Connection { caller, work }): ConnectInfo<Connection>,
) -> Result<Response, Refused> {
    if !gateway.roles.has(&caller, Role::Operator) {
        return Err(Refused::role(Role::Operator));
    }
    let deed = Deed { verb: "backup", account: None, data: DataKind::ALL };
    gateway.note_look(&caller, deed).await?;
    let (pieces, receiver) = mpsc::channel(PIECES);
    log::changed("store backed up", caller.uid);
    tokio::spawn(async move {
        if let Err(error) = gateway.store.dump(&pieces, UnixSeconds::now()).await {
            log::not_backed_up(&error);
        }
    });
    Ok(Response::new(Body::new(Pieces { receiver, _busy: work.begin() })))
}
