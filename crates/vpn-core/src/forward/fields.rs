//! The offsets of fields of IPv4 (RFC 791), TCP (RFC 793) and UDP (RFC 768), in bytes from the start of their header,
//! and access to them that cannot panic. Numbers are big-endian.

pub(super) const IP_LEN: usize = 2;
pub(super) const IP_ID: usize = 4;
/// Together with the fragment offset.
pub(super) const IP_FLAGS: usize = 6;
pub(super) const IP_PROTOCOL: usize = 9;
pub(super) const IP_CHECKSUM: usize = 10;
/// Source and destination.
pub(super) const IP_ADDRESSES: usize = 12;

pub(super) const DONT_FRAGMENT: u16 = 0x4000;

/// The end of both ports, of TCP and of UDP.
pub(super) const PORTS_END: usize = 4;
pub(super) const TCP_SEQUENCE: usize = 4;
pub(super) const TCP_ACK: usize = 8;
/// The length in the high four bits, in words of 4 bytes.
pub(super) const TCP_DATA_OFFSET: usize = 12;
pub(super) const TCP_FLAGS: usize = 13;
pub(super) const TCP_WINDOW: usize = 14;
pub(super) const TCP_URGENT: usize = 18;
pub(super) const UDP_LEN: usize = 4;

/// The flags of TCP; CWR is of RFC 3168.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;
pub(super) const CWR: u8 = 0x80;

#[inline]
pub(super) fn get<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[inline]
pub(super) fn put<const LEN: usize>(bytes: &mut [u8], at: usize, field: [u8; LEN]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = field;
    Some(())
}
