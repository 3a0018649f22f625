//! The IPv4 header of an inner packet (RFC 791), as far as forwarding needs it.

use std::net::Ipv4Addr;

/// The fields of an IPv4 header that forwarding needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4View {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// The length of the header with its options, in bytes: 20 to 60.
    pub header_len: usize,
    /// The length of the whole packet, in bytes; always that of the inspected bytes.
    pub total_len: usize,
    /// Protocol number (IANA): 1 ICMP, 6 TCP, 17 UDP.
    pub protocol: u8,
    /// Whether this is a fragment: more follow, or it is not the first.
    pub is_fragment: bool,
}

/// Why bytes are not one whole IPv4 packet.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// There are no bytes.
    #[error("empty packet")]
    Empty,
    /// The version nibble is not 4.
    #[error("IP version {0}, not 4")]
    NotIpv4(u8),
    /// The header is shorter than 20 bytes, or longer than the packet.
    #[error("bad IPv4 header length: {header_len} bytes in a packet of {len}")]
    BadHeaderLen {
        /// The header's value, in bytes.
        header_len: usize,
        /// Bytes present.
        len: usize,
    },
    /// The total length field differs from the number of bytes present: the packet is truncated or has a trailer.
    #[error("the total length field says {total_len} bytes, {len} are present")]
    LengthMismatch {
        /// The header's value, in bytes.
        total_len: usize,
        /// Bytes present.
        len: usize,
    },
    /// The options are malformed, or prescribe a route for the packet.
    #[error("IPv4 options that are malformed or prescribe a route")]
    BadOptions,
}

/// The kinds of IPv4 options that matter here (IANA). All but the first two have a length in their second byte.
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Checks the header of a packet that should be exactly one whole IPv4 packet.
///
/// Refuses source routes (RFC 7126, 4.3 and 4.4): a host on the way sends such a packet to another destination than the
/// one that was checked. Does not verify the header checksum: the kernel that receives the packet does.
///
/// ```
/// use vpn_core::wire::{PacketError, inspect};
///
/// // The header alone: UDP from 10.98.0.2 to 192.0.2.1.
/// let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 98, 0, 2, 192, 0, 2, 1];
/// let view = inspect(&packet)?;
/// assert_eq!((view.source, view.protocol), ([10, 98, 0, 2].into(), 17));
///
/// assert_eq!(inspect(&packet[..19]), Err(PacketError::BadHeaderLen { header_len: 20, len: 19 }));
/// assert_eq!(inspect(&[0x60; 40]), Err(PacketError::NotIpv4(6)));
/// # Ok::<(), PacketError>(())
/// ```
pub fn inspect(packet: &[u8]) -> Result<Ipv4View, PacketError> {
    let len = packet.len();
    let first = *packet.first().ok_or(PacketError::Empty)?;
    if first >> 4 != 4 {
        return Err(PacketError::NotIpv4(first >> 4));
    }
    let header_len = usize::from(first & 0x0f) * 4;
    let header = match packet.first_chunk::<20>() {
        Some(header) if (20..=len).contains(&header_len) => header,
        _ => return Err(PacketError::BadHeaderLen { header_len, len }),
    };
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len != len {
        return Err(PacketError::LengthMismatch { total_len, len });
    }
    if header_len > header.len() && !are_options_fine(packet.get(header.len()..header_len).unwrap_or_default()) {
        return Err(PacketError::BadOptions);
    }
    Ok(Ipv4View {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
        header_len,
        total_len,
        protocol: header[9],
        is_fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
    })
}

