//! The memory that the queues of one worker share: blocks for packets, and tables of flows for queues that are not empty.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use super::blocks::{BLOCK, Blocks, KEPT, NONE, Unit};
use super::flows::Table;
use super::nanoseconds;

/// The memory that the queues of one worker share. It grows to what they have needed at once, at most its limit, and
/// allocates nothing below that.
pub struct Memory {
    pub(super) blocks: Blocks,
    tables: Vec<Box<Table>>,
    /// The tables that queues have.
    lent: usize,
    /// The fewest spare tables since `counted_at`: no queue has needed them since.
    unused: usize,
    counted_at: u64,
    limit: usize,
    hasher: DefaultHasher,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("used", &self.used()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Memory {
    /// Creates the memory. Its queues keep at most `limit` bytes, with the tables of their flows and the rest of each
    /// packet's last block of 512 bytes. One queue keeps at most as much as it leaves free, so that a busy one does not
    /// take the memory of the others. `seed` is random and hides which flows share a place in the hash tables.
    pub fn new(limit: usize, seed: u64) -> Memory {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        Memory {
            blocks: Blocks::default(),
            tables: Vec::new(),
            lent: 0,
            unused: 0,
            counted_at: 0,
            limit: limit.min(NONE as usize),
            hasher,
        }
    }

    /// Changes the limit. What is kept beyond a smaller one stays until it leaves.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(NONE as usize);
    }

    /// Gives back what a burst has left: what no packet has used for ten seconds. To be called about once a second.
    pub fn trim(&mut self, now: Duration) {
        let now = nanoseconds(now);
        self.blocks.trim(now);
        if now.saturating_sub(self.counted_at) >= KEPT {
            self.tables.truncate(self.tables.len().saturating_sub(self.unused));
            self.tables.shrink_to(self.tables.len() * 2);
            (self.unused, self.counted_at) = (self.tables.len(), now);
        }
    }

    /// The bytes that this owns, used or spare, without the tables that queues have.
    pub fn owned(&self) -> usize {
        self.blocks.owned() + self.tables.len() * size_of::<Table>()
    }

    fn used(&self) -> usize {
        self.blocks.used() + self.lent * size_of::<Table>()
    }

    /// The bytes that packets and queues may still use.
    pub(super) fn available(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Hashes two words of a flow with the seed.
    #[inline]
    pub(super) fn hash(&self, flow: [u64; 2]) -> u64 {
        let mut hasher = self.hasher.clone();
        flow.into_iter().for_each(|word| hasher.write_u64(word));
        hasher.finish()
    }

    /// Lends a queue a table without flows.
    pub(super) fn lend_table(&mut self) -> Option<Box<Table>> {
        if self.available() < size_of::<Table>() {
            return None;
        }
        self.lent += 1;
        let table = self.tables.pop().unwrap_or_default();
        self.unused = self.unused.min(self.tables.len());
        Some(table)
    }

    /// Takes a table back. All of its flows must be idle.
    pub(super) fn return_table(&mut self, table: Box<Table>) {
        self.lent = self.lent.saturating_sub(1);
        self.tables.push(table);
    }

    /// Stores a packet, given in parts, and returns its first block. `None` if the memory is full.
    pub(super) fn store(&mut self, parts: [&[u8]; 3], unit: Unit) -> Option<u32> {
        let needed = unit.blocks() * BLOCK;
        if needed <= self.available() { self.blocks.store(parts, unit) } else { None }
    }
}
