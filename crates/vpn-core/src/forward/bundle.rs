//! The VPN packet to a peer that is being filled: the memory of a [`Bundler`](super::Bundler), and what fits into it.

use crate::wire::{HEADER_LEN, MAX_BUNDLE, RECORD_HEADER_LEN, VNET_LEN, VnetHeader, write_header};
use std::ops::DerefMut;

/// A bundle of this size is sent without waiting for more: its own cost per byte is then negligible, and the next
/// super-packet rarely has to be moved.
pub(super) const FULL_BUNDLE: usize = 16 * 1024;

/// A VPN packet that is filled with records in place. The caller reads the next packet directly to the place of its
/// record; the packet then joins the bundle, starts the next one, or is sent alone.
///
/// ```text
/// | VPN header | size, virtio_net_hdr, packet | ... | size | virtio_net_hdr, packet (the next one) |
/// 0            20                                   end    end + 2
/// ```
pub struct Bundle<B = Box<[u8]>> {
    buffer: B,
    end: usize,
    /// The bundle has one record, whose packet is complete.
    is_plain: bool,
}

impl Default for Bundle {
    /// Allocates 128 KiB: the largest bundle, and spare capacity for the largest packet behind it.
    fn default() -> Bundle {
        let size = HEADER_LEN + MAX_BUNDLE + RECORD_HEADER_LEN + usize::from(u16::MAX);
        Bundle::over(vec![0; size].into_boxed_slice())
    }
}

impl<B: DerefMut<Target = [u8]>> Bundle<B> {
    /// Creates an empty bundle in this memory, whose spare capacity may already hold the next packet.
    pub fn over(buffer: B) -> Bundle<B> {
        Bundle { buffer, end: HEADER_LEN, is_plain: false }
    }

    /// The spare capacity for the next packet with its [`VnetHeader`] in front.
    pub fn spare_capacity(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.end + 2..).unwrap_or_default()
    }

    /// Returns the next packet, which with its header fills `filled` bytes of the spare capacity. `None` if the header
    /// is incomplete.
    pub fn next(&self, filled: usize) -> Option<(VnetHeader, &[u8])> {
        let (header, packet) = self.buffer.get(self.end + 2..self.end + 2 + filled)?.split_first_chunk()?;
        Some((VnetHeader::parse(header), packet))
    }

    /// Whether the next packet fits into a bundle of at most `limit` bytes of data.
    pub fn fits(&self, filled: usize, limit: usize) -> bool {
        self.len() + 2 + filled <= limit.min(MAX_BUNDLE)
    }

    /// Appends the next packet as a record with this header. It must [fit](Bundle::fits).
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

    /// Empties the bundle, and moves the next packet to the place of the first record.
    pub fn restart(&mut self, filled: usize) {
        let next = self.end + 2..self.end + 2 + filled;
        if self.end > HEADER_LEN && next.end <= self.buffer.len() {
            self.buffer.copy_within(next, HEADER_LEN + 2);
        }
        self.end = HEADER_LEN;
    }

    /// The size of the data, which is all records, in bytes.
    pub fn len(&self) -> usize {
        self.end - HEADER_LEN
    }

    /// Whether the bundle has no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bundle as a VPN packet with this op. A single complete packet is sent as a plain packet, with
    /// `plain_op`.
    pub fn packet(&mut self, op: u32, plain_op: u32, usage_id: u32) -> &[u8] {
        let (begin, op) = if self.is_plain { (PLAIN_OFFSET, plain_op) } else { (0, op) };
        write_header(self.buffer.get_mut(begin..self.end).unwrap_or_default(), op, usage_id)
    }

    /// Returns the next packet with headroom for a VPN header in front. The bundle must be empty.
    pub fn plain(&mut self, filled: usize) -> &mut [u8] {
        debug_assert!(self.is_empty(), "the headroom would overlap the last record");
        self.buffer.get_mut(PLAIN_OFFSET..self.end + 2 + filled).unwrap_or_default()
    }
}

/// The offset of [`Bundle::plain`] in the buffer.
const PLAIN_OFFSET: usize = RECORD_HEADER_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BUNDLE_HEADROOM, Header, header_of, record};

    /// Places a packet into the spare capacity; returns the number of bytes that it fills.
    fn place(bundle: &mut Bundle, packet: &[u8]) -> usize {
        let header = header_of(packet);
        let filled = VNET_LEN + packet.len();
        bundle.spare_capacity()[..VNET_LEN].copy_from_slice(&header.to_bytes());
        bundle.spare_capacity()[VNET_LEN..filled].copy_from_slice(packet);
        filled
    }

    #[test]
    fn a_bundle_is_filled_sent_and_restarted() {
        let mut bundle = Bundle::default();
        for packet in [b"one".as_slice(), b"second"] {
            let filled = place(&mut bundle, packet);
            assert_eq!(bundle.next(filled).unwrap().1, packet);
            assert!(bundle.fits(filled, MAX_BUNDLE));
            bundle.keep(filled, &header_of(packet));
        }
        let expected = [record(b"one"), record(b"second")].concat();
        assert_eq!(bundle.len(), expected.len());
        // The next packet waits behind the bundle while the bundle is sent.
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
    fn a_single_complete_packet_is_sent_plain() {
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

    /// A packet that the caller has read, with headroom in front.
    #[test]
    fn a_packet_becomes_a_bundle_in_place() {
        let mut memory = [vec![0xee; BUNDLE_HEADROOM], b"there".to_vec()].concat();
        let mut bundle = Bundle::over(memory.as_mut_slice());
        let filled = VNET_LEN + 5;
        assert_eq!((bundle.spare_capacity().len(), bundle.next(filled).unwrap().1), (filled, b"there".as_slice()));
        assert!(bundle.fits(filled, MAX_BUNDLE));
        bundle.keep(filled, &header_of(b"there"));
        assert!(bundle.spare_capacity().is_empty());
        let header = Header { sock_id: 0, op: 0xbf, usage_id: 7, value: 5 + RECORD_HEADER_LEN as u32 };
        assert_eq!(bundle.packet(0xbf, 0xbd, 7), [header.to_bytes().as_slice(), &record(b"there")].concat());
    }

    #[test]
    fn the_largest_packet_fits_behind_the_largest_bundle() {
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
        assert!(!bundle.fits(filled, usize::MAX), "the packet is larger than any bundle");
    }
}
