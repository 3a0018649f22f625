//! A stream's input: plain text that is not a whole packet or that nobody may have yet, then cipher text that is not a
//! whole record. Both stay where they were received, as far as they can.

use super::{HEADER_LEN, MAX_DATA};
use crate::reactor::buffers::Buffers;
use crate::tls::error::TlsError;
use crate::tls::session::TlsSession;
use crate::tls::sizes::RECORD_MAX;
use crate::tls::window::Window;

/// Room for a read behind the most that may wait in front of it, bytes.
const READ: usize = 128 * 1024;
/// Length of a block: what may wait of a packet and of a record, and a read behind it.
const BLOCK: usize = HEADER_LEN + MAX_DATA + RECORD_MAX + READ;
/// With less room than this behind it, what waits is moved to the front before the next read.
const ROOM_MIN: usize = 64 * 1024;
/// A stream at rest keeps so much memory for the beginning of its next packet, bytes: a usual packet's size. An idle
/// stream costs no more than that, and a busy one allocates nothing for it.
const REST_KEPT: usize = 2048;

#[derive(Default)]
pub(crate) struct Incoming {
    /// The worker's, or empty.
    block: Vec<u8>,
    /// What waits, while there is no block.
    rest: Vec<u8>,
    /// The block is counted as held between two reads.
    holds: bool,
    plain_begin: usize,
    plain_end: usize,
    cipher_begin: usize,
    end: usize,
}

impl Incoming {
    /// Taken up again: [`Incoming::settle`] decides anew.
    pub(crate) fn begin(mut self, buffers: &Buffers) -> Incoming {
        self.release_block(buffers);
        self
    }

    /// Room for what is received next, at least `ROOM_MIN` bytes unless more waits than one packet and one record.
    pub(crate) fn room(&mut self, buffers: &Buffers) -> &mut [u8] {
        if self.block.is_empty() {
            self.drop_consumed();
            self.block = buffers.block(BLOCK);
            if let Some(front) = self.block.get_mut(..self.rest.len()) {
                front.copy_from_slice(&self.rest);
            }
            self.rest.clear();
            self.rest.shrink_to(REST_KEPT);
        } else if BLOCK - self.end < ROOM_MIN || self.waiting() == 0 {
            self.block.copy_within(self.plain_begin..self.plain_end, 0);
            let plain = self.plain_end - self.plain_begin;
            self.block.copy_within(self.cipher_begin..self.end, plain);
            self.rebase_offsets(plain);
        }
        self.block.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were received into the room.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.block.len());
    }

    /// Opens all whole records. What TLS itself has to say is appended to `out`. Returns whether the peer has ended its
    /// side.
    pub(crate) fn open(&mut self, tls: &mut TlsSession, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        let bytes = self.block.get_mut(..self.end).unwrap_or_default();
        let mut window = Window { bytes, plain_end: self.plain_end, cipher_begin: self.cipher_begin };
        let closed = tls.receive(&mut window, out);
        (self.plain_end, self.cipher_begin) = (window.plain_end, window.cipher_begin);
        closed
    }

    /// The plain text that nobody has had.
    pub(crate) fn plain(&mut self) -> &mut [u8] {
        let bytes = if self.block.is_empty() { &mut self.rest } else { &mut self.block };
        bytes.get_mut(self.plain_begin..self.plain_end).unwrap_or_default()
    }

    /// The first bytes of the plain text are done with.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.plain_begin = (self.plain_begin + bytes).min(self.plain_end);
    }

    /// Until the next read: the block goes back to the worker, unless so much waits that copying it is worse than holding
    /// the block.
    pub(crate) fn settle(&mut self, buffers: &Buffers) {
        self.holds = self.waiting() > REST_KEPT && !self.block.is_empty() && buffers.may_hold();
        if !self.holds {
            self.shrink(buffers);
        }
    }

    /// Keeps no more memory than what waits takes.
    pub(crate) fn trim(&mut self, buffers: &Buffers) {
        self.detach_from_worker(buffers);
        self.rest.shrink_to_fit();
    }

    /// Holds nothing of this worker's.
    pub(crate) fn detach_from_worker(&mut self, buffers: &Buffers) {
        self.release_block(buffers);
        self.shrink(buffers);
    }

    /// Memory that it has, bytes.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.block.capacity() + self.rest.capacity()
    }

    fn waiting(&self) -> usize {
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
        self.rest.shrink_to(REST_KEPT);
        let plain = plain.len();
        buffers.give_block(std::mem::take(&mut self.block));
        self.rebase_offsets(plain);
    }

    /// Of what waits without a block.
    fn drop_consumed(&mut self) {
        self.rest.drain(..self.plain_begin.min(self.rest.len()));
        self.rest.shrink_to(REST_KEPT);
        self.rebase_offsets(self.plain_end - self.plain_begin);
    }

    /// What waits was put to the front, `plain` bytes of it plain text.
    fn rebase_offsets(&mut self, plain: usize) {
        self.end = plain + self.end - self.cipher_begin;
        (self.plain_begin, self.plain_end, self.cipher_begin) = (0, plain, plain);
    }
}
