//! A worker's large buffers, lent to the stream that is being served: an idle stream holds none.

use std::cell::RefCell;

/// Plain text encrypted, or read, in one go, bytes: a multiple of TLS's 16 KiB record.
pub(crate) const CHUNK: usize = 256 * 1024;
/// Length of a [`Buffers::block`]: a chunk, what encryption adds to it, and room for a partial record before it.
pub(crate) const BLOCK: usize = CHUNK + 32 * 1024;
/// Buffers of each kind that are kept for the next stream.
const KEPT: usize = 16;
/// A buffer that grew beyond this is not kept.
const KEPT_CAPACITY: usize = 1024 * 1024;

#[derive(Default)]
pub(crate) struct Buffers {
    blocks: RefCell<Vec<Vec<u8>>>,
    plain: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer of length [`BLOCK`] with anything in it.
    pub(crate) fn block(&self) -> Vec<u8> {
        self.blocks.borrow_mut().pop().unwrap_or_else(|| vec![0; BLOCK])
    }

    pub(crate) fn give_block(&self, block: Vec<u8>) {
        let mut blocks = self.blocks.borrow_mut();
        if block.len() == BLOCK && blocks.len() < KEPT {
            blocks.push(block);
        }
    }

    /// An empty buffer, with capacity where one was given back.
    pub(crate) fn plain(&self) -> Vec<u8> {
        self.plain.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_plain(&self, mut buffer: Vec<u8>) {
        let mut plain = self.plain.borrow_mut();
        if (1..=KEPT_CAPACITY).contains(&buffer.capacity()) && plain.len() < KEPT {
            buffer.clear();
            plain.push(buffer);
        }
    }
}
