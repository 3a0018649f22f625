//! Cuts a super-packet into smaller ones, as large as a path of a given speed should get at once.

use super::offload::{Offload, Segments, TCP_CHECKSUM, UDP_CHECKSUM};
use super::template::{MAX_HEADERS, Part, Template};

/// One of the packets into which [`cut`] cuts a super-packet. The packet is the headers with the payload behind them.
#[derive(Debug)]
pub struct Piece<'a> {
    /// What is left to do on it.
    pub offload: Offload,
    /// The headers; a checksum is still the sum of the pseudo header.
    pub headers: &'a [u8],
    /// The payload, within the super-packet.
    pub payload: &'a [u8],
}

/// Cuts a packet that [`Offload::check`] described into super-packets of at most `unit` bytes each, and passes them to
/// `emit` in their order. A piece is at least one segment, and one segment alone has [`Offload::Checksum`].
///
/// Segments stay as they are: the pieces, [split](super::split), are what the whole super-packet is, split. Returns
/// false, and emits nothing, for a packet that needs no cut: it is no super-packet, or not larger than a unit.
pub fn cut(packet: &[u8], offload: &Offload, unit: usize, mut emit: impl FnMut(&Piece<'_>)) -> bool {
    let Offload::Segments(segments) = offload else { return false };
    if packet.len() <= unit {
        return false;
    }
    let Some(template) = Template::of(packet, segments) else { return false };
    let Some(payload) = packet.get(template.header_len..) else { return false };
    let step = (unit.saturating_sub(template.header_len) / template.size).max(1) * template.size;
    let mut headers = [0; MAX_HEADERS];
    let Some(headers) = headers.get_mut(..template.header_len) else { return false };
    for (number, piece) in payload.chunks(step).enumerate() {
        let offset = number * step;
        let part = Part { offset, len: piece.len(), is_last: offset + piece.len() == payload.len() };
        if template.write_unfinished(headers, part).is_none() {
            return offset > 0;
        }
        emit(&Piece { offload: left(segments, offset, piece.len()), headers, payload: piece });
    }
    true
}

/// Removes the first `count` segments of a super-packet in its own place. Returns the length of the rest, which is at
/// the front of `packet`, and what is left to do on it; `None` if that many segments are all of them, or more.
pub fn behead(packet: &mut [u8], segments: &Segments, count: usize) -> Option<(usize, Offload)> {
    let template = Template::of(packet, segments)?;
    let offset = template.size.checked_mul(count)?;
    let from = template.header_len.checked_add(offset)?;
    let len = packet.len().checked_sub(from).filter(|len| *len > 0)?;
    packet.copy_within(from.., template.header_len);
    let headers = packet.get_mut(..template.header_len)?;
    template.write_unfinished(headers, Part { offset, len, is_last: true })?;
    Some((template.header_len + len, left(segments, offset, len)))
}

/// What is to be done on a part of a super-packet. CWR is on the first segment of all, if at all.
fn left(segments: &Segments, offset: usize, len: usize) -> Offload {
    if len <= usize::from(segments.size) {
        let offset = if segments.is_tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        return Offload::Checksum { start: segments.ip_len, offset };
    }
    Offload::Segments(Segments { ecn: segments.ecn && offset == 0, ..*segments })
}

#[cfg(test)]
mod tests;
