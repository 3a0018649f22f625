//! Maps keyed by numbers that this process hands out itself (uuids, addresses): no attacker chooses them, so a
//! multiplication is hash enough.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing; the fold brings the well mixed upper half down to the bits that pick the bucket.
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_addresses_spread_over_both_ends_of_the_hash() {
        let mut low = std::collections::HashSet::new();
        let mut high = std::collections::HashSet::new();
        for step in 0..4096usize {
            let mut hasher = NumberHasher::default();
            hasher.write_usize(0x7f00_0000_0000 + step * 64);
            low.insert(hasher.finish() & 0xfff);
            high.insert(hasher.finish() >> 52);
        }
        assert!(low.len() > 2000, "{}", low.len());
        assert!(high.len() > 2000, "{}", high.len());
    }
}
