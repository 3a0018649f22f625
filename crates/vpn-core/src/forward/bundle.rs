//! The VPN packet to a peer that is being filled: the memory of a [`Bundler`](super::Bundler), and what fits into it.

use crate::wire::{HEADER_LEN, MAX_BUNDLE, RECORD_HEADER_LEN, VNET_LEN, VnetHeader, write_header};
use std::ops::DerefMut;

/// A bundle that holds as many bytes does not wait for more: what it costs by itself is next to nothing then, and the next
/// super-packet hardly ever has to be moved.
pub(super) const FULL_BUNDLE: usize = 16 * 1024;

/// A VPN packet that is filled in place with records: the next packet is read straight to where its record would be,
/// and then becomes part of the bundle, begins the next one, or is sent as it is.
///
/// ```text
/// | VPN header | size, virtio_net_hdr, packet | ... | size | virtio_net_hdr, packet (the next one) |
/// 0            20                                   end    end + 2
/// ```
pub struct Bundle<B = Box<[u8]>> {
    buffer: B,
    end: usize,
    /// There is one record, and its header asks for nothing.
    is_plain: bool,
}

impl Default for Bundle {
    /// Allocates 128 KiB: the largest bundle, and behind it room for the largest packet.
    fn default() -> Bundle {
        let size = HEADER_LEN + MAX_BUNDLE + RECORD_HEADER_LEN + usize::from(u16::MAX);
        Bundle::over(vec![0; size].into_boxed_slice())
    }
}

impl<B: DerefMut<Target = [u8]>> Bundle<B> {
    /// An empty bundle in this memory, in which there may already be what fills the first room.
    pub fn over(buffer: B) -> Bundle<B> {
        Bundle { buffer, end: HEADER_LEN, is_plain: false }
    }

    /// Where the next packet goes, its [`VnetHeader`] in front.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.end + 2..).unwrap_or_default()
    }

    /// The next packet, once `filled` bytes of the room are: header and packet. None when that is no whole header.
    pub fn next(&self, filled: usize) -> Option<(VnetHeader, &[u8])> {
        let (header, packet) = self.buffer.get(self.end + 2..self.end + 2 + filled)?.split_first_chunk()?;
        Some((VnetHeader::parse(header), packet))
    }

    /// Whether the next packet fits into a bundle of at most `limit` bytes of data.
    pub fn fits(&self, filled: usize, limit: usize) -> bool {
        self.len() + 2 + filled <= limit.min(MAX_BUNDLE)
    }

    /// Makes the next packet a record with this header. It must [fit](Bundle::fits).
    pub fn keep(&mut self, filled: usize, header: &VnetHeader) {
        let size = filled.saturating_sub(VNET_LEN) as u16;
        self.is_plain = self.is_empty() && *header == VnetHeader::default();
        let front = self.buffer.get_mut(self.end..self.end + RECORD_HEADER_LEN);
        if let Some((size_field, header_field)) = front.and_then(|front| front.split_at_mut_checked(2)) {
            size_field.copy_from_slice(&size.to_le_bytes());
            header_field.copy_from_slice(&header.to_bytes());
            self.end += 2 + filled;
        }
    }

    /// Ends the bundle, and moves the next packet to where the first record of the next bundle is.
    pub fn restart(&mut self, filled: usize) {
        let next = self.end + 2..self.end + 2 + filled;
        if self.end > HEADER_LEN && next.end <= self.buffer.len() {
            self.buffer.copy_within(next, HEADER_LEN + 2);
        }
        self.end = HEADER_LEN;
    }

    /// Bytes of data: all records.
    pub fn len(&self) -> usize {
        self.end - HEADER_LEN
    }

    /// No record is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bundle as a VPN packet with this op; one packet alone that needs no record goes with `plain_op` as it always
    /// did.
    pub fn packet(&mut self, op: u32, plain_op: u32, usage_id: u32) -> &[u8] {
        let (begin, op) = if self.is_plain { (PLAIN_FRONT, plain_op) } else { (0, op) };
        write_header(self.buffer.get_mut(begin..self.end).unwrap_or_default(), op, usage_id)
    }

    /// The next packet with room for a VPN header in front, when no record is in the bundle.
    pub fn plain(&mut self, filled: usize) -> &mut [u8] {
        debug_assert!(self.is_empty(), "the room would be the last record's");
        self.buffer.get_mut(PLAIN_FRONT..self.end + 2 + filled).unwrap_or_default()
    }
}

