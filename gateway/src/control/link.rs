//! Control's end of the link: one `SOCK_SEQPACKET` socket, one message per packet.

use std::{
    io,
    os::{fd::OwnedFd, unix::net},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tacit_messages::{FromForwarder, SIZE, ToForwarder, WireError};
use tokio::net::UnixDatagram;
use zeroize::Zeroizing;

/// Why nothing more comes from the forwarder, apart from its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The socket failed.
    #[error("the link to the forwarder failed")]
    Socket(#[from] io::Error),
    /// What came is not a message.
    #[error("the forwarder sent what is not a message")]
    Wire(#[from] WireError),
}

/// Control's end of the link to one forwarder.
#[derive(Debug)]
pub(crate) struct Link {
    /// Tokio has no type for `SOCK_SEQPACKET`; sending and receiving are the same calls.
    socket: UnixDatagram,
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
        Ok((Self { socket: UnixDatagram::from_std(ours)? }, theirs))
    }

    /// Sends one message, waiting while the forwarder has too many unread.
    ///
    /// # Errors
    /// If the forwarder is gone.
    pub(crate) async fn send(&self, message: &ToForwarder) -> io::Result<()> {
        self.socket.send(&*message.encode()).await.map(drop)
    }

    /// Waits for the next message; `None` once the forwarder has closed its end.
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`LinkError`] if the socket fails or what comes is not a message.
    pub(crate) async fn receive(&self) -> Result<Option<FromForwarder>, LinkError> {
        // It may hold a connecting IP.
        let mut bytes = Zeroizing::new([0; SIZE + 1]);
        match self.socket.recv(&mut bytes[..]).await {
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
    use tacit_messages::DeviceId;

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
    async fn message_that_is_too_long_is_refused() {
        let (link, theirs) = Link::pair().unwrap();
        forwarder_sends(&theirs, &[1; SIZE + 9]);
        assert!(matches!(link.receive().await, Err(LinkError::Wire(WireError::Length))));
    }
}
