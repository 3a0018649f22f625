//! A stream's output: plain text to encrypt, then cipher text to pass to the kernel.

use crate::ctypes::dap_stream_ch_pkt_hdr;
use crate::reactor::buffers::Buffers;
use crate::tls::error::TlsError;
use crate::tls::records::Batch;
use crate::tls::session::TlsSession;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// The kernel has accepted everything.
    All,
    /// The kernel accepts no more now.
    Blocked,
}

/// Why a flush failed; the connection cannot be used any more.
#[derive(thiserror::Error, Debug)]
pub(crate) enum FlushError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// Order on the wire: `sending`, `control`, `full`, `last`. A blocked stream keeps at most one batch of cipher text.
///
/// Output waits in batches, each of which is freed when it is sent: a peer that reads slowly may never receive
/// everything, and still costs no more than the waiting output.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// Cipher text that is being passed to the kernel, and how much of it the kernel has accepted.
    sending: Vec<u8>,
    sent: usize,
    /// TLS's own output, also cipher text.
    control: Vec<u8>,
    full: VecDeque<Batch>,
    last: Batch,
    /// Bytes of plain text in the batches.
    plain_pending: usize,
    sequence: u64,
}

impl Outgoing {
    /// Bytes that the kernel has not accepted.
    pub(crate) fn pending(&self) -> usize {
        self.plain_pending + self.sending.len() - self.sent + self.control.len()
    }

    /// Packets that have been written since the stream began.
    pub(crate) fn packets(&self) -> u64 {
        self.sequence
    }

    /// A full batch is ready to be sent.
    pub(crate) fn has_full_batch(&self) -> bool {
        self.plain_pending >= Batch::PLAIN
    }

    /// The buffer for TLS's own output.
    pub(crate) fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// True while the kernel has not accepted all cipher text passed to it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sending.len() > self.sent
    }

    /// Drops all output.
    pub(crate) fn discard(&mut self, buffers: &Buffers) {
        while let Some(batch) = self.next_batch() {
            buffers.return_output(batch.into_bytes());
        }
        buffers.return_output(std::mem::take(&mut self.sending));
        *self = Outgoing { sequence: self.sequence, ..Outgoing::default() };
    }

    /// Appends bytes, first to the last batch while it has spare capacity: all records of a full batch are full.
    pub(crate) fn push(&mut self, mut bytes: &[u8], buffers: &Buffers) {
        self.plain_pending += bytes.len();
        while !bytes.is_empty() {
            if self.last.is_full() {
                self.full.push_back(std::mem::take(&mut self.last));
            }
            if self.last.plain_len() == 0 {
                self.last = Batch::new(buffers.output());
            }
            bytes = self.last.push(bytes);
        }
    }

    /// Appends one channel packet.
    pub(crate) fn push_packet(&mut self, channel: u8, kind: u8, data: &[u8], data_size: u32, buffers: &Buffers) {
        self.push(&header(channel, kind, self.sequence, data_size), buffers);
        self.push(data, buffers);
        self.sequence += 1;
    }

    /// Removes the batch that is next.
    fn next_batch(&mut self) -> Option<Batch> {
        let batch = self.full.pop_front().unwrap_or_else(|| std::mem::take(&mut self.last));
        self.plain_pending -= batch.plain_len();
        (batch.plain_len() > 0).then_some(batch)
    }

    /// Encrypts and writes until everything is sent or the kernel accepts no more.
    pub(crate) fn flush(
        &mut self,
        mut io: impl Write,
        tls: &mut TlsSession,
        buffers: &Buffers,
    ) -> Result<Flushed, FlushError> {
        loop {
            while let Some(rest @ [_, ..]) = self.sending.get(self.sent..) {
                match io.write(rest) {
                    Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                    Ok(written) => self.sent += written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            buffers.return_output(std::mem::take(&mut self.sending));
            self.sent = 0;
            if !self.control.is_empty() {
                self.sending = std::mem::take(&mut self.control);
            } else if self.plain_pending == 0 || !tls.is_established() {
                break;
            } else if let Some(batch) = self.next_batch() {
                self.sending = tls.seal(batch, &mut self.control)?;
                if !self.control.is_empty() {
                    // A new key was needed, which must be announced to the peer first.
                    self.control.extend_from_slice(&self.sending);
                    self.sending = std::mem::take(&mut self.control);
                }
            }
        }
        Ok(if self.plain_pending == 0 { Flushed::All } else { Flushed::Blocked })
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
        assert!(!out.has_full_batch());
        assert!(!out.is_blocked());
    }

    /// A peer that always has something to read, and never receives everything.
    #[test]
    fn sent_data_takes_no_memory() {
        const WAITING: usize = 1024 * 1024;
        let buffers = Buffers::default();
        let (mut out, mut taken) = (Outgoing::default(), 0);
        for number in 0..100_000_u32 {
            out.push_packet(b'S', 2, &[number as u8; 1000], 1000, &buffers);
            while out.pending() > WAITING {
                let batch = out.next_batch().unwrap();
                assert_eq!(batch.plain_len(), Batch::PLAIN, "a batch that is not full");
                for (at, byte) in (taken..).zip(batch.plain()) {
                    let (packet, at) = (at / 1016, at % 1016);
                    assert!(at < 16 || byte == packet as u8, "byte {at} of packet {packet}");
                }
                taken += batch.plain_len();
                buffers.return_output(batch.into_bytes());
            }
        }
        let kept: usize = out.full.iter().chain([&out.last]).map(Batch::capacity).sum();
        assert!(kept < 3 * WAITING, "{kept} bytes for {}", out.pending());
        assert_eq!(taken + out.pending(), 100_000 * 1016);
        out.discard(&buffers);
        assert_eq!((out.pending(), out.full.len(), out.last.capacity()), (0, 0, 0));
    }
}
