//! WireGuard's handshake and transport by the paper, written for the tests alone.
//!
//! It shares no code with the gateway, so that both cannot be wrong in the same way, and it lets a test
//! do what no honest client does. Section numbers are the WireGuard paper's.

use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{Mac, consts::U16},
};
use chacha20poly1305::{
    ChaCha20Poly1305, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use rand_core::{OsRng, RngCore};
use x25519_dalek::{PublicKey, StaticSecret};

/// Type and length of a handshake initiation (section 5.4.2).
pub const INITIATION: (u8, usize) = (1, 148);
/// Type and length of a handshake response (section 5.4.3).
pub const RESPONSE: (u8, usize) = (2, 92);
/// Type and length of a cookie reply (section 5.4.7).
pub const COOKIE_REPLY: (u8, usize) = (3, 64);
/// Type and shortest length of a transport message (section 5.4.6).
pub const TRANSPORT: (u8, usize) = (4, 32);
/// A counter from which on nothing may be sent or accepted (section 6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

type Key = [u8; 32];

/// One end's long-term keys.
#[derive(Clone)]
pub struct Identity {
    /// Its own private key.
    pub private_key: StaticSecret,
    /// The other end's public key.
    pub peer: PublicKey,
    /// Shared by both.
    pub preshared_key: Key,
}

/// A session's transport keys and counters.
#[derive(Clone)]
pub struct Session {
    /// What the other end writes into messages for this one.
    pub local_index: u32,
    /// What this end writes into messages for the other.
    pub remote_index: u32,
    /// The counter of the next message.
    pub counter: u64,
    send_key: Key,
    receive_key: Key,
}

/// An initiation that waits for its response.
#[derive(Clone)]
pub struct Initiation {
    /// The message as sent.
    pub message: Vec<u8>,
    /// Its sender index.
    pub local_index: u32,
    ephemeral: StaticSecret,
    chain: Chain,
}

/// The chaining key and hash that both ends carry through a handshake.
#[derive(Clone)]
struct Chain {
    key: Key,
    hash: Key,
}

impl Identity {
    /// This end's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(&self.private_key)
    }

    /// Makes a handshake initiation with a TAI64N `timestamp` (section 5.4.2).
    #[must_use]
    pub fn initiate(&self, timestamp: [u8; 12]) -> Initiation {
        let ephemeral = StaticSecret::random_from_rng(OsRng);
        let local_index = OsRng.next_u32();
        let mut chain = Chain::new(&self.peer);

        let mut message = vec![INITIATION.0, 0, 0, 0];
        message.extend(local_index.to_le_bytes());
        chain.mix_public(&PublicKey::from(&ephemeral), &mut message);
        let key = chain.mix_key(ephemeral.diffie_hellman(&self.peer).as_bytes());
        chain.seal(&key, self.public_key().as_bytes(), &mut message);
        let key = chain.mix_key(self.private_key.diffie_hellman(&self.peer).as_bytes());
        chain.seal(&key, &timestamp, &mut message);
        append_macs(&mut message, &self.peer, None);
        Initiation { message, local_index, ephemeral, chain }
    }

    /// Reads the response to `initiation` and makes the session (section 5.4.3).
    #[must_use]
    pub fn finish(&self, initiation: &Initiation, response: &[u8]) -> Option<Session> {
        let mut chain = initiation.chain.clone();
        let ours = (response.len() == RESPONSE.1)
            && (response[8..12] == initiation.local_index.to_le_bytes());
        if !ours {
            return None;
        }
        let remote_index = read_u32(&response[4..8]);
        let ephemeral = read_public(&response[12..44]);
        chain.mix_public(&ephemeral, &mut Vec::new());
        chain.mix_key(initiation.ephemeral.diffie_hellman(&ephemeral).as_bytes());
        chain.mix_key(self.private_key.diffie_hellman(&ephemeral).as_bytes());
        let key = chain.mix_preshared(&self.preshared_key);
        chain.open(&key, &response[44..60])?;
        let [send_key, receive_key] = kdf(&chain.key, &[]);
        Some(Session {
            local_index: initiation.local_index,
            remote_index,
            counter: 0,
            send_key,
            receive_key,
        })
    }

    /// Answers the other end's initiation; gives the response and the session (section 5.4.3).
    #[must_use]
    pub fn respond(&self, initiation: &[u8]) -> Option<(Vec<u8>, Session)> {
        if initiation.len() != INITIATION.1 {
            return None;
        }
        let remote_index = read_u32(&initiation[4..8]);
        let remote_ephemeral = read_public(&initiation[8..40]);
        let mut chain = Chain::new(&self.public_key());
        chain.mix_public(&remote_ephemeral, &mut Vec::new());
        let key = chain.mix_key(self.private_key.diffie_hellman(&remote_ephemeral).as_bytes());
        let remote_static = chain.open(&key, &initiation[40..88])?;
        if remote_static != self.peer.as_bytes() {
            return None;
        }
        let key = chain.mix_key(self.private_key.diffie_hellman(&self.peer).as_bytes());
        chain.open(&key, &initiation[88..116])?;

        let ephemeral = StaticSecret::random_from_rng(OsRng);
        let local_index = OsRng.next_u32();
        let mut message = vec![RESPONSE.0, 0, 0, 0];
        message.extend(local_index.to_le_bytes());
        message.extend(remote_index.to_le_bytes());
        chain.mix_public(&PublicKey::from(&ephemeral), &mut message);
        chain.mix_key(ephemeral.diffie_hellman(&remote_ephemeral).as_bytes());
        chain.mix_key(ephemeral.diffie_hellman(&self.peer).as_bytes());
        let key = chain.mix_preshared(&self.preshared_key);
        chain.seal(&key, &[], &mut message);
        append_macs(&mut message, &self.peer, None);
        let [receive_key, send_key] = kdf(&chain.key, &[]);
        Some((message, Session { local_index, remote_index, counter: 0, send_key, receive_key }))
    }
}

