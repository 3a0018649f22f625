//! A stream's output: plain text that waits for encryption, then cipher text that waits for the kernel.

use super::buffers::{Buffers, CHUNK};
use crate::embedded::ctypes::dap_stream_ch_pkt_hdr;
use crate::embedded::tls::session::{TlsError, TlsSession};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// The kernel has everything.
    All,
    /// The kernel takes no more for now.
    Blocked,
}

/// Why a flush failed; the connection is of no more use.
#[derive(thiserror::Error, Debug)]
pub(crate) enum FlushError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// Order on the wire: `cipher`, `full`, `plain`. A blocked stream keeps at most one chunk of cipher text.
///
/// What waits is in pieces of a chunk, and each piece is let go when it is encrypted: a peer that reads slowly may never
/// take all that there is, and still costs no more than what waits.
#[derive(Default)]
pub(crate) struct Outgoing {
    full: VecDeque<Vec<u8>>,
    plain: Vec<u8>,
    /// Bytes in both.
    plain_pending: usize,
    cipher: Cipher,
    sequence: u64,
}

/// Cipher text; `data` is a block of the worker's, or empty.
#[derive(Default)]
pub(crate) struct Cipher {
    pub(crate) data: Vec<u8>,
    start: usize,
    pub(crate) end: usize,
}

impl Outgoing {
    /// Bytes that the kernel has not taken.
    pub(crate) fn pending(&self) -> usize {
        self.plain_pending + self.cipher.pending()
    }

    pub(crate) fn plain_pending(&self) -> usize {
        self.plain_pending
    }

    /// Where TLS puts what it has to send.
    pub(crate) fn cipher(&mut self, buffers: &Buffers) -> &mut Cipher {
        if self.cipher.data.is_empty() {
            self.cipher.data = buffers.block();
        }
        &mut self.cipher
    }

    /// True while a chunk that was encrypted earlier has not gone out.
    pub(crate) fn is_blocked(&self) -> bool {
        self.cipher.pending() > 0
    }

    /// Gives the worker's block back when nothing is left in it.
    pub(crate) fn settle(&mut self, buffers: &Buffers) {
        if !self.is_blocked() {
            self.cipher.start = 0;
            self.cipher.end = 0;
            buffers.give_block(std::mem::take(&mut self.cipher.data));
        }
    }

    /// Drops whatever waits.
    pub(crate) fn discard(&mut self, buffers: &Buffers) {
        buffers.give_block(std::mem::take(&mut self.cipher.data));
        while let Some(chunk) = self.next_chunk() {
            buffers.give_plain(chunk);
        }
        self.cipher = Cipher::default();
    }

    /// Appends bytes, to the last piece as far as it has room: of a full piece all records are full.
    pub(crate) fn push(&mut self, mut bytes: &[u8], buffers: &Buffers) {
        self.plain_pending += bytes.len();
        while !bytes.is_empty() {
            if self.plain.len() >= CHUNK {
                self.full.push_back(std::mem::take(&mut self.plain));
            }
            if self.plain.capacity() == 0 {
                self.plain = buffers.plain();
                if !self.full.is_empty() {
                    // It will be filled: growing step by step would leave the steps' memory behind.
                    self.plain.reserve_exact(CHUNK);
                }
            }
            let (fitting, rest) = bytes.split_at(bytes.len().min(CHUNK - self.plain.len()));
            self.plain.extend_from_slice(fitting);
            bytes = rest;
        }
    }

    /// Appends one channel packet.
    pub(crate) fn push_packet(&mut self, channel: u8, kind: u8, data: &[u8], data_size: u32, buffers: &Buffers) {
        self.push(&header(channel, kind, self.sequence, data_size), buffers);
        self.push(data, buffers);
        self.sequence += 1;
    }

