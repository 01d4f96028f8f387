//! All that is held about a customer, for their eyes: as a page and to take along.

use std::sync::Arc;

use askama::Template;
use axum::{
    BoxError,
    body::Body,
    extract::State,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::IntoResponse,
};
use futures_util::stream;
use tacit_messages::UnixSeconds;
use tokio::runtime::Handle;

use crate::{
    export::{Document, Excerpt},
    site::{
        Facts, Site,
        answer::{Answer, Failure, Frame, page},
        downloads::Turn,
        visitor::Visitor,
        words::readable,
    },
};

#[derive(Template)]
#[template(path = "records.html")]
struct Records<'a> {
    frame: Frame<'a>,
    facts: &'a Facts,
    held: Excerpt,
}

impl Records<'_> {
    /// A time as the page shows it.
    fn at(&self, time: &str) -> String {
        readable(time)
    }
}

pub(super) async fn show(State(site): State<Arc<Site>>, visitor: Visitor) -> Answer {
    let held = site.store.excerpt(visitor.account, UnixSeconds::now()).await?;
    page(&Records { frame: Frame::new(&site, Some(&visitor)), facts: &site.facts, held })
}

pub(super) async fn download(State(site): State<Arc<Site>>, visitor: Visitor) -> Answer {
    let turn = site.downloads.take(visitor.account).await?;
    let (store, kept) = (site.store.clone(), site.facts.kept());
    let mut document = Document::new(store, visitor.account, kept, UnixSeconds::now());
    // A store that is away is told of as anywhere else; later the document ends before its end, which browsers tell of.
    let begin = {
        let _reading = turn.to_read().await.map_err(|_| Failure::Busy)?;
        document.piece().await?
    };
    let file = "attachment; filename=\"what-is-held-about-me.json\"";
    let headers = [(CONTENT_TYPE, "application/json"), (CONTENT_DISPOSITION, file)];
    let rest = Rest { document, control: site.control.clone(), turn };
    Ok((headers, body(begin, rest)).into_response())
}

/// What is still to be written of a document, and the turn, which lasts until it is sent or the connection is gone.
struct Rest {
    document: Document,
    control: Handle,
    turn: Turn,
}

/// A body that is read from the store as it is sent.
fn body(begin: Option<String>, rest: Rest) -> Body {
    Body::from_stream(stream::try_unfold((begin, rest), async |(piece, rest)| match piece {
        Some(piece) => Ok(Some((piece, (None, rest)))),
        None => next(rest).await,
    }))
}

/// The next piece. The store is used among control's own tasks, as by pages.
async fn next(mut rest: Rest) -> Result<Option<(String, (Option<String>, Rest))>, BoxError> {
    let control = rest.control.clone();
    let read = control.spawn(async move {
        let piece = match rest.turn.to_read().await {
            Ok(_reading) => rest.document.piece().await.map_err(BoxError::from),
            Err(closed) => Err(closed.into()),
        };
        (piece, rest)
    });
    let (piece, rest) = read.await?;
    Ok(piece?.map(|piece| (piece, (None, rest))))
}