impl Session {
    /// Seals `plaintext` as it is under `counter` (section 5.4.6).
    #[must_use]
    pub fn seal_at(&self, counter: u64, plaintext: &[u8]) -> Vec<u8> {
        let mut message = vec![TRANSPORT.0, 0, 0, 0];
        message.extend(self.remote_index.to_le_bytes());
        message.extend(counter.to_le_bytes());
        message.extend(seal(&self.send_key, counter, plaintext, &[]));
        message
    }

    /// Pads `packet` to 16 bytes and seals it under the next counter.
    #[must_use]
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut padded = packet.to_vec();
        padded.resize(packet.len().next_multiple_of(16), 0);
        let message = self.seal_at(self.counter, &padded);
        self.counter += 1;
        message
    }

    /// The keys of messages from this end and to it.
    #[must_use]
    pub fn keys(&self) -> [[u8; 32]; 2] {
        [self.send_key, self.receive_key]
    }

    /// Opens a transport message for this session.
    #[must_use]
    pub fn open(&self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < TRANSPORT.1 || read_u32(&message[4..8]) != self.local_index {
            return None;
        }
        open(&self.receive_key, counter(message), &message[16..], &[])
    }
}

/// The counter of a transport message.
#[must_use]
pub fn counter(message: &[u8]) -> u64 {
    message[8..16].iter().rev().fold(0, |counter, byte| counter << 8 | u64::from(*byte))
}

/// Replaces mac1 and mac2 at the end of a handshake message (section 5.4.4).
pub fn redo_macs(message: &mut Vec<u8>, receiver: &PublicKey, cookie: Option<&[u8; 16]>) {
    message.truncate(message.len() - 32);
    append_macs(message, receiver, cookie);
}

/// The mac1 of a handshake message.
#[must_use]
pub fn mac1(message: &[u8]) -> [u8; 16] {
    message[message.len() - 32..message.len() - 16].try_into().expect("16 bytes")
}

/// The mac2 of a handshake message.
#[must_use]
pub fn mac2(message: &[u8]) -> [u8; 16] {
    message[message.len() - 16..].try_into().expect("16 bytes")
}

/// The mac2 that `cookie` gives a handshake message.
#[must_use]
pub fn expected_mac2(message: &[u8], cookie: &[u8; 16]) -> [u8; 16] {
    mac(cookie, &message[..message.len() - 16])
}

/// Reads the cookie in a reply to the handshake message with `mac1` (section 5.4.7).
#[must_use]
pub fn open_cookie(reply: &[u8], sender: &PublicKey, mac1: &[u8; 16]) -> Option<[u8; 16]> {
    if reply.len() != COOKIE_REPLY.1 {
        return None;
    }
    let payload = Payload { msg: &reply[32..], aad: mac1 };
    let cookie = cookie_cipher(sender).decrypt(XNonce::from_slice(&reply[8..32]), payload).ok()?;
    cookie.try_into().ok()
}

/// Writes a cookie reply to a handshake message (section 5.4.7).
#[must_use]
pub fn seal_cookie(handshake: &[u8], sender: &PublicKey, cookie: &[u8; 16]) -> Vec<u8> {
    let mut nonce = [0; 24];
    OsRng.fill_bytes(&mut nonce);
    let payload = Payload { msg: cookie, aad: &mac1(handshake) };
    let sealed = cookie_cipher(sender).encrypt(&nonce.into(), payload).expect("sealing 16 bytes");
    [&[COOKIE_REPLY.0, 0, 0, 0], &handshake[4..8], &nonce, &sealed].concat()
}

