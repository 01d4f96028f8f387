//! Takes connections over TLS. All bounds on what a visitor can hold or take stand here, in [`super::places`] and in
//! [`super::gate`]: whoever connects, the gateway beside the site does not notice.

use std::{convert::Infallible, io, net, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tacit_messages::clock::Instant;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Certificates, FORGETTING_INTERVAL, Site, gate, pages, places::Place, visitor::Peer};

/// How long a TLS handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How long the head of a request may take to come, and a connection may wait for the next.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection lasts at the most.
const LONGEST: Duration = Duration::from_secs(120);

/// Longest head of a request, in bytes, and its headers.
const LONGEST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;

/// After a connection could not be taken, for there are too many files open.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Answers at `listener` for as long as the process lives.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(
    site: Arc<Site>,
    listener: net::TcpListener,
    certificates: Arc<Certificates>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let router = pages::router(&site);
    let mut forgetting = interval(FORGETTING_INTERVAL);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = forgetting.tick() => {
                site.places.forget_old(Instant::now());
                continue;
            }
        };
        let Ok((stream, from)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let Some(place) = site.places.take(from.ip(), Instant::now()) else { continue };
        let acceptor = TlsAcceptor::from(certificates.current());
        let (site, router) = (Arc::clone(&site), router.clone());
        tokio::spawn(async move {
            let place = Arc::new(place);
            let talk = talk(site, router, acceptor, stream, Peer(from.ip()), Arc::clone(&place));
            tokio::select! {
                () = place.lost() => {}
                _ = timeout(LONGEST, talk) => {}
            }
        });
    }
}

/// Carries on a connection until one side has had enough. What went wrong with it is nobody's business.
async fn talk(
    site: Arc<Site>,
    router: axum::Router,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: Peer,
    place: Arc<Place>,
) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await else { return };
    let service = service_fn(|request| {
        let (site, router, place) = (Arc::clone(&site), router.clone(), Arc::clone(&place));
        async move { Ok::<_, Infallible>(gate::answer(&site, router, peer, &place, request).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
