//! A worker's large buffers, lent to the source that it is serving: an idle source holds none.

use std::cell::{Cell, RefCell};

/// Most buffers of each kind that are kept for the next source; also most blocks that sources in the middle of a packet
/// hold.
const KEPT: usize = 16;
/// A buffer that grew beyond this capacity is freed, not kept.
const KEPT_CAPACITY: usize = 1024 * 1024;

#[derive(Default)]
pub(crate) struct Buffers {
    blocks: Kept,
    outputs: Kept,
    held: Cell<usize>,
}

/// Buffers that wait for the next source.
#[derive(Default)]
struct Kept {
    buffers: RefCell<Vec<Vec<u8>>>,
    /// The fewest that waited at any time since the last trim: this many were not needed.
    unused: Cell<usize>,
}

impl Kept {
    fn take(&self) -> Option<Vec<u8>> {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.pop();
        self.unused.set(self.unused.get().min(buffers.len()));
        buffer
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < KEPT {
            buffers.push(buffer);
        }
    }

    fn trim(&self) -> bool {
        let mut buffers = self.buffers.borrow_mut();
        let needed = buffers.len() - self.unused.get().min(buffers.len());
        buffers.truncate(needed);
        self.unused.set(needed);
        needed == 0
    }
}

impl Buffers {
    /// Returns a buffer of `length` bytes with arbitrary contents, for input. All callers pass the same length.
    pub(crate) fn block(&self, length: usize) -> Vec<u8> {
        let kept = self.blocks.take().filter(|block| block.len() == length);
        kept.unwrap_or_else(|| vec![0; length])
    }

    pub(crate) fn return_block(&self, block: Vec<u8>) {
        if !block.is_empty() {
            self.blocks.put(block);
        }
    }

    /// Returns whether a source may hold its block between reads. A source that may must call
    /// [`Buffers::no_longer_holds`] when it releases the block.
    pub(crate) fn may_hold(&self) -> bool {
        let may = self.held.get() < KEPT;
        self.held.set(self.held.get() + usize::from(may));
        may
    }

    pub(crate) fn no_longer_holds(&self) {
        self.held.set(self.held.get().saturating_sub(1));
    }

    /// Returns an empty buffer for output, with capacity if a returned buffer is available.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.outputs.take().unwrap_or_default()
    }

    pub(crate) fn return_output(&self, mut buffer: Vec<u8>) {
        if (1..=KEPT_CAPACITY).contains(&buffer.capacity()) {
            buffer.clear();
            self.outputs.put(buffer);
        }
    }

    /// Frees the buffers that no source has needed since the last call. Returns true if none is left.
    pub(crate) fn trim(&self) -> bool {
        self.blocks.trim() & self.outputs.trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_is_freed() {
        let buffers = Buffers::default();
        let taken: Vec<_> = (0..3).map(|_| buffers.block(10)).collect();
        taken.into_iter().for_each(|block| buffers.return_block(block));
        assert!(!buffers.trim());
        // One at a time: the other two were not needed.
        for _ in 0..5 {
            buffers.return_block(buffers.block(10));
        }
        assert!(!buffers.trim());
        assert_eq!(buffers.blocks.buffers.borrow().len(), 1);
        assert!(buffers.trim());
    }
}
