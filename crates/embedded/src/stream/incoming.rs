//! A stream's input: plain text that is not a whole packet or whose reader is paused, then cipher text that is not a
//! whole record. Both stay where they were received, as far as possible.

use super::{HEADER_LEN, MAX_DATA};
use crate::reactor::buffers::Buffers;
use crate::tls::error::TlsError;
use crate::tls::session::TlsSession;
use crate::tls::sizes::RECORD_MAX;
use crate::tls::window::Window;

/// Spare capacity for a read behind the most that may wait in front of it, bytes.
const READ: usize = 128 * 1024;
/// Length of a block: the rest of a packet, the rest of a record, and a read behind them.
pub(crate) const BLOCK: usize = HEADER_LEN + MAX_DATA + RECORD_MAX + READ;
/// With less spare capacity than this, waiting bytes move to the front before the next read.
const READ_MIN: usize = 64 * 1024;
/// Memory that an idle stream keeps for the start of its next packet, bytes: the size of a usual packet. An idle stream
/// costs no more than that, and a busy one allocates nothing for it.
const IDLE_KEPT: usize = 2048;

#[derive(Default)]
pub(crate) struct Incoming {
    /// A block of the worker's, or empty.
    block: Vec<u8>,
    /// The waiting bytes while there is no block.
    rest: Vec<u8>,
    /// The worker counts the block as held between two reads.
    holds: bool,
    plain_begin: usize,
    plain_end: usize,
    cipher_begin: usize,
    end: usize,
}

impl Incoming {
    /// Begins a read; [`Incoming::park`] ends it.
    pub(crate) fn begin(mut self, buffers: &Buffers) -> Incoming {
        self.release_block(buffers);
        self
    }

    /// Returns the spare capacity for the next read, at least `READ_MIN` bytes unless more than one packet and one
    /// record wait.
    pub(crate) fn spare_capacity(&mut self, buffers: &Buffers) -> &mut [u8] {
        if self.block.is_empty() {
            self.drop_consumed();
            self.block = buffers.block(BLOCK);
            if let Some(front) = self.block.get_mut(..self.rest.len()) {
                front.copy_from_slice(&self.rest);
            }
            self.rest.clear();
            self.rest.shrink_to(IDLE_KEPT);
        } else if BLOCK - self.end < READ_MIN || self.waiting() == 0 {
            self.block.copy_within(self.plain_begin..self.plain_end, 0);
            let plain = self.plain_end - self.plain_begin;
            self.block.copy_within(self.cipher_begin..self.end, plain);
            self.rebase_offsets(plain);
        }
        self.block.get_mut(self.end..).unwrap_or_default()
    }

    /// Records that a read filled this many bytes of the spare capacity.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.block.len());
    }

    /// Decrypts all complete records. Appends TLS's own output to `out`. Returns whether the peer has closed its side.
    pub(crate) fn open(&mut self, tls: &mut TlsSession, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        let bytes = self.block.get_mut(..self.end).unwrap_or_default();
        let mut window = Window { bytes, plain_end: self.plain_end, cipher_begin: self.cipher_begin };
        let closed = tls.receive(&mut window, out);
        (self.plain_end, self.cipher_begin) = (window.plain_end, window.cipher_begin);
        closed
    }

    /// The unconsumed plain text.
    pub(crate) fn plain(&mut self) -> &mut [u8] {
        let bytes = if self.block.is_empty() { &mut self.rest } else { &mut self.block };
        bytes.get_mut(self.plain_begin..self.plain_end).unwrap_or_default()
    }

    /// Consumes the first bytes of the plain text.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.plain_begin = (self.plain_begin + bytes).min(self.plain_end);
    }

    /// Ends a read: returns the block to the worker, unless copying the waiting bytes costs more than holding the
    /// block.
    pub(crate) fn park(&mut self, buffers: &Buffers) {
        self.holds = self.waiting() > IDLE_KEPT && !self.block.is_empty() && buffers.may_hold();
        if !self.holds {
            self.shrink(buffers);
        }
    }

    /// Reduces the memory to the size of the waiting bytes.
    pub(crate) fn trim(&mut self, buffers: &Buffers) {
        self.detach_from_worker(buffers);
        self.rest.shrink_to_fit();
    }

    /// Returns every buffer of this worker.
    pub(crate) fn detach_from_worker(&mut self, buffers: &Buffers) {
        self.release_block(buffers);
        self.shrink(buffers);
    }

    /// Bytes of memory in use.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.block.capacity() + self.rest.capacity()
    }

    /// Bytes that wait for the rest of a packet or record, or for their reader.
    pub(crate) fn waiting(&self) -> usize {
        self.plain_end - self.plain_begin + self.end - self.cipher_begin
    }

    fn release_block(&mut self, buffers: &Buffers) {
        if std::mem::take(&mut self.holds) {
            buffers.no_longer_holds();
        }
    }

    fn shrink(&mut self, buffers: &Buffers) {
        if self.block.is_empty() {
            return self.drop_consumed();
        }
        let plain = self.block.get(self.plain_begin..self.plain_end).unwrap_or_default();
        self.rest.extend_from_slice(plain);
        self.rest.extend_from_slice(self.block.get(self.cipher_begin..self.end).unwrap_or_default());
        self.rest.shrink_to(IDLE_KEPT);
        let plain = plain.len();
        buffers.return_block(std::mem::take(&mut self.block));
        self.rebase_offsets(plain);
    }

    /// Drops consumed bytes while there is no block.
    fn drop_consumed(&mut self) {
        self.rest.drain(..self.plain_begin.min(self.rest.len()));
        self.rest.shrink_to(IDLE_KEPT);
        self.rebase_offsets(self.plain_end - self.plain_begin);
    }

    /// Adjusts the offsets after the waiting bytes moved to the front; `plain` of them are plain text.
    fn rebase_offsets(&mut self, plain: usize) {
        self.end = plain + self.end - self.cipher_begin;
        (self.plain_begin, self.plain_end, self.cipher_begin) = (0, plain, plain);
    }
}
