//! Does the work that a kernel with segmentation offload leaves to the hardware, for a peer that does not accept
//! super-packets: completes checksums, and cuts super-packets into segments.

use super::checksum::{Sum, udp_checksum};
use super::fields::*;
use super::offload::{Offload, Segments, TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM};

/// The longest headers, in bytes: IPv4's and TCP's, both with all their options.
const MAX_HEADERS: usize = 60 + 60;

/// Finishes the work that `offload` describes, and passes each resulting packet to `emit`.
///
/// `buffer` is `headroom` spare bytes, then the packet that [`Offload::check`] described. `emit` receives `headroom`
/// bytes that it may write to, then one whole IPv4 packet with final checksums, in the order of the segments. No
/// payload is copied: the headers of a segment are written in front of its payload, over the previous segment, so the
/// buffer no longer holds a packet when this returns.
///
/// As in Linux' own segmentation, the IPv4 id counts up, FIN and PSH are set on the last segment only, CWR on the first
/// only. URG stays set while urgent data is still to come. For a description of another packet, `split` emits nothing
/// or invalid packets, and does not panic.
pub fn split(buffer: &mut [u8], headroom: usize, offload: &Offload, mut emit: impl FnMut(&mut [u8])) {
    match *offload {
        Offload::None => emit(buffer),
        Offload::Checksum { start, offset } | Offload::InnerChecksum { start, offset } => {
            let packet = buffer.get_mut(headroom..).unwrap_or_default();
            if complete(packet, start.into(), offset.into()).is_some() {
                emit(buffer);
            }
        }
        Offload::Segments(segments) => {
            if let Some(template) = Template::of(buffer.get(headroom..).unwrap_or_default(), &segments) {
                template.cut(buffer, headroom, emit);
            }
        }
    }
}

/// The field already holds the sum of the pseudo header, so only the bytes from `start` on are left to sum up.
///
/// An encapsulated packet may be of UDP, where 0 means that there is no checksum. To all other protocols 0xffff is the
/// same as 0.
fn complete(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let checksum = Sum::of(packet.get(start..)?).checksum();
    let is_tcp = *packet.get(IP_PROTOCOL)? == TCP;
    let checksum = if is_tcp { checksum } else { udp_checksum(checksum) };
    put(packet, start + offset, checksum.to_be_bytes())
}

/// A copy of a super-packet's headers: when the second segment is built, the first one has been emitted and may be
/// overwritten. Checksums, and the fields of the IPv4 header that differ between segments, are zero in it.
struct Template {
    headers: [u8; MAX_HEADERS],
    header_len: usize,
    ip_len: usize,
    size: usize,
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

impl Template {
    fn of(packet: &[u8], segments: &Segments) -> Option<Template> {
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

    fn cut(&self, buffer: &mut [u8], headroom: usize, mut emit: impl FnMut(&mut [u8])) {
        let Some(payload_len) = buffer.len().checked_sub(headroom + self.header_len) else { return };
        let mut id = self.first_id;
        for offset in (0..payload_len).step_by(self.size) {
            let len = self.size.min(payload_len - offset);
            let is_last = offset + len == payload_len;
            // The payload starts `headroom + header_len` behind `offset`. That is exactly the space that the segment
            // needs, even if segments are short, and it belongs to segments that have been emitted.
            let Some(segment) = buffer.get_mut(offset..offset + headroom + self.header_len + len) else { return };
            let packet = segment.get_mut(headroom..).unwrap_or_default();
            if self.write_headers(packet, offset, id, is_last).is_none() {
                return;
            }
            emit(segment);
            id = id.wrapping_add(1);
        }
    }

    fn write_headers(&self, packet: &mut [u8], offset: usize, id: u16, is_last: bool) -> Option<()> {
        packet.get_mut(..self.header_len)?.copy_from_slice(self.headers.get(..self.header_len)?);
        let total_len = packet.len() as u16;
        let (ip, transport) = packet.split_at_mut_checked(self.ip_len)?;
        let ip_checksum = (self.ip_sum + Sum::of_field(total_len) + Sum::of_field(id)).checksum();
        for (at, value) in [(IP_LEN, total_len), (IP_ID, id), (IP_CHECKSUM, ip_checksum)] {
            put(ip, at, value.to_be_bytes())?;
        }
        let len = transport.len() as u16;
        match &self.tcp {
            Some(tcp) => {
                tcp.write(transport, offset, is_last)?;
                let sum = Sum::of_pseudo_header(&self.addresses, TCP, len) + Sum::of(transport);
                put(transport, TCP_CHECKSUM.into(), sum.checksum().to_be_bytes())
            }
            None => {
                put(transport, UDP_LEN, len.to_be_bytes())?;
                let sum = Sum::of_pseudo_header(&self.addresses, UDP, len) + Sum::of(transport);
                put(transport, UDP_CHECKSUM.into(), udp_checksum(sum.checksum()).to_be_bytes())
            }
        }
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

#[cfg(test)]
mod tests;
