//! Does the work that a kernel with segmentation offload leaves to the hardware, for a peer that does not accept
//! super-packets: completes checksums, and cuts super-packets into segments.

use super::checksum::{Sum, udp_checksum};
use super::fields::{IP_PROTOCOL, put};
use super::offload::{Offload, TCP};
use super::template::{Part, Template};

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
                into_segments(&template, buffer, headroom, emit);
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

fn into_segments(template: &Template, buffer: &mut [u8], headroom: usize, mut emit: impl FnMut(&mut [u8])) {
    let (header_len, size) = (template.header_len, template.size);
    let Some(payload_len) = buffer.len().checked_sub(headroom + header_len) else { return };
    for offset in (0..payload_len).step_by(size) {
        let len = size.min(payload_len - offset);
        let is_last = offset + len == payload_len;
        // The payload starts `headroom + header_len` behind `offset`. That is exactly the space that the segment
        // needs, even if segments are short, and it belongs to segments that have been emitted.
        let Some(segment) = buffer.get_mut(offset..offset + headroom + header_len + len) else { return };
        let packet = segment.get_mut(headroom..).unwrap_or_default();
        if template.write(packet, Part { offset, len, is_last }).is_none() {
            return;
        }
        emit(segment);
    }
}

#[cfg(test)]
mod tests;
