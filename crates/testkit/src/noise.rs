//! Bytes without repetition, so that a lost, doubled or swapped piece is noticed (Marsaglia's xorshift64).

/// A stream of such bytes and numbers. The seed determines it.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Returns the stream of this seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 16) as usize % end
    }

    /// Returns the next `size` bytes.
    pub fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend(self.number().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }
}

/// Returns the first `size` bytes of the stream with this seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    Noise::new(seed).bytes(size)
}