/// Whether each option is whole, and none is a source route. What follows the end of the list is padding, which no host
/// reads.
#[cold]
fn are_options_fine(mut options: &[u8]) -> bool {
    while let [kind, behind @ ..] = options {
        let len = match (*kind, behind) {
            (END_OF_OPTIONS, _) => return true,
            (NO_OPERATION, _) => 1,
            (LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, _) | (_, [] | [0 | 1, ..]) => return false,
            (_, [len, ..]) => usize::from(*len),
        };
        match options.get(len..) {
            Some(rest) => options = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(header_len: usize, total_len: usize) -> Vec<u8> {
        let mut packet = vec![0; total_len];
        packet[0] = 0x40 | (header_len / 4) as u8;
        packet[2..4].copy_from_slice(&(total_len as u16).to_be_bytes());
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[10, 0, 0, 2, 192, 0, 2, 1]);
        packet
    }

    #[test]
    fn reads_the_fields() {
        for (header_len, total_len) in [(20, 20), (20, 1400), (24, 24), (60, 65535)] {
            let view = Ipv4View {
                source: Ipv4Addr::new(10, 0, 0, 2),
                destination: Ipv4Addr::new(192, 0, 2, 1),
                header_len,
                total_len,
                protocol: 17,
                is_fragment: false,
            };
            assert_eq!(inspect(&packet(header_len, total_len)), Ok(view));
        }
    }

    #[test]
    fn knows_a_fragment() {
        let mut bytes = packet(20, 40);
        // "Don't fragment" does not make a fragment; "more fragments" and an offset do.
        for (flags, is_fragment) in [(0x0000, false), (0x4000, false), (0x2000, true), (0x0001, true), (0x1fff, true)] {
            bytes[6..8].copy_from_slice(&u16::to_be_bytes(flags));
            assert_eq!(inspect(&bytes).map(|view| view.is_fragment), Ok(is_fragment), "{flags:#x}");
        }
    }

    #[test]
    fn refuses_other_versions() {
        assert_eq!(inspect(&[]), Err(PacketError::Empty));
        let mut bytes = packet(20, 40);
        for version in (0..16).filter(|version| *version != 4) {
            bytes[0] = version << 4 | 5;
            assert_eq!(inspect(&bytes), Err(PacketError::NotIpv4(version)));
        }
    }

    #[test]
    fn refuses_a_header_that_does_not_fit() {
        let mut bytes = packet(20, 40);
        for ihl in (0..5).chain(11..16) {
            bytes[0] = 0x40 | ihl;
            let header_len = usize::from(ihl) * 4;
            assert_eq!(inspect(&bytes), Err(PacketError::BadHeaderLen { header_len, len: 40 }));
        }
        for len in 1..20 {
            assert_eq!(inspect(&packet(20, 20)[..len]), Err(PacketError::BadHeaderLen { header_len: 20, len }));
        }
    }

    /// Returns the result for a header with these options, and zeros up to a whole word.
    fn with_options(options: &[u8]) -> Result<(), PacketError> {
        let mut bytes = packet(20 + options.len().next_multiple_of(4), 80);
        bytes[20..20 + options.len()].copy_from_slice(options);
        inspect(&bytes).map(|_| ())
    }

    #[test]
    fn refuses_source_routes_wherever_they_are() {
        for kind in [131, 137] {
            let route = [kind, 7, 4, 10, 98, 0, 3];
            for front in [&[][..], &[1], &[1, 1, 1], &[7, 3, 4], &[148, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0, 68, 4, 5, 0]] {
                let options = [front, &route].concat();
                assert_eq!(with_options(&options), Err(PacketError::BadOptions), "{options:?}");
                // A list that is exhausted, and one that is too short to hold the option.
                assert_eq!(with_options(&[front, &route[..1]].concat()), Err(PacketError::BadOptions), "{front:?}");
            }
            // Behind the end of the list it is no option, and inside another it is data.
            assert_eq!(with_options(&[&[1, 0], route.as_slice()].concat()), Ok(()));
            assert_eq!(with_options(&[&[222, 9], route.as_slice()].concat()), Ok(()));
        }
    }

    #[test]
    fn refuses_options_that_are_not_whole() {
        for options in [&[7, 0][..], &[7, 1], &[7, 5, 4], &[1, 1, 1, 7], &[7, 3, 4, 68], &[0x82, 41], &[2, 255, 0, 0]] {
            let mut whole = options.to_vec();
            // Nothing that ends the list follows.
            whole.resize(options.len().next_multiple_of(4), options[options.len() - 1]);
            assert_eq!(with_options(&whole), Err(PacketError::BadOptions), "{options:?}");
        }
        let record_route = [&[7, 39, 4][..], &[0; 36], &[0]].concat();
        for fine in [&[1, 1, 1, 0][..], &[0, 9, 9, 9], &[148, 4, 0, 0], &[68, 8, 5, 0, 0, 0, 0, 0], &record_route] {
            assert_eq!(with_options(fine), Ok(()), "{fine:?}");
        }
    }

    #[test]
    fn refuses_a_cut_off_packet_and_a_trailer() {
        let mut bytes = packet(20, 40);
        assert_eq!(inspect(&bytes[..39]), Err(PacketError::LengthMismatch { total_len: 40, len: 39 }));
        bytes.push(0);
        assert_eq!(inspect(&bytes), Err(PacketError::LengthMismatch { total_len: 40, len: 41 }));
        // The length exceeds the field: a total length of 0, as in the kernel's big TCP, is not accepted.
        let mut big = packet(20, 40);
        big.resize(65536, 0);
        big[2..4].fill(0);
        assert_eq!(inspect(&big), Err(PacketError::LengthMismatch { total_len: 0, len: 65536 }));
    }
}
