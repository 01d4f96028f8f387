//! The socket between control and the starter: one `SOCK_SEQPACKET` message at a time, descriptors along with it.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    io::{Errno, Result},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

use super::messages::SIZE;

/// The most descriptors that the kernel takes along with a message (`SCM_MAX_FD`).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Sends a message and copies of `descriptors`.
///
/// # Errors
/// If the other side is gone, or does not read and the socket is not to wait for that.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8; SIZE],
    descriptors: &[OwnedFd],
) -> Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fits =
        descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    if !fits {
        return Err(Errno::TOOMANYREFS);
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a message and its descriptors; none once the other side is gone.
///
/// # Errors
/// If the socket fails, or has nothing and is not to wait, or there is no room for the descriptors.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = [0; SIZE + 1];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = match recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
        Ok(received) => received,
        // It was gone before it had read everything.
        Err(Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error),
    };
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = rights.flatten().collect();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE);
    }
    let message = bytes[..received.bytes.min(SIZE + 1)].to_vec();
    Ok((received.bytes > 0).then_some((message, descriptors)))
}
