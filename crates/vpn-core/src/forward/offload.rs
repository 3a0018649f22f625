//! Checks a packet's [`VnetHeader`] against the packet. Neither a peer's header nor the kernel's is trusted.

use super::DropCause;
use super::fields::{PORTS_END, RST, SYN, TCP_FLAGS, UDP_LEN, get};
use crate::wire::{Ipv4View, VnetHeader, inspect};

/// Protocol numbers (IANA), and the offsets of their checksums, in bytes from the start of their header.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const TCP_CHECKSUM: u16 = 16;
pub(super) const UDP_CHECKSUM: u16 = 6;
pub(super) const UDP_HEADER: usize = 8;
pub(super) const TCP_HEADER: usize = 20;
/// Without options.
pub(super) const IP_HEADER: usize = 20;

/// The smallest payload of a TCP segment that a super-packet may be cut into, in bytes: Linux' smallest MSS, 48, less
/// the options that its own segments usually have. With a smaller one a peer could make this host create thousands of
/// packets from one.
pub(super) const MIN_TCP_SEGMENT: u16 = 32;
/// The datagrams in one super-packet (`UDP_MAX_SEGMENTS` of the kernel).
const MAX_DATAGRAMS: usize = 128;

/// The unfinished work on a packet, after which it is one or several packets that any host accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// None.
    None,
    /// The checksum over the packet from `start` on is to be completed, at `start + offset`. It is that of the packet's
    /// own TCP or UDP header. A kernel may do it, even behind its filters: they read no checksum.
    Checksum {
        /// Bytes from the start of the packet: the length of its IPv4 header.
        start: u16,
        /// Bytes from `start`.
        offset: u16,
    },
    /// Like [`Offload::Checksum`], but of an encapsulated packet. Only [`split`](super::split) may do it: to a kernel the
    /// place may be in anything that a filter reads.
    InnerChecksum {
        /// Bytes from the start of the packet, behind its headers.
        start: u16,
        /// Bytes from `start`.
        offset: u16,
    },
    /// The packet is a super-packet. It is to be cut into segments with checksums of their own.
    Segments(Segments),
}

/// How a super-packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// TCP if true, else UDP.
    pub is_tcp: bool,
    /// Only the first segment has the flag CWR.
    pub ecn: bool,
    /// The payload of each segment but the last, in bytes; less than the packet's.
    pub size: u16,
    /// The length of the IPv4 header, in bytes.
    pub ip_len: u16,
    /// The length of all headers, in bytes.
    pub header_len: u16,
}

impl Offload {
    /// Checks a packet and its header, which a peer or a TUN queue provided.
    ///
    /// Errors: those of [`inspect`], and [`DropCause::BadOffload`] for a header that does not fit the packet.
    pub fn check(header: &VnetHeader, packet: &[u8]) -> Result<(Ipv4View, Offload), DropCause> {
        let view = inspect(packet)?;
        let offload = match header.gso_type {
            VnetHeader::GSO_NONE if header.flags & VnetHeader::NEEDS_CSUM == 0 => return Ok((view, Offload::None)),
            VnetHeader::GSO_NONE => checksum(header, &view),
            _ => segments(header, packet, &view),
        };
        offload.map(|offload| (view, offload)).ok_or(DropCause::BadOffload)
    }

    /// Checks a packet and its header that a peer sent, as [`Offload::check`] does. What the kernel makes of it must be
    /// in proportion: the segments of a super-packet have at most half as many bytes more than the super-packet has.
    /// Each repeats the headers, so with a few bytes of payload each they would have up to 60 times its bytes.
    ///
    /// Errors: those of [`Offload::check`], and [`DropCause::Amplifies`].
    #[inline]
    pub fn check_record(header: &VnetHeader, packet: &[u8]) -> Result<(Ipv4View, Offload), DropCause> {
        let (view, offload) = Offload::check(header, packet)?;
        match offload.amplifies(packet.len()) {
            true => Err(DropCause::Amplifies),
            false => Ok((view, offload)),
        }
    }

    /// Whether a peer must refuse a packet of `len` bytes, as its segments have more than 1.5 times its bytes. A sender
    /// cuts it first.
    #[inline]
    pub fn amplifies(&self, len: usize) -> bool {
        matches!(self, Offload::Segments(_)) && self.billed(len) * 2 > len * 3
    }

    /// Returns the header for the kernel or a peer: every field follows from checked values.
    pub fn to_header(&self) -> VnetHeader {
        match *self {
            Offload::None => VnetHeader::default(),
            Offload::Checksum { start, offset } | Offload::InnerChecksum { start, offset } => VnetHeader {
                flags: VnetHeader::NEEDS_CSUM,
                csum_start: start,
                csum_offset: offset,
                ..VnetHeader::default()
            },
            Offload::Segments(Segments { is_tcp, ecn, size, ip_len, header_len }) => VnetHeader {
                flags: VnetHeader::NEEDS_CSUM,
                gso_type: match (is_tcp, ecn) {
                    (true, true) => VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN,
                    (true, false) => VnetHeader::GSO_TCPV4,
                    (false, _) => VnetHeader::GSO_UDP_L4,
                },
                hdr_len: header_len,
                gso_size: size,
                csum_start: ip_len,
                csum_offset: if is_tcp { TCP_CHECKSUM } else { UDP_CHECKSUM },
            },
        }
    }

