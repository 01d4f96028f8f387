//! What every request must be like before a page sees it, and what every answer carries.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        Method, Request,
        header::{ALLOW, CONTENT_LENGTH},
    },
    response::{IntoResponse, Response},
};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    Site,
    answer::{Failure, carried},
    headers, origin,
    places::Place,
    visitor::Peer,
};

/// Longest body of a request, in bytes: a form of this site has much less.
const LONGEST_BODY: usize = 16 * 1024;

/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// How long a page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);

/// Answers a request. Only while a page works at it, nobody else gets its place: whoever sends slowly has to leave first.
pub(super) async fn answer(
    site: &Arc<Site>,
    router: Router,
    peer: Peer,
    place: &Place,
    request: Request<Incoming>,
) -> Response {
    let mut response = match admit(peer, request).await {
        Ok(request) => {
            place.set_busy(true);
            let response = ask(router, request).await;
            place.set_busy(false);
            response
        }
        Err(failure) => failure.show(site),
    };
    if let Some(failure) = carried(&mut response) {
        let allowed = response.headers_mut().remove(ALLOW);
        response = failure.show(site);
        response.headers_mut().extend(allowed.map(|methods| (ALLOW, methods)));
    }
    site.errors.count(response.status().as_u16());
    headers::complete(response.headers_mut());
    response
}

/// Takes in a request, all of it, if it is one that this site answers.
async fn admit(peer: Peer, request: Request<Incoming>) -> Result<Request<Body>, Failure> {
    // No page takes any other method that changes something.
    if request.method() == Method::POST && !origin::is_own(request.headers()) {
        return Err(Failure::Foreign);
    }
    let (mut head, body) = request.into_parts();
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length
        .is_some_and(|length| length.parse().is_ok_and(|bytes: u64| bytes > LONGEST_BODY as u64))
    {
        return Err(Failure::TooLarge);
    }
    let body = timeout(BODY_PATIENCE, to_bytes(Body::new(body), LONGEST_BODY)).await;
    let body = body.map_err(|_| Failure::TooSlow)?.map_err(|_| Failure::TooLarge)?;
    head.extensions.insert(peer);
    Ok(Request::from_parts(head, body.into()))
}

/// Has a page answer.
async fn ask(router: Router, request: Request<Body>) -> Response {
    let service = hyper_util::service::TowerToHyperService::new(router);
    match timeout(PAGE_PATIENCE, hyper::service::Service::call(&service, request)).await {
        Ok(Ok(response)) => response,
        _ => Failure::Fault.into_response(),
    }
}
