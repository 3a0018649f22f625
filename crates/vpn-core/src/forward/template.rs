//! The headers of a super-packet, from which those of its parts are made: of each segment, or of a smaller super-packet.

use super::checksum::{Sum, udp_checksum};
use super::fields::*;
use super::offload::{Segments, TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM};

/// The longest headers, in bytes: IPv4's and TCP's, both with all their options.
pub(super) const MAX_HEADERS: usize = 60 + 60;

/// A copy of a super-packet's headers: when the second segment is built, the first one has been emitted and may be
/// overwritten. Checksums, and the fields of the IPv4 header that differ between segments, are zero in it.
///
/// As in Linux' own segmentation, the IPv4 id counts up, FIN and PSH are set on the last part only, CWR on the first
/// only. URG stays set while urgent data is still to come.
pub(super) struct Template {
    headers: [u8; MAX_HEADERS],
    pub(super) header_len: usize,
    ip_len: usize,
    /// The payload of each segment but the last, in bytes; at least 1.
    pub(super) size: usize,
    first_id: u16,
    ip_sum: Sum,
    addresses: [u8; 8],
    /// `None`: UDP.
    tcp: Option<Tcp>,
}

struct Tcp {
    sequence: u32,
    flags: u8,
    urgent: u16,
}

/// Which part of the super-packet's payload a part has.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The bytes of payload before it: whole segments.
    pub(super) offset: usize,
    /// Its own bytes of payload.
    pub(super) len: usize,
    /// Whether it is the last part.
    pub(super) is_last: bool,
}

impl Template {
    pub(super) fn of(packet: &[u8], segments: &Segments) -> Option<Template> {
        let (ip_len, header_len) = (usize::from(segments.ip_len), usize::from(segments.header_len));
        let mut headers = [0; MAX_HEADERS];
        let filled = headers.get_mut(..header_len)?;
        filled.copy_from_slice(packet.get(..header_len)?);
        let (ip, transport) = filled.split_at_mut_checked(ip_len)?;
        let first_id = u16::from_be_bytes(get(ip, IP_ID)?);
        for field in [IP_LEN, IP_ID, IP_CHECKSUM] {
            put(ip, field, [0; 2])?;
        }
        let (ip_sum, addresses) = (Sum::of(ip), get(ip, IP_ADDRESSES)?);
        let tcp = match segments.is_tcp {
            true => {
                put(transport, TCP_CHECKSUM.into(), [0; 2])?;
                let [flags] = get(transport, TCP_FLAGS)?;
                let (sequence, urgent) = (get(transport, TCP_SEQUENCE)?, get(transport, TCP_URGENT)?);
                Some(Tcp { sequence: u32::from_be_bytes(sequence), flags, urgent: u16::from_be_bytes(urgent) })
            }
            false => {
                put(transport, UDP_CHECKSUM.into(), [0; 2])?;
                None
            }
        };
        let size = usize::from(segments.size);
        (size > 0).then_some(Template { headers, header_len, ip_len, size, first_id, ip_sum, addresses, tcp })
    }

    /// Writes a part's headers in front of its payload, which `packet` holds already, with final checksums.
    pub(super) fn write(&self, packet: &mut [u8], part: Part) -> Option<()> {
        self.write_headers(packet.get_mut(..self.header_len)?, part)?;
        let transport = packet.get_mut(self.ip_len..)?;
        let checksum = (self.pseudo_header(transport.len()) + Sum::of(transport)).checksum();
        match self.tcp {
            Some(_) => put(transport, TCP_CHECKSUM.into(), checksum.to_be_bytes()),
            None => put(transport, UDP_CHECKSUM.into(), udp_checksum(checksum).to_be_bytes()),
        }
    }

    /// Writes a part's headers, with the pseudo header's sum in place of TCP's or UDP's checksum. `to` has their length.
    pub(super) fn write_unfinished(&self, to: &mut [u8], part: Part) -> Option<()> {
        self.write_headers(to, part)?;
        let at = self.ip_len + usize::from(if self.tcp.is_some() { TCP_CHECKSUM } else { UDP_CHECKSUM });
        let transport_len = self.header_len - self.ip_len + part.len;
        put(to, at, self.pseudo_header(transport_len).fold().to_be_bytes())
    }

    /// All fields but TCP's and UDP's checksum.
    #[inline]
    fn write_headers(&self, to: &mut [u8], part: Part) -> Option<()> {
        to.copy_from_slice(self.headers.get(..self.header_len)?);
        let (ip, transport) = to.split_at_mut_checked(self.ip_len)?;
        let total_len = (self.header_len + part.len) as u16;
        // Processors divide 32 bits much faster than 64.
        let id = self.first_id.wrapping_add((part.offset as u32 / self.size as u32) as u16);
        let ip_checksum = (self.ip_sum + Sum::of_field(total_len) + Sum::of_field(id)).checksum();
        for (at, value) in [(IP_LEN, total_len), (IP_ID, id), (IP_CHECKSUM, ip_checksum)] {
            put(ip, at, value.to_be_bytes())?;
        }
        match &self.tcp {
            Some(tcp) => tcp.write(transport, part.offset, part.is_last),
            None => put(transport, UDP_LEN, ((transport.len() + part.len) as u16).to_be_bytes()),
        }
    }

    fn pseudo_header(&self, transport_len: usize) -> Sum {
        let protocol = if self.tcp.is_some() { TCP } else { UDP };
        Sum::of_pseudo_header(&self.addresses, protocol, transport_len as u16)
    }
}

impl Tcp {
    fn write(&self, transport: &mut [u8], offset: usize, is_last: bool) -> Option<()> {
        let (mut flags, mut urgent) = (self.flags, self.urgent);
        if !is_last {
            flags &= !(FIN | PSH);
        }
        if offset > 0 {
            flags &= !CWR;
            if flags & URG != 0 {
                // The pointer points behind the last urgent byte (RFC 6093), so at 0 all urgent bytes were in earlier
                // segments; hosts that count differently would take a wrong byte for urgent.
                urgent = usize::from(urgent).saturating_sub(offset) as u16;
                flags &= if urgent == 0 { !URG } else { !0 };
            }
        }
        put(transport, TCP_SEQUENCE, self.sequence.wrapping_add(offset as u32).to_be_bytes())?;
        put(transport, TCP_FLAGS, [flags])?;
        put(transport, TCP_URGENT, urgent.to_be_bytes())
    }
}
