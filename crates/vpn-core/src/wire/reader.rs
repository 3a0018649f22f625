//! A cursor over received bytes that checks every step.

use super::WireError;
use std::net::Ipv4Addr;

/// Takes fields off the front of a message; an incomplete field is [`WireError::TooShort`].
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, len: bytes.len() }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::TooShort { len: self.len })?;
        self.rest = rest;
        Ok(*field)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        self.take().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_le_bytes)
    }

    /// An address in network order.
    pub(super) fn ipv4(&mut self) -> Result<Ipv4Addr, WireError> {
        self.take::<4>().map(Ipv4Addr::from)
    }

    /// The remaining bytes.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