    /// Returns how many packets a packet of `len` bytes is on a wire without super-packets.
    pub fn packets(&self, len: usize) -> u32 {
        match self {
            Offload::None | Offload::Checksum { .. } | Offload::InnerChecksum { .. } => 1,
            Offload::Segments(segments) => {
                let payload = len.saturating_sub(usize::from(segments.header_len));
                payload.div_ceil(usize::from(segments.size).max(1)) as u32
            }
        }
    }

    /// Returns the length of the largest packet that a packet of `len` bytes is on a wire without super-packets.
    #[inline]
    pub fn largest(&self, len: usize) -> usize {
        match self {
            Offload::None | Offload::Checksum { .. } | Offload::InnerChecksum { .. } => len,
            Offload::Segments(segments) => usize::from(segments.header_len) + usize::from(segments.size),
        }
    }

    /// Returns the bytes that a client pays for a packet of `len` bytes: those of the packets that it is on a wire
    /// without super-packets, each with headers of its own.
    pub fn billed(&self, len: usize) -> usize {
        match self {
            Offload::None | Offload::Checksum { .. } | Offload::InnerChecksum { .. } => len,
            Offload::Segments(Segments { size, header_len, .. }) => {
                // A packet has less than 64 KiB, and processors divide 32 bits much faster than 64.
                let behind_first = (len as u32).saturating_sub(u32::from(*header_len) + 1) / u32::from(*size).max(1);
                len + behind_first as usize * usize::from(*header_len)
            }
        }
    }
}

/// The sum must not get into fields that were judged: it must be the packet's own checksum, or that of an encapsulated
/// packet; a packet that an ICMP error quotes does not count, and TCP carries none.
fn checksum(header: &VnetHeader, view: &Ipv4View) -> Option<Offload> {
    let (start, offset) = (header.csum_start, header.csum_offset);
    let place = usize::from(start) + usize::from(offset);
    if view.is_fragment || place + 2 > view.total_len {
        return None;
    }
    let own = match view.protocol {
        TCP => Some(TCP_CHECKSUM),
        UDP => Some(UDP_CHECKSUM),
        _ => None,
    };
    if usize::from(start) == view.header_len && Some(offset) == own {
        return Some(Offload::Checksum { start, offset });
    }
    let (behind, ports_end) = match view.protocol {
        UDP => (view.header_len + UDP_HEADER, 0),
        TCP | ICMP => return None,
        _ => (view.header_len + IP_HEADER, PORTS_END),
    };
    let is_inner = usize::from(start) >= behind && place >= behind + ports_end;
    is_inner.then_some(Offload::InnerChecksum { start, offset })
}

fn segments(header: &VnetHeader, packet: &[u8], view: &Ipv4View) -> Option<Offload> {
    let transport = packet.get(view.header_len..)?;
    let (is_tcp, ecn) = match header.gso_type {
        VnetHeader::GSO_TCPV4 => (true, false),
        kind if kind == VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN => (true, true),
        VnetHeader::GSO_UDP_L4 => (false, false),
        _ => return None,
    };
    let (protocol, checksum_at, own_len) = match is_tcp {
        true => (TCP, TCP_CHECKSUM, usize::from(*transport.get(12)? >> 4) * 4),
        false => (UDP, UDP_CHECKSUM, UDP_HEADER),
    };
    let header_len = view.header_len + own_len;
    let payload = view.total_len.checked_sub(header_len)?;
    let size = header.gso_size;
    let fits = view.protocol == protocol
        && !view.is_fragment
        && header.flags & VnetHeader::NEEDS_CSUM != 0
        && usize::from(header.csum_start) == view.header_len
        && header.csum_offset == checksum_at
        && match is_tcp {
            // No host sends super-packets with these flags: one packet would stand for thousands on a wire.
            true => {
                own_len >= TCP_HEADER
                    && size >= MIN_TCP_SEGMENT
                    && get::<1>(transport, TCP_FLAGS)?[0] & (SYN | RST) == 0
            }
            false => {
                let udp_len = usize::from(u16::from_be_bytes(get(transport, UDP_LEN)?));
                udp_len == transport.len() && size > 0 && payload.div_ceil(usize::from(size)) <= MAX_DATAGRAMS
            }
        };
    if !fits {
        return None;
    }
    if payload <= usize::from(size) {
        return Some(Offload::Checksum { start: header.csum_start, offset: checksum_at });
    }
    let (ip_len, header_len) = (view.header_len as u16, header_len as u16);
    Some(Offload::Segments(Segments { is_tcp, ecn, size, ip_len, header_len }))
}

#[cfg(test)]
mod amplification;
#[cfg(test)]
mod tests;
