//! `struct virtio_net_hdr` (virtio 1.2, 5.1.6): what of a packet's segmentation and checksum is still to be done.

/// Its length, bytes: the form without `num_buffers`, which a TUN device uses by default.
pub const VNET_LEN: usize = 10;

/// The header of a packet as a TUN queue or a bundle record carries it, integers little-endian. The default asks for
/// nothing: the packet is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CSUM`] or 0; other bits are hints.
    pub flags: u8,
    /// One of the `GSO_` constants, TCP's perhaps with [`VnetHeader::GSO_ECN`].
    pub gso_type: u8,
    /// Length of all headers, bytes; a hint that nobody should rely on.
    pub hdr_len: u16,
    /// Payload of each segment but the last, bytes.
    pub gso_size: u16,
    /// Where the checksum begins to count, bytes from the packet's begin.
    pub csum_start: u16,
    /// Where it is stored, bytes from `csum_start`; the sum of the pseudo header is there already.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Flag: the checksum is not complete.
    pub const NEEDS_CSUM: u8 = 1;
    /// One packet.
    pub const GSO_NONE: u8 = 0;
    /// TCP segments over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// UDP datagrams, each of one packet.
    pub const GSO_UDP_L4: u8 = 5;
    /// With TCP: the first segment alone has the flag CWR (RFC 3168).
    pub const GSO_ECN: u8 = 0x80;

    /// The header in its ten bytes.
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

    /// The ten bytes.
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
    fn layout_is_the_kernel_s() {
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
