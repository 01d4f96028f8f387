//! What answers without TLS: it sends browsers to the site, and nothing else.

use std::{convert::Infallible, io, net, sync::Arc, time::Duration};

use axum::http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, LOCATION},
};
use http_body_util::Empty;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tacit_messages::clock::Instant;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use super::{Site, server::PAUSE};

/// How long a connection lasts at the most.
const LONGEST: Duration = Duration::from_secs(5);

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// Sends whoever asks at `listener` to `address`, for as long as the process lives. Where somebody wanted to go stays
/// with them: it came without protection.
///
/// # Errors
/// If the listener cannot be used.
pub async fn redirect(
    site: Arc<Site>,
    listener: net::TcpListener,
    address: HeaderValue,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let Some(place) = site.places.take(from.ip(), Instant::now()) else { continue };
        let address = address.clone();
        tokio::spawn(async move {
            let answer = |_: Request<hyper::body::Incoming>| {
                let response = elsewhere(address.clone());
                async { Ok::<_, Infallible>(response) }
            };
            let talk = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(LONGEST)
                .max_buf_size(LONGEST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::select! {
                () = place.lost() => {}
                _ = timeout(LONGEST, talk) => {}
            }
        });
    }
}

fn elsewhere(address: HeaderValue) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, address);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