    /// Takes out the piece that comes next.
    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let chunk = self.full.pop_front().unwrap_or_else(|| std::mem::take(&mut self.plain));
        self.plain_pending -= chunk.len();
        (chunk.capacity() > 0).then_some(chunk)
    }

    /// Encrypts and writes until everything is out or the kernel is full.
    pub(crate) fn flush(
        &mut self,
        mut io: impl Write,
        tls: &mut TlsSession,
        buffers: &Buffers,
    ) -> Result<Flushed, FlushError> {
        loop {
            while self.cipher.pending() > 0 {
                match io.write(self.cipher.bytes()) {
                    Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                    Ok(written) => self.cipher.start += written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.cipher.start = 0;
            self.cipher.end = 0;
            if self.plain_pending == 0 || !tls.is_established() {
                break;
            }
            if self.cipher.data.is_empty() {
                self.cipher.data = buffers.block();
            }
            let Some(chunk) = self.next_chunk() else { break };
            tls.encrypt(&chunk, &mut self.cipher)?;
            buffers.give_plain(chunk);
        }
        buffers.give_block(std::mem::take(&mut self.cipher.data));
        Ok(if self.plain_pending == 0 { Flushed::All } else { Flushed::Blocked })
    }
}

impl Cipher {
    pub(crate) fn pending(&self) -> usize {
        self.end - self.start
    }

    fn bytes(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    /// Free room behind what waits; grows the buffer to `least` bytes of it.
    pub(crate) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.data.len() - self.end < least {
            self.data.resize(self.end + least, 0);
        }
        self.data.get_mut(self.end..).unwrap_or_default()
    }
}

fn header(channel: u8, kind: u8, sequence: u64, data_size: u32) -> [u8; size_of::<dap_stream_ch_pkt_hdr>()] {
    let mut header = [0; size_of::<dap_stream_ch_pkt_hdr>()];
    header[0] = channel;
    header[2] = kind;
    header[4..12].copy_from_slice(&sequence.to_le_bytes());
    header[12..16].copy_from_slice(&data_size.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_laid_out_as_c_sees_it() {
        let bytes = header(b'S', 2, 0x0102_0304_0506_0708, 1400);
        assert_eq!(bytes.len(), 16);
        assert_eq!(bytes, [b'S', 0, 2, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0x78, 5, 0, 0]);
    }

    #[test]
    fn pending_counts_plain_text_with_headers() {
        let buffers = Buffers::default();
        let mut out = Outgoing::default();
        out.push_packet(b'S', 2, &[1; 100], 100, &buffers);
        out.push_packet(b'S', 2, &[2; 50], 50, &buffers);
        assert_eq!(out.pending(), 182);
        assert_eq!(out.plain_pending(), 182);
        assert!(!out.is_blocked());
    }

    /// A peer that always has something to read, and never takes all of it.
    #[test]
    fn what_has_been_sent_takes_no_memory() {
        const WAITING: usize = 1024 * 1024;
        let buffers = Buffers::default();
        let (mut out, mut taken) = (Outgoing::default(), 0);
        for number in 0..100_000_u32 {
            out.push_packet(b'S', 2, &[number as u8; 1000], 1000, &buffers);
            while out.pending() > WAITING {
                let chunk = out.next_chunk().unwrap();
                assert_eq!(chunk.len(), CHUNK, "a piece that is not full");
                for (at, byte) in (taken..).zip(&chunk) {
                    let (packet, at) = (at / 1016, at % 1016);
                    assert!(at < 16 || *byte == packet as u8, "byte {at} of packet {packet}");
                }
                taken += chunk.len();
                buffers.give_plain(chunk);
            }
        }
        let kept: usize = out.full.iter().map(Vec::capacity).sum::<usize>() + out.plain.capacity();
        assert!(kept < 3 * WAITING, "{kept} bytes for {}", out.pending());
        assert_eq!(taken + out.pending(), 100_000 * 1016);
        out.discard(&buffers);
        assert_eq!((out.pending(), out.full.len(), out.plain.capacity()), (0, 0, 0));
    }
}
