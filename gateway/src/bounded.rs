//! A listener that holds few connections, and none for long: whoever opens many cannot use up control's descriptors.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// A listener with a number of places for connections.
pub(crate) struct Bounded<L> {
    listener: L,
    places: Arc<Semaphore>,
    longest: Duration,
}

impl<L> Bounded<L> {
    /// Lets `places` connections be open at once, each for `longest` at the most while nothing is done for it ([`Work`]).
    pub(crate) fn new(listener: L, places: usize, longest: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), longest }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a place the connection would only be one too many.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        (Held::new(io, self.longest, place), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What is done for a connection, and was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    going_on: AtomicUsize,
    done: AtomicUsize,
}

impl Work {
    /// Begins something, however long it may take; the connection stays until what is returned is dropped, and has its
    /// time anew then.
    pub(crate) fn begin(&self) -> Busy {
        self.0.going_on.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }
}

/// Something that is being done for a connection.
#[derive(Debug)]
pub(crate) struct Busy(Work);

impl Drop for Busy {
    fn drop(&mut self) {
        let Counts { going_on, done } = &*self.0.0;
        done.fetch_add(1, Ordering::Relaxed);
        going_on.fetch_sub(1, Ordering::Release);
    }
}

/// A connection with a place and an end.
pub(crate) struct Held<Io> {
    io: Io,
    longest: Duration,
    end: Pin<Box<Sleep>>,
    work: Work,
    /// What was done when the end was set.
    done: usize,
    _place: Option<OwnedSemaphorePermit>,
}

impl<Io> Held<Io> {
    fn new(io: Io, longest: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        let (end, work) = (Box::pin(sleep(longest)), Work::default());
        Self { io, longest, end, work, done: 0, _place: place }
    }

    /// The connection itself.
    pub(crate) fn io(&self) -> &Io {
        &self.io
    }

    /// Where to say that something is done for it.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// Fails once the connection has had its time.
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.end.as_mut().poll(context).is_ready() {
            let is_busy = self.work.0.going_on.load(Ordering::Acquire) > 0;
            let done = self.work.0.done.load(Ordering::Relaxed);
            if !is_busy && done == self.done {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.done = done;
            self.end = Box::pin(sleep(self.longest));
        }
        Ok(())
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Held<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Held<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn connection_without_a_place_waits_and_none_lasts_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = Bounded::new(listener, 1, Duration::from_millis(50));
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];

        let (mut first, _) = listener.accept().await;
        let moment = Duration::from_millis(20);
        assert!(timeout(moment, Listener::accept(&mut listener)).await.is_err());
        assert_eq!(first.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(first);
        assert!(timeout(moment, Listener::accept(&mut listener)).await.is_ok());
    }

    #[tokio::test]
    async fn connection_that_something_is_done_for_stays_and_then_has_its_time_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let longest = Duration::from_millis(50);
        let mut listener = Bounded::new(listener, 1, longest);
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut held, _) = listener.accept().await;

        let busy = held.work().begin();
        assert!(timeout(longest * 4, held.read(&mut [0])).await.is_err(), "it was cut off");
        drop(busy);
        assert!(timeout(longest / 4, held.read(&mut [0])).await.is_err(), "its answer was cut off");
        assert_eq!(held.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
