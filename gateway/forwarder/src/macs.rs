//! mac1, mac2 and cookies (WireGuard paper sections 5.4.4 and 5.4.7).
//!
//! boringtun computes these over its own receiver index. The edge replaces that index, so it does them anew.

use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{FixedOutput, KeyInit, Update, consts::U16},
};
use chacha20poly1305::{AeadInPlace, XChaCha20Poly1305};
use tacit_messages::PublicKey;

const LABEL_MAC1: &[u8; 8] = b"mac1----";
const LABEL_COOKIE: &[u8; 8] = b"cookie--";
/// mac1 and mac2 stand at the end of a handshake message, 16 bytes each.
const MACS_LEN: usize = 32;

/// A mac or a cookie.
pub type Mac = [u8; 16];

/// The keys that follow from the public key of whoever receives a handshake message.
pub struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    /// Derives the keys for messages to the holder of `receiver`.
    #[must_use]
    pub fn new(receiver: &PublicKey) -> Self {
        let derive = |label: &[u8; 8]| {
            Digest::chain_update(Blake2s256::new(), label).chain_update(receiver).finalize().into()
        };
        Self { mac1: derive(LABEL_MAC1), cookie: derive(LABEL_COOKIE) }
    }

    /// Writes both macs of a handshake message and returns its mac1; mac2 is zero without a cookie.
    pub fn seal(&self, message: &mut [u8], cookie: Option<&Mac>) -> Mac {
        let mac1_at = message.len() - MACS_LEN;
        let mac2_at = mac1_at + size_of::<Mac>();
        let mac1 = mac(&self.mac1, &message[..mac1_at]);
        message[mac1_at..mac2_at].copy_from_slice(&mac1);
        let mac2 = cookie.map_or([0; 16], |cookie| mac(cookie, &message[..mac2_at]));
        message[mac2_at..].copy_from_slice(&mac2);
        mac1
    }

    /// Whether mac1 of a handshake message fits. Says nothing to whoever sent it: what does not fit is dropped elsewhere.
    #[must_use]
    pub fn fit(&self, message: &[u8]) -> bool {
        let Some(mac1_at) = message.len().checked_sub(MACS_LEN) else { return false };
        message[mac1_at..mac1_at + size_of::<Mac>()] == mac(&self.mac1, &message[..mac1_at])
    }

    /// Opens a cookie reply to the message that carried `mac1`; none if it is not authentic.
    #[must_use]
    pub fn open_cookie(&self, reply: &[u8; 64], mac1: &Mac) -> Option<Mac> {
        let mut cookie = Mac::try_from(&reply[32..48]).ok()?;
        XChaCha20Poly1305::new(&self.cookie.into())
            .decrypt_in_place_detached(reply[8..32].into(), mac1, &mut cookie, reply[48..64].into())
            .ok()?;
        Some(cookie)
    }
}

fn mac(key: &[u8], message: &[u8]) -> Mac {
    let Ok(keyed) = <Blake2sMac<U16> as KeyInit>::new_from_slice(key) else {
        return [0; 16];
    };
    keyed.chain(message).finalize_fixed().into()
}
