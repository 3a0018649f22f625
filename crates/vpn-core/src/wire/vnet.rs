//! `struct virtio_net_hdr` (virtio 1.2, 5.1.6): the unfinished segmentation and checksum of a packet.

/// The header's length, in bytes: the form without `num_buffers`, which is the default of TUN devices.
pub const VNET_LEN: usize = 10;

/// The header of a packet on a TUN queue or in a bundle record, integers little-endian. The default is that of a
/// complete packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CSUM`] or 0; other bits are hints.
    pub flags: u8,
    /// One of the `GSO_` constants, TCP's perhaps with [`VnetHeader::GSO_ECN`].
    pub gso_type: u8,
    /// The length of all headers, in bytes; only a hint.
    pub hdr_len: u16,
    /// The payload of each segment but the last, in bytes.
    pub gso_size: u16,
    /// The start of the checksummed bytes, in bytes from the packet's start.
    pub csum_start: u16,
    /// The offset of the checksum field from `csum_start`, in bytes; it holds the sum of the pseudo header.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Flag: the checksum is incomplete.
    pub const NEEDS_CSUM: u8 = 1;
    /// One packet.
    pub const GSO_NONE: u8 = 0;
    /// TCP segments over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// UDP datagrams, each of one packet.
    pub const GSO_UDP_L4: u8 = 5;
    /// With TCP: only the first segment has the flag CWR (RFC 3168).
    pub const GSO_ECN: u8 = 0x80;

    /// Reads the header from its ten bytes.
    pub fn parse(bytes: &[u8; VNET_LEN]) -> VnetHeader {
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        VnetHeader {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: number(2),
            gso_size: number(4),
            csum_start: number(6),
            csum_offset: number(8),
        }
    }

    /// Writes the header as its ten bytes.
    pub fn to_bytes(&self) -> [u8; VNET_LEN] {
        let mut out = [0; VNET_LEN];
        out[0] = self.flags;
        out[1] = self.gso_type;
        for (at, number) in [(2, self.hdr_len), (4, self.gso_size), (6, self.csum_start), (8, self.csum_offset)] {
            out[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_matches_the_kernels() {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [1, 0x81, 2, 1, 4, 3, 6, 5, 8, 7]);
        assert_eq!(VnetHeader::parse(&bytes), header);
        assert_eq!(VnetHeader::default().to_bytes(), [0; VNET_LEN]);
    }
}
