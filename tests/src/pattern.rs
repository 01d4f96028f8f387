//! Pseudo-random content that both ends can make, so that every byte on the way is checked.

/// A position in the endless content of one seed.
#[derive(Clone)]
pub struct Pattern {
    seed: u64,
    at: u64,
}

impl Pattern {
    /// The content of `seed` from its beginning.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, at: 0 }
    }

    /// Writes the next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut word = self.word();
        for byte in buffer {
            *byte = word[(self.at % 8) as usize];
            self.at += 1;
            if self.at.is_multiple_of(8) {
                word = self.word();
            }
        }
    }

    /// Compares with the next bytes.
    ///
    /// # Errors
    /// The offset from the content's beginning at which `bytes` differ.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), u64> {
        let start = self.at;
        let mut expected = vec![0; bytes.len()];
        self.fill(&mut expected);
        if expected == bytes {
            return Ok(());
        }
        let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        Err(start + same as u64)
    }

    /// The first `len` bytes of `seed`.
    #[must_use]
    pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Self::new(seed).fill(&mut bytes);
        bytes
    }

    /// Eight bytes by SplitMix64.
    fn word(&self) -> [u8; 8] {
        let mut z =
            (self.seed << 32).wrapping_add((self.at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let whole = Pattern::bytes(7, 100);
        let mut pieces = vec![0; 100];
        let mut pattern = Pattern::new(7);
        for piece in pieces.chunks_mut(13) {
            pattern.fill(piece);
        }
        assert_eq!(whole, pieces);
        assert_ne!(whole, Pattern::bytes(8, 100));
    }

    #[test]
    fn a_changed_byte_is_found() {
        let mut bytes = Pattern::bytes(7, 100);
        bytes[61] ^= 1;
        assert_eq!(Pattern::new(7).check(&bytes), Err(61));
    }
}
