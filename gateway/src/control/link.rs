//! Control's end of the link: one `SOCK_SEQPACKET` socket, one message per packet.
//!
//! A forwarder reads what it is told at every turn. One that does not would hold up all that waits to be told to it,
//! revocations among it, so the link fails then, and the forwarder is replaced.

use std::{
    io,
    os::{fd::OwnedFd, unix::net},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tacit_messages::{FromForwarder, SIZE, ToForwarder, WireError};
use tokio::{net::UnixDatagram, sync::watch, time::timeout};
use zeroize::Zeroizing;

/// How long the forwarder may leave so much unread that there is no room for more: a device is to be gone two seconds
/// after it was revoked.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// Why nothing more comes from the forwarder, apart from its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The socket failed.
    #[error("the link to the forwarder failed")]
    Socket(#[from] io::Error),
    /// It does not read.
    #[error("the forwarder does not read what it is told")]
    Unread,
    /// What came is not a message.
    #[error("the forwarder sent what is not a message")]
    Wire(#[from] WireError),
}

/// Control's end of the link to one forwarder.
#[derive(Debug)]
pub(crate) struct Link {
    /// Tokio has no type for `SOCK_SEQPACKET`; sending and receiving are the same calls.
    socket: UnixDatagram,
    /// Whether it was not read in time, once and for all.
    is_unread: watch::Sender<bool>,
}

impl Link {
    /// Makes a link and the descriptor of its other end.
    ///
    /// # Errors
    /// If no socket could be made.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let ours = net::UnixDatagram::from(ours);
        ours.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(ours)?;
        Ok((Self { socket, is_unread: watch::Sender::new(false) }, theirs))
    }

    /// Sends one message, waiting while the forwarder has too many unread, but not for ever: then the link has failed.
    ///
    /// # Errors
    /// If the forwarder is gone, or the link has failed.
    pub(crate) async fn send(&self, message: &ToForwarder) -> io::Result<()> {
        if *self.is_unread.borrow() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match timeout(READ_PATIENCE, self.socket.send(&*message.encode())).await {
            Ok(sent) => sent.map(drop),
            Err(_) => {
                self.is_unread.send_replace(true);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Waits for the next message; `None` once the forwarder has closed its end.
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`LinkError`] if the socket fails, what is sent is not read or what comes is not a message.
    pub(crate) async fn receive(&self) -> Result<Option<FromForwarder>, LinkError> {
        let mut unread = self.is_unread.subscribe();
        // It may hold a connecting IP.
        let mut bytes = Zeroizing::new([0; SIZE + 1]);
        let received = tokio::select! {
            biased;
            _ = unread.wait_for(|is_unread| *is_unread) => return Err(LinkError::Unread),
            received = self.socket.recv(&mut bytes[..]) => received,
        };
        match received {
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(FromForwarder::decode(&bytes[..length])?)),
            // It was gone before it had read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{RecvFlags, SendFlags, recv, send};
    use tacit_messages::{DeviceId, clock::Instant};

    use super::*;

    fn forwarder_sends(theirs: &OwnedFd, bytes: &[u8]) {
        send(theirs, bytes, SendFlags::NOSIGNAL).unwrap();
    }

    #[tokio::test]
    async fn messages_travel_both_ways() {
        let (link, theirs) = Link::pair().unwrap();
        let revoked = ToForwarder::Revoked { device: DeviceId(7) };
        link.send(&revoked).await.unwrap();
        let mut bytes = [0; SIZE];
        recv(&theirs, &mut bytes, RecvFlags::empty()).unwrap();
        assert!(ToForwarder::decode(&bytes) == Ok(revoked));

        forwarder_sends(&theirs, &*FromForwarder::Ready.encode());
        assert_eq!(link.receive().await.unwrap(), Some(FromForwarder::Ready));
    }

    #[tokio::test]
    async fn forwarder_that_is_gone_ends_the_link() {
        let (link, theirs) = Link::pair().unwrap();
        link.send(&ToForwarder::Shutdown).await.unwrap();
        drop(theirs);
        assert_eq!(link.receive().await.unwrap(), None);
        assert!(link.send(&ToForwarder::Shutdown).await.is_err());
    }

    #[tokio::test]
    async fn forwarder_that_does_not_read_fails_the_link_in_time_for_a_revocation() {
        let (link, _theirs) = Link::pair().unwrap();
        let revoked = ToForwarder::Revoked { device: DeviceId(7) };
        let began = Instant::now();
        while link.send(&revoked).await.is_ok() {}
        assert!(Instant::now().since(began) < READ_PATIENCE * 2);
        // Nobody waits a second time.
        let again = timeout(READ_PATIENCE / 2, link.send(&revoked)).await;
        assert!(again.is_ok_and(|sent| sent.is_err()));
        assert!(matches!(link.receive().await, Err(LinkError::Unread)));
    }

    #[tokio::test]
    async fn message_that_is_too_long_is_refused() {
        let (link, theirs) = Link::pair().unwrap();
        forwarder_sends(&theirs, &[1; SIZE + 9]);
        assert!(matches!(link.receive().await, Err(LinkError::Wire(WireError::Length))));
    }
}
