//! Bundles (ops 0xbe, 0xbf): consecutive records, each {size 2, virtio_net_hdr 10, packet of `size` bytes}.

use super::WireError;
use super::packet::HEADER_LEN;
use super::vnet::{VNET_LEN, VnetHeader};

/// The length of a record's header, which precedes each packet, in bytes.
pub const RECORD_HEADER_LEN: usize = 2 + VNET_LEN;

/// The headroom in front of a bundle's first packet, in bytes: VPN header and record header.
pub const BUNDLE_HEADROOM: usize = HEADER_LEN + RECORD_HEADER_LEN;

/// The size of the largest bundle, in bytes of data behind the VPN packet header: the maximum of TLV 1.
pub const MAX_BUNDLE: usize = u16::MAX as usize;

/// One packet of a bundle, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The unfinished work on the packet.
    pub header: VnetHeader,
    /// Bytes that claim to be one IPv4 packet, or a super-packet.
    pub packet: &'a [u8],
}

/// Iterates over the records of a bundle. It ends after an error, [`WireError::BadRecord`], because the start of the
/// next record is then unknown.
///
/// ```
/// use vpn_core::wire::{RECORD_HEADER_LEN, WireError, records};
///
/// // Two records of 3 bytes, whose packets are complete, and a truncated one.
/// let record = [&[3, 0], [0; RECORD_HEADER_LEN - 2].as_slice(), b"abc"].concat();
/// let bundle = [record.as_slice(), &record, &record[..8]].concat();
///
/// let packets: Vec<_> = records(&bundle).map(|record| record.map(|record| record.packet)).collect();
/// assert_eq!(packets, [Ok(b"abc".as_slice()), Ok(b"abc"), Err(WireError::BadRecord)]);
/// ```
pub fn records(data: &[u8]) -> impl Iterator<Item = Result<Record<'_>, WireError>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take(rest);
        rest = taken.map_or(&[], |(_, behind)| behind);
        Some(taken.map(|(record, _)| record).ok_or(WireError::BadRecord))
    })
}

fn take(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (size, rest) = data.split_first_chunk::<2>()?;
    let (header, rest) = rest.split_first_chunk::<VNET_LEN>()?;
    let (packet, behind) = rest.split_at_checked(usize::from(u16::from_le_bytes(*size)))?;
    Some((Record { header: VnetHeader::parse(header), packet }, behind))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn header_of(packet: &[u8]) -> VnetHeader {
        VnetHeader { gso_size: packet.len() as u16, ..VnetHeader::default() }
    }

    pub(crate) fn record(packet: &[u8]) -> Vec<u8> {
        let header = header_of(packet);
        let size = (packet.len() as u16).to_le_bytes();
        [size.as_slice(), &header.to_bytes(), packet].concat()
    }

    #[test]
    fn records_come_in_their_order() {
        let packets: [&[u8]; 4] = [b"one", b"", &[7; 65_535], b"four"];
        let data: Vec<u8> = packets.iter().flat_map(|packet| record(packet)).collect();
        let read: Vec<_> = records(&data).map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|record| record.packet).collect::<Vec<_>>(), packets);
        assert_eq!(read.iter().map(|record| record.header.gso_size).collect::<Vec<_>>(), [3, 0, 65_535, 4]);
        assert_eq!(records(&[]).count(), 0);
    }

    #[test]
    fn a_cut_off_record_ends_the_bundle() {
        let data = [record(b"first"), record(b"second")].concat();
        let second = RECORD_HEADER_LEN + 5;
        for end in second + 1..data.len() {
            let read: Vec<_> = records(&data[..end]).collect();
            assert_eq!(read.len(), 2, "{end}");
            assert_eq!(read[0].as_ref().unwrap().packet, b"first");
            assert_eq!(read[1], Err(WireError::BadRecord), "{end}");
        }
    }
}