/// Where [`Bundle::plain`] begins.
const PLAIN_FRONT: usize = RECORD_HEADER_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BUNDLE_HEADROOM, Header};

    fn header_of(packet: &[u8]) -> VnetHeader {
        VnetHeader { gso_size: packet.len() as u16, ..VnetHeader::default() }
    }

    fn record(packet: &[u8]) -> Vec<u8> {
        let header = header_of(packet);
        let size = (packet.len() as u16).to_le_bytes();
        [size.as_slice(), &header.to_bytes(), packet].concat()
    }

    /// Puts a packet where the next one goes; how much of the room it fills.
    fn place(bundle: &mut Bundle, packet: &[u8]) -> usize {
        let header = header_of(packet);
        let filled = VNET_LEN + packet.len();
        bundle.room()[..VNET_LEN].copy_from_slice(&header.to_bytes());
        bundle.room()[VNET_LEN..filled].copy_from_slice(packet);
        filled
    }

    #[test]
    fn a_bundle_is_filled_sent_and_begun_anew() {
        let mut bundle = Bundle::default();
        for packet in [b"one".as_slice(), b"second"] {
            let filled = place(&mut bundle, packet);
            assert_eq!(bundle.next(filled).unwrap().1, packet);
            assert!(bundle.fits(filled, MAX_BUNDLE));
            bundle.keep(filled, &header_of(packet));
        }
        let expected = [record(b"one"), record(b"second")].concat();
        assert_eq!(bundle.len(), expected.len());
        // The next packet waits behind while the bundle is sent.
        let filled = place(&mut bundle, b"third");
        let header = Header { sock_id: 0, op: 0xbf, usage_id: 7, value: expected.len() as u32 };
        assert_eq!(bundle.packet(0xbf, 0xbd, 7), [header.to_bytes().as_slice(), &expected].concat());
        bundle.restart(filled);
        assert!(bundle.is_empty());
        assert_eq!(bundle.next(filled).unwrap().1, b"third");
        assert_eq!(&bundle.plain(filled)[HEADER_LEN..], b"third");
        bundle.keep(filled, &header_of(b"third"));
        assert_eq!(bundle.packet(0xbf, 0xbd, 7)[HEADER_LEN..], record(b"third"));
    }

    #[test]
    fn one_packet_that_needs_no_record_goes_without() {
        let mut bundle = Bundle::default();
        let filled = place(&mut bundle, b"alone");
        bundle.keep(filled, &VnetHeader::default());
        let header = Header { sock_id: 0, op: 0xbd, usage_id: 7, value: 5 };
        assert_eq!(bundle.packet(0xbf, 0xbd, 7), [header.to_bytes().as_slice(), b"alone"].concat());
        bundle.restart(0);
        for _ in 0..2 {
            let filled = place(&mut bundle, b"beside");
            bundle.keep(filled, &VnetHeader::default());
        }
        assert_eq!(bundle.packet(0xbf, 0xbd, 7)[4], 0xbf);
    }

    /// A packet that somebody else has read, with room in front.
    #[test]
    fn a_packet_becomes_a_bundle_where_it_is() {
        let mut memory = [vec![0xee; BUNDLE_HEADROOM], b"there".to_vec()].concat();
        let mut bundle = Bundle::over(memory.as_mut_slice());
        let filled = VNET_LEN + 5;
        assert_eq!((bundle.room().len(), bundle.next(filled).unwrap().1), (filled, b"there".as_slice()));
        assert!(bundle.fits(filled, MAX_BUNDLE));
        bundle.keep(filled, &header_of(b"there"));
        assert!(bundle.room().is_empty());
        let header = Header { sock_id: 0, op: 0xbf, usage_id: 7, value: 5 + RECORD_HEADER_LEN as u32 };
        assert_eq!(bundle.packet(0xbf, 0xbd, 7), [header.to_bytes().as_slice(), &record(b"there")].concat());
    }

    #[test]
    fn the_largest_packet_has_room_behind_the_largest_bundle() {
        let mut bundle = Bundle::default();
        let largest = vec![7; usize::from(u16::MAX)];
        let most = vec![8; MAX_BUNDLE - RECORD_HEADER_LEN];
        let filled = place(&mut bundle, &most);
        assert!(bundle.fits(filled, MAX_BUNDLE) && !bundle.fits(filled, MAX_BUNDLE - 1));
        bundle.keep(filled, &VnetHeader::default());
        assert_eq!(bundle.len(), MAX_BUNDLE);
        let filled = place(&mut bundle, &largest);
        assert!(!bundle.fits(filled, usize::MAX));
        bundle.restart(filled);
        assert_eq!(bundle.next(filled).unwrap().1, largest);
        assert!(!bundle.fits(filled, usize::MAX), "a packet that no bundle holds");
    }
}
