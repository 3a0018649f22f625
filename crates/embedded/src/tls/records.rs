//! TLS 1.3's record layer (RFC 8446, 5): plain text is laid out as records and sealed in place; received records are
//! opened in place.
//!
//! rustls makes the handshake and the keys. Its own record layer copies each byte twice on the way out and once on the
//! way in; for a tunnel that is a tenth of all its work (docs/performance.md).

use super::aead::{Aead, Nonce};
use super::error::TlsError;
use super::sizes::{BODY_MAX, HEADER_LEN, PLAIN_MAX, TAG_LEN};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved};

/// The inner content type, and the tag.
const TRAILER_LEN: usize = 1 + TAG_LEN;
/// A full record as [`Batch`] lays it out.
const FULL_RECORD: usize = HEADER_LEN + PLAIN_MAX + TRAILER_LEN;

/// One direction's key and its count of records.
pub(super) struct Key {
    aead: Aead,
    iv: Nonce,
    sequence: u64,
}

impl Key {
    pub(super) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Key, TlsError> {
        let (aead, iv) = Aead::new(secrets).ok_or(TlsError::UnknownCipher)?;
        Ok(Key { aead, iv, sequence })
    }

    /// Records for which this key was used.
    pub(super) fn used(&self) -> u64 {
        self.sequence
    }

    /// RFC 8446, 5.3. No number is used twice: the key is exhausted after the last one.
    fn next_nonce(&mut self) -> Result<Nonce, TlsError> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(TlsError::Exhausted)?;
        Ok(nonce)
    }

    /// Seals one record: space for the header, the plain text, space for the trailer.
    fn seal(&mut self, kind: ContentType, record: &mut [u8]) -> Result<(), TlsError> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_LEN>().ok_or(TlsError::Internal)?;
        *header = header_of(body.len())?;
        let (text, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(TlsError::Internal)?;
        *text.last_mut().ok_or(TlsError::Internal)? = u8::from(kind);
        let nonce = self.next_nonce()?;
        *tag = self.aead.seal(nonce, *header, text).map_err(|_| Error::EncryptError)?;
        Ok(())
    }

    /// Appends a short TLS message as one record.
    pub(super) fn append(&mut self, kind: ContentType, message: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let begin = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(message);
        out.extend_from_slice(&[0; TRAILER_LEN]);
        let sealed = self.seal(kind, out.get_mut(begin..).unwrap_or_default());
        if sealed.is_err() {
            out.truncate(begin);
        }
        sealed
    }

    /// Opens the first record of `received[at..]` if it is complete, and puts its plain text at `to`, which must not
    /// exceed `at`.
    pub(super) fn open(&mut self, received: &mut [u8], to: usize, at: usize) -> Result<Option<Opened>, TlsError> {
        let record = received.get(at..).unwrap_or_default();
        if let Some(kind) = record.first().map(|kind| ContentType::from(*kind))
            && kind != ContentType::ApplicationData
        {
            let expect_types = vec![ContentType::ApplicationData];
            return Err(Error::InappropriateMessage { expect_types, got_type: kind }.into());
        }
        let (Some(length), Some(header)) = (whole_record(record)?, record.first_chunk().copied()) else {
            return Ok(None);
        };
        let bytes = received.get_mut(to..at + length).unwrap_or_default();
        let nonce = self.next_nonce()?;
        let text = self.aead.open(nonce, header, bytes, at + HEADER_LEN - to);
        let text = text.map_err(|_| Error::DecryptError)?;
        // The plain text is followed by its type and by padding of zeros.
        let text = bytes.get(..text).unwrap_or_default();
        let Some((plain, kind)) = text.iter().enumerate().rfind(|(_, byte)| **byte != 0) else {
            return Err(PeerMisbehaved::IllegalTlsInnerPlaintext.into());
        };
        if text.len() > PLAIN_MAX + 1 {
            return Err(Error::PeerSentOversizedRecord.into());
        }
        Ok(Some(Opened { kind: ContentType::from(*kind), plain, record: length }))
    }
}

