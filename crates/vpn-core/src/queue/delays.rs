//! How long packets waited in queues.

/// The upper bounds of the classes of delay, nanoseconds, each inclusive; a last class has all above. CoDel's targets are
/// 5 to 100 ms.
pub const DELAY_BOUNDS: [u64; 10] = {
    const MS: u64 = 1_000_000;
    [MS, 2 * MS, 5 * MS, 10 * MS, 20 * MS, 50 * MS, 100 * MS, 200 * MS, 500 * MS, 1000 * MS]
};

/// How long packets waited, by classes. A super-packet counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// The packets of each class of [`DELAY_BOUNDS`], and those above.
    pub counts: [u32; DELAY_BOUNDS.len() + 1],
    /// The sum of all delays, nanoseconds.
    pub sum: u64,
}

impl Delays {
    /// Whether no packet is counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    pub(super) fn add(&mut self, nanoseconds: u64) {
        let class = DELAY_BOUNDS.partition_point(|bound| *bound < nanoseconds);
        // Without an index that may panic: a class is at most the number of bounds.
        if let Some(count) = self.counts.get_mut(class) {
            *count = count.saturating_add(1);
        }
        self.sum = self.sum.saturating_add(nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_class() {
        let mut delays = Delays::default();
        assert!(delays.is_empty());
        for nanoseconds in [0, 1_000_000, 1_000_001, 1_000_000_000, 1_000_000_001] {
            delays.add(nanoseconds);
        }
        assert_eq!(delays.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(delays.sum, 2_002_000_002);
        delays.add(u64::MAX);
        assert_eq!((delays.counts[10], delays.sum), (2, u64::MAX));
    }
}