fn cookie_cipher(sender: &PublicKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&hash(&[b"cookie--", sender.as_bytes()]).into())
}

impl Chain {
    fn new(responder: &PublicKey) -> Self {
        let key = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let identified = hash(&[&key, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
        Self { key, hash: hash(&[&identified, responder.as_bytes()]) }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_public(&mut self, public: &PublicKey, message: &mut Vec<u8>) {
        message.extend(public.as_bytes());
        self.mix_hash(public.as_bytes());
        let [key] = kdf(&self.key, public.as_bytes());
        self.key = key;
    }

    fn mix_key(&mut self, shared: &[u8]) -> Key {
        let [chain, key] = kdf(&self.key, shared);
        self.key = chain;
        key
    }

    fn mix_preshared(&mut self, preshared_key: &Key) -> Key {
        let [chain, temporary, key] = kdf(&self.key, preshared_key);
        self.key = chain;
        self.mix_hash(&temporary);
        key
    }

    fn seal(&mut self, key: &Key, plaintext: &[u8], message: &mut Vec<u8>) {
        let sealed = seal(key, 0, plaintext, &self.hash);
        self.mix_hash(&sealed);
        message.extend(sealed);
    }

    fn open(&mut self, key: &Key, sealed: &[u8]) -> Option<Vec<u8>> {
        let plaintext = open(key, 0, sealed, &self.hash)?;
        self.mix_hash(sealed);
        Some(plaintext)
    }
}

fn append_macs(message: &mut Vec<u8>, receiver: &PublicKey, cookie: Option<&[u8; 16]>) {
    let mac1 = mac(&hash(&[b"mac1----", receiver.as_bytes()]), message);
    message.extend(mac1);
    let mac2 = cookie.map_or([0; 16], |cookie| mac(cookie, message));
    message.extend(mac2);
}

fn hash(parts: &[&[u8]]) -> Key {
    parts.iter().fold(Blake2s256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 16] {
    let mac = <Blake2sMac<U16> as Mac>::new_from_slice(key).expect("at most 32 bytes of key");
    mac.chain_update(data).finalize().into_bytes().into()
}

/// HMAC (RFC 2104) with BLAKE2s, whose block is 64 bytes.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(block, key)| *block ^= key);
        block
    };
    let inner = hash(&[&[padded(0x36).as_slice()], parts].concat());
    hash(&[&padded(0x5c), &inner])
}

/// The paper's KDF_n (section 5.4).
fn kdf<const N: usize>(key: &Key, input: &[u8]) -> [Key; N] {
    let secret = hmac(key, &[input]);
    let mut previous: Vec<u8> = Vec::new();
    std::array::from_fn(|number| {
        let next = hmac(&secret, &[&previous, &[number as u8 + 1]]);
        previous = next.to_vec();
        next
    })
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

fn seal(key: &Key, counter: u64, plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.encrypt(&nonce(counter).into(), Payload { msg: plaintext, aad }).expect("sealing")
}

fn open(key: &Key, counter: u64, sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.decrypt(&nonce(counter).into(), Payload { msg: sealed, aad }).ok()
}

fn read_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn read_public(bytes: &[u8]) -> PublicKey {
    PublicKey::from(<[u8; 32]>::try_from(bytes).expect("32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Identity, Identity) {
        let (a, b) = (StaticSecret::random_from_rng(OsRng), StaticSecret::random_from_rng(OsRng));
        let (public_a, public_b) = (PublicKey::from(&a), PublicKey::from(&b));
        let preshared_key = [7; 32];
        (
            Identity { private_key: a, peer: public_b, preshared_key },
            Identity { private_key: b, peer: public_a, preshared_key },
        )
    }

    #[test]
    fn both_ends_agree() {
        let (client, gateway) = pair();
        let initiation = client.initiate([1; 12]);
        let (response, mut theirs) = gateway.respond(&initiation.message).unwrap();
        let mut ours = client.finish(&initiation, &response).unwrap();
        assert_eq!(theirs.open(&ours.seal(b"seventeen bytes..")).unwrap().len(), 32);
        assert_eq!(&ours.open(&theirs.seal(b"back")).unwrap()[..4], b"back");
    }

    #[test]
    fn cookie_survives() {
        let (client, gateway) = pair();
        let initiation = client.initiate([1; 12]);
        let reply = seal_cookie(&initiation.message, &gateway.public_key(), &[9; 16]);
        let cookie = open_cookie(&reply, &client.peer, &mac1(&initiation.message));
        assert_eq!(cookie, Some([9; 16]));
    }
}
