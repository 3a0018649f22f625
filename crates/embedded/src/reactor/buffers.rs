//! A worker's large buffers, lent to the source that it is serving: an idle source holds none.

use std::cell::{Cell, RefCell};

/// Most buffers of each kind that are kept for the next source; also most blocks that sources in the middle of a packet
/// hold.
const KEPT: usize = 16;
/// A buffer that grew beyond this capacity is freed, not kept.
const KEPT_CAPACITY: usize = 1024 * 1024;

#[derive(Default)]
pub(crate) struct Buffers {
    blocks: RefCell<Vec<Vec<u8>>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    held: Cell<usize>,
}

impl Buffers {
    /// Returns a buffer of `length` bytes with arbitrary contents, for input. All callers pass the same length.
    pub(crate) fn block(&self, length: usize) -> Vec<u8> {
        let kept = self.blocks.borrow_mut().pop().filter(|block| block.len() == length);
        kept.unwrap_or_else(|| vec![0; length])
    }

    pub(crate) fn return_block(&self, block: Vec<u8>) {
        let mut blocks = self.blocks.borrow_mut();
        if !block.is_empty() && blocks.len() < KEPT {
            blocks.push(block);
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
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn return_output(&self, mut buffer: Vec<u8>) {
        let mut outputs = self.outputs.borrow_mut();
        if (1..=KEPT_CAPACITY).contains(&buffer.capacity()) && outputs.len() < KEPT {
            buffer.clear();
            outputs.push(buffer);
        }
    }
}
