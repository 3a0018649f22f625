//! The Internet checksum (RFC 1071) of TCP (RFC 793), UDP (RFC 768) and the IPv4 header (RFC 791).

use std::ops::Add;

/// A ones'-complement sum of 16-bit words that is not folded yet. The sums of its parts can be added in any order.
///
/// It adds in the host's byte order, and in the fastest word size: RFC 1071, 2 (B) and (C), proves that the result is
/// the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

/// Independent lanes let the compiler vectorise the sum; a single one would be a chain of dependent additions.
const LANES: usize = 4;
const WORD: usize = size_of::<u32>();

impl Sum {
    /// Sums bytes that start at an even offset from where the checksum starts. An odd last byte counts as if a zero
    /// followed: no bytes may follow it.
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Sum {
        // 64-bit lanes of 32-bit words lose no carry below 16 GiB, far more than any packet.
        let mut lanes = [0_u64; LANES];
        let (blocks, rest) = bytes.as_chunks::<{ LANES * WORD }>();
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<WORD>().0) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, tail) = rest.as_chunks::<WORD>();
        let mut last = [0; WORD];
        last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        let rest = words.iter().chain([&last]).map(|word| u64::from(u32::from_ne_bytes(*word)));
        lanes.into_iter().chain(rest).map(Sum).fold(Sum::default(), Sum::add)
    }

    /// The sum of one 16-bit field.
    #[inline]
    pub(super) fn of_field(value: u16) -> Sum {
        Sum(u64::from(value.to_be()))
    }

    /// Sums the pseudo header that precedes TCP and UDP: addresses (8 bytes, as in the IPv4 header), protocol, and the
    /// length of the transport header with its payload.
    #[inline]
    pub(super) fn of_pseudo_header(addresses: &[u8; 8], protocol: u8, len: u16) -> Sum {
        Sum::of(addresses) + Sum::of_field(u16::from(protocol)) + Sum::of_field(len)
    }

    /// Returns the folded sum, not complemented: the contents of a field whose checksum is still to be completed.
    #[inline]
    pub(super) fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// Returns the checksum: the complement of the folded sum.
    #[inline]
    pub(super) fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Returns whether the sum over all protected bytes, including the checksum, is that of an intact packet.
    #[inline]
    pub(super) fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Returns the checksum after a part of what it covers has changed (RFC 1624, equation 3), so that a wrong one stays wrong.
pub(super) fn corrected(checksum: u16, from: Sum, to: Sum) -> u16 {
    (Sum::of_field(!checksum) + Sum::of_field(!from.fold()) + to).checksum()
}

impl Add for Sum {
    type Output = Sum;

    #[inline]
    fn add(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        // End-around carry: a carry out of bit 63 counts as 1, since 2^64 - 1 is a multiple of 0xffff.
        Sum(sum + u64::from(carry))
    }
}

/// Returns the checksum as UDP stores it (RFC 768): 0 would mean "no checksum", and 0xffff is its equal in ones'
/// complement.
#[inline]
pub(super) fn udp_checksum(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::test_packets::naive_sum;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn a_known_ipv4_header() {
        let mut header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(Sum::of(&header).checksum(), 0xb861);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert!(Sum::of(&header).is_intact());
        header[19] ^= 1;
        assert!(!Sum::of(&header).is_intact());
    }

    #[test]
    fn the_pseudo_header_is_twelve_bytes() {
        let bytes = [192, 0, 2, 1, 198, 51, 100, 7, 0, 17, 0x12, 0x34];
        let sum = Sum::of_pseudo_header(&[192, 0, 2, 1, 198, 51, 100, 7], 17, 0x1234);
        assert_eq!(sum.fold(), naive_sum(&bytes));
    }

    #[test]
    fn the_largest_sums_lose_no_carry() {
        for len in [0, 1, 2, 3, 63, 64, 65, 1400, 65534, 65535, 65536] {
            let ones = vec![0xff; len];
            assert_eq!(Sum::of(&ones).fold(), naive_sum(&ones), "{len}");
        }
        assert_eq!((Sum(u64::MAX) + Sum(u64::MAX)).fold(), 0xffff);
        assert_eq!((Sum(u64::MAX) + Sum::of_field(7)).fold(), 7, "0xffff is the other zero");
        assert_eq!(Sum::default().fold(), 0);
    }

    #[test]
    fn udp_has_no_zero() {
        assert_eq!([0, 1, 0xffff].map(udp_checksum), [0xffff, 1, 0xffff]);
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum_at_any_alignment(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            skip in 0_usize..70,
        ) {
            let bytes = bytes.get(skip..).unwrap_or_default();
            prop_assert_eq!(Sum::of(bytes).fold(), naive_sum(bytes));
        }

        #[test]
        fn parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300, field: u16) {
            let (front, back) = bytes.split_at((cut & !1).min(bytes.len() & !1));
            let whole = [&field.to_be_bytes(), bytes.as_slice()].concat();
            let sum = Sum::of(back) + Sum::of_field(field) + Sum::of(front);
            prop_assert_eq!(sum.fold(), naive_sum(&whole));
        }
    }
}
