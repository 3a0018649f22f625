//! Bytes that repeat nowhere, so that a piece that is lost, doubled or swapped shows (Marsaglia's xorshift64).

/// A stream of such bytes and numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 16) as usize % end
    }

    /// So many bytes.
    pub fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend(self.number().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }
}

/// So many bytes of the stream with this seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    Noise::new(seed).bytes(size)
}
