//! Explicit congestion notification (RFC 3168): the mark that takes the place of a drop.

use super::checksum::{Sum, corrected};
use super::fields::{IP_CHECKSUM, get, put};

/// "Congestion experienced", both bits of the field ECN; with both of them 0 the flow does not understand marks.
const CE: u8 = 0x03;

/// Marks a packet, or all segments of a super-packet, with CE, and corrects the checksum of its IPv4 header. Returns
/// false, and changes nothing, if its sender has not said that it understands that.
pub fn mark_congestion(packet: &mut [u8]) -> bool {
    let (Some(old), Some(checksum)) = (get(packet, 0), get(packet, IP_CHECKSUM)) else { return false };
    let [version, tos]: [u8; 2] = old;
    if tos & CE == 0 {
        return false;
    }
    let new = [version, tos | CE];
    let checksum = corrected(u16::from_be_bytes(checksum), Sum::of(&old), Sum::of(&new));
    put(packet, 0, new).is_some() && put(packet, IP_CHECKSUM, checksum.to_be_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::test_packets::{Packet, naive_sum};
    use proptest::prelude::*;

    #[test]
    fn only_a_flow_that_understands_marks_is_marked() {
        for (tos, marked) in [(0x00, None), (0xb8, None), (0x01, Some(0x03)), (0xba, Some(0xbb)), (0x03, Some(0x03))] {
            let whole = Packet { tos, ..Packet::tcp(1, b"payload") }.bytes();
            let mut packet = whole.clone();
            assert_eq!(mark_congestion(&mut packet), marked.is_some(), "{tos:#x}");
            let expected = Packet { tos: marked.unwrap_or(tos), ..Packet::tcp(1, b"payload") }.bytes();
            assert_eq!(packet, expected, "{tos:#x}");
        }
        assert!(!mark_congestion(&mut []) && !mark_congestion(&mut [0x45, 1, 0, 0]));
    }

    proptest! {
        #[test]
        fn the_header_stays_sound(id: u16, ttl: u8, tos: u8, words in 0..=10_usize, options: [u8; 40]) {
            let ip_options = options[..words * 4].to_vec();
            let mut packet = Packet { tos, id, ttl, ip_options, ..Packet::udp(b"1") };
            let mut bytes = packet.bytes();
            prop_assert_eq!(mark_congestion(&mut bytes), tos & 3 != 0);
            prop_assert_eq!(naive_sum(&bytes[..packet.ip_len()]), 0xffff);
            packet.tos |= if tos & 3 == 0 { 0 } else { 3 };
            prop_assert_eq!(bytes, packet.bytes());
        }
    }
}