/// An opened record.
pub(super) struct Opened {
    pub(super) kind: ContentType,
    /// Length of the plain text.
    pub(super) plain: usize,
    /// Length of the record, with the header.
    pub(super) record: usize,
}

/// The length of the record at the start of `bytes`, if it is complete.
pub(super) fn whole_record(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    let Some([_, _, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    let body = usize::from(u16::from_be_bytes([*high, *low]));
    if body > BODY_MAX {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    Ok((bytes.len() >= HEADER_LEN + body).then_some(HEADER_LEN + body))
}

/// A sealed record looks like application data of TLS 1.2 (RFC 8446, 5.2).
fn header_of(body: usize) -> Result<[u8; HEADER_LEN], TlsError> {
    let [high, low] = u16::try_from(body).map_err(|_| TlsError::Internal)?.to_be_bytes();
    Ok([u8::from(ContentType::ApplicationData), 3, 3, high, low])
}

/// Outgoing application data, laid out as its records: sealing copies nothing.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// Records in a full batch, which stays in a processor's cache from the tunnel device to TCP.
    const RECORDS: usize = 4;
    /// Most bytes of plain text in a batch.
    pub(crate) const PLAIN: usize = Self::RECORDS * PLAIN_MAX;
    /// Bytes of memory for a full batch.
    pub(crate) const CAPACITY: usize = Self::RECORDS * FULL_RECORD;

    /// An empty batch that reuses the memory of `bytes`.
    pub(crate) fn new(mut bytes: Vec<u8>) -> Batch {
        bytes.clear();
        Batch { bytes }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= Self::CAPACITY
    }

    fn reserve(&mut self) {
        self.bytes.reserve_exact(Self::CAPACITY.saturating_sub(self.bytes.len()));
    }

    /// Bytes of plain text in the batch.
    pub(crate) fn plain_len(&self) -> usize {
        let open = self.bytes.len() % FULL_RECORD;
        self.bytes.len() / FULL_RECORD * PLAIN_MAX + open.saturating_sub(HEADER_LEN)
    }

    /// Appends plain text, and returns the part that did not fit.
    pub(crate) fn push<'a>(&mut self, mut plain: &'a [u8]) -> &'a [u8] {
        while !plain.is_empty() && !self.is_full() {
            let open = self.bytes.len() % FULL_RECORD;
            if open == 0 {
                self.bytes.extend_from_slice(&[0; HEADER_LEN]);
            }
            let space = HEADER_LEN + PLAIN_MAX - open.max(HEADER_LEN);
            let (fitting, rest) = plain.split_at(plain.len().min(space));
            if self.bytes.len() + plain.len() > Self::CAPACITY / 2 {
                // The batch will be filled: growing it step by step would leave the steps' memory behind.
                self.reserve();
            }
            self.bytes.extend_from_slice(fitting);
            if fitting.len() == space {
                self.bytes.extend_from_slice(&[0; TRAILER_LEN]);
            }
            plain = rest;
        }
        plain
    }

    /// Records in the batch.
    pub(super) fn records(&self) -> u64 {
        self.bytes.len().div_ceil(FULL_RECORD) as u64
    }

    /// Encrypts the batch and returns the cipher text.
    pub(super) fn seal(mut self, key: &mut Key) -> Result<Vec<u8>, TlsError> {
        if !self.bytes.len().is_multiple_of(FULL_RECORD) {
            self.bytes.extend_from_slice(&[0; TRAILER_LEN]);
        }
        for record in self.bytes.chunks_mut(FULL_RECORD) {
            key.seal(ContentType::ApplicationData, record)?;
        }
        Ok(self.bytes)
    }

    /// The batch's memory, for reuse.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn plain(&self) -> impl Iterator<Item = u8> {
        let text = |record: &[u8]| record[HEADER_LEN..record.len().min(HEADER_LEN + PLAIN_MAX)].to_vec();
        self.bytes.chunks(FULL_RECORD).flat_map(text)
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
