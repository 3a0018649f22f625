//! Lowers the MSS of TCP connections (RFC 9293, 3.7.1) to what fits into the tunnel: a session's inner MTU, which is
//! smaller than the server's device's, or the client's device. Hosts on both sides then send segments that fit, even if no
//! ICMP reaches them.

use super::checksum::{Sum, corrected};
use super::fields::{RST, SYN, TCP_DATA_OFFSET, TCP_FLAGS, get, put};
use super::offload::{IP_HEADER, Offload, TCP, TCP_CHECKSUM, TCP_HEADER};
use crate::wire::Ipv4View;

/// The options of TCP, of which all but the first two have a length in their second byte.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const MSS_LEN: usize = 4;

/// Returns whether a packet opens a TCP connection, so that [`clamp_mss`] may change it.
#[inline]
fn opens_connection(packet: &[u8], view: &Ipv4View) -> bool {
    let flags = || packet.get(view.header_len + TCP_FLAGS).copied().unwrap_or(0);
    view.protocol == TCP && flags() & (SYN | RST) == SYN && !view.is_fragment
}

/// Lowers the MSS that a SYN or SYN-ACK announces to what fits into `mtu` bytes. Corrects the checksum by the
/// difference (RFC 1624), so that a wrong one stays wrong.
///
/// `view` and `offload` are the result of [`Offload::check`] for the packet. A missing option stays missing: it means
/// 536 bytes, and no MTU here is smaller than the 576 of such a packet. Options behind a malformed one are left alone,
/// as receivers ignore them.
///
/// ```
/// use vpn_core::forward::{Offload, clamp_mss};
/// use vpn_core::wire::VnetHeader;
///
/// # fn main() -> Result<(), vpn_core::forward::DropCause> {
/// // A SYN from 10.98.0.2 to 192.0.2.1 with an MSS of 1460.
/// let mut syn = [0; 44];
/// syn[..20].copy_from_slice(&[0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 98, 0, 2, 192, 0, 2, 1]);
/// syn[32..34].copy_from_slice(&[0x60, 0x02]);
/// syn[40..].copy_from_slice(&[2, 4, 0x05, 0xb4]);
///
/// let (view, offload) = Offload::check(&VnetHeader::default(), &syn)?;
/// clamp_mss(&mut syn, &view, &offload, 1390);
/// assert_eq!(syn[40..], [2, 4, 0x05, 0x46]);
/// # Ok(())
/// # }
/// ```
#[inline]
pub fn clamp_mss(packet: &mut [u8], view: &Ipv4View, offload: &Offload, mtu: u16) {
    if opens_connection(packet, view) {
        lower(packet, view, offload, mtu.saturating_sub((IP_HEADER + TCP_HEADER) as u16));
    }
}

#[cold]
fn lower(packet: &mut [u8], view: &Ipv4View, offload: &Offload, most: u16) -> Option<()> {
    let segment = packet.get_mut(view.header_len..)?;
    let is_partial = match *offload {
        Offload::None => false,
        Offload::Checksum { start, offset } if usize::from(start) == view.header_len && offset == TCP_CHECKSUM => true,
        // No host opens a connection with one of these.
        Offload::Checksum { .. } | Offload::InnerChecksum { .. } | Offload::Segments(_) => return None,
    };
    let [data_offset] = get(segment, TCP_DATA_OFFSET)?;
    let end = usize::from(data_offset >> 4) * 4;
    segment.get(..end)?;
    let mut at = TCP_HEADER;
    while at < end {
        let [kind] = get(segment, at)?;
        let len = match kind {
            END => return None,
            NO_OPERATION => 1,
            _ => usize::from(get::<1>(segment, at + 1)?[0]),
        };
        if kind != NO_OPERATION && len < 2 || at + len > end {
            return None;
        }
        // If the option is repeated, hosts take the last.
        if kind == MAXIMUM_SEGMENT_SIZE && len == MSS_LEN {
            let announced = u16::from_be_bytes(get(segment, at + 2)?);
            if announced > most {
                put(segment, at + 2, most.to_be_bytes())?;
                // A partial checksum holds the sum of the pseudo header, which has no options.
                if !is_partial {
                    correct_checksum(segment, at + 2, announced, most)?;
                }
            }
        }
        at += len;
    }
    Some(())
}

/// Corrects the checksum for a number at `at` that was `from` and is `to`.
fn correct_checksum(segment: &mut [u8], at: usize, from: u16, to: u16) -> Option<()> {
    // At an odd offset each of the number's bytes is in the other half of a word (RFC 1071, 2 (B)).
    let [from, to] = if at.is_multiple_of(2) { [from, to] } else { [from.swap_bytes(), to.swap_bytes()] };
    let checksum = u16::from_be_bytes(get(segment, TCP_CHECKSUM.into())?);
    let checksum = corrected(checksum, Sum::of_field(from), Sum::of_field(to));
    put(segment, TCP_CHECKSUM.into(), checksum.to_be_bytes())
}

/// Memory for the copy of a packet whose MSS is lowered, where the packet itself cannot be written to.
#[derive(Debug, Default)]
pub struct MssClamp {
    copy: Vec<u8>,
}

impl MssClamp {
    /// Returns the packet as [`clamp_mss`] would make it: a copy if it opens a connection, else, and without an MTU,
    /// the packet itself.
    #[inline]
    pub fn apply<'a>(&'a mut self, packet: &'a [u8], view: &Ipv4View, offload: &Offload, mtu: Option<u16>) -> &'a [u8] {
        let Some(mtu) = mtu.filter(|_| opens_connection(packet, view)) else { return packet };
        self.copy.clear();
        self.copy.extend_from_slice(packet);
        clamp_mss(&mut self.copy, view, offload, mtu);
        &self.copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::test_packets::{Packet, is_sound, payload};
    use crate::wire::VnetHeader;
    use proptest::prelude::*;

    const MTU: u16 = 1390;
    const MOST: u16 = 1350;

    fn mss(value: u16) -> Vec<u8> {
        [&[2, 4], value.to_be_bytes().as_slice()].concat()
    }

    fn syn(flags: u8, options: &[u8]) -> Packet {
        Packet { flags, tcp_options: options.to_vec(), ..Packet::tcp(7, b"") }
    }

    fn clamped(bytes: &[u8], header: &VnetHeader) -> Vec<u8> {
        let (view, offload) = Offload::check(header, bytes).unwrap();
        let mut out = bytes.to_vec();
        clamp_mss(&mut out, &view, &offload, MTU);
        assert_eq!(MssClamp::default().apply(bytes, &view, &offload, Some(MTU)), out);
        assert_eq!(MssClamp::default().apply(bytes, &view, &offload, None), bytes);
        out
    }

    fn complete(packet: &Packet) -> Vec<u8> {
        clamped(&packet.bytes(), &VnetHeader::default())
    }

    #[test]
    fn syn_and_syn_ack_are_lowered_and_never_raised() {
        for flags in [SYN, SYN | 0x10, SYN | 0xc0, SYN | 0x01] {
            for (announced, expected) in
                [(1460, MOST), (1351, MOST), (1350, 1350), (536, 536), (0, 0), (u16::MAX, MOST)]
            {
                let lowered = complete(&syn(flags, &mss(announced)));
                assert_eq!(lowered, syn(flags, &mss(expected)).bytes(), "{flags:#x} {announced}");
                assert!(is_sound(&lowered));
            }
        }
    }

    #[test]
    fn other_packets_stay() {
        for flags in [0x10, 0x18, 0x11, 0x04, SYN | RST, 0] {
            let packet = syn(flags, &mss(1460));
            assert_eq!(complete(&packet), packet.bytes(), "{flags:#x}");
        }
        let udp = Packet::udp(&payload(100));
        assert_eq!(complete(&udp), udp.bytes());
        for options in [&[][..], &[1, 1, 1, 1], &[1, 3, 3, 7, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 1, 0]] {
            assert_eq!(complete(&syn(SYN, options)), syn(SYN, options).bytes());
        }
    }

    #[test]
    fn fragments_stay() {
        for fragment in [0x2000_u16, 0x0001, 0x2100] {
            let mut bytes = syn(SYN, &mss(1460)).bytes();
            bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
            assert_eq!(clamped(&bytes, &VnetHeader::default()), bytes, "{fragment:#x}");
        }
    }

    #[test]
    fn the_option_is_found_behind_others_at_odd_offsets_and_repeated() {
        for (options, expected) in [
            (vec![1, 2, 4, 5, 180, 1, 1, 1], vec![1, 2, 4, 5, 70, 1, 1, 1]),
            (vec![4, 2, 1, 2, 4, 5, 180, 1], vec![4, 2, 1, 2, 4, 5, 70, 1]),
            (vec![2, 4, 5, 180, 2, 4, 255, 255], vec![2, 4, 5, 70, 2, 4, 5, 70]),
            // Behind the end of the options, of another length, and behind a malformed option.
            (vec![0, 2, 4, 5, 180, 0, 0, 0], vec![0, 2, 4, 5, 180, 0, 0, 0]),
            (vec![2, 3, 5, 180, 4, 2, 1, 1], vec![2, 3, 5, 180, 4, 2, 1, 1]),
            (vec![8, 0, 2, 4, 5, 180, 1, 1], vec![8, 0, 2, 4, 5, 180, 1, 1]),
            (vec![8, 1, 2, 4, 5, 180, 1, 1], vec![8, 1, 2, 4, 5, 180, 1, 1]),
            (vec![8, 99, 2, 4, 5, 180, 1, 1], vec![8, 99, 2, 4, 5, 180, 1, 1]),
            (vec![1, 1, 1, 1, 1, 1, 1, 2], vec![1, 1, 1, 1, 1, 1, 1, 2]),
            (vec![1, 1, 1, 1, 1, 1, 2, 4], vec![1, 1, 1, 1, 1, 1, 2, 4]),
            (vec![1, 1, 1, 1, 1, 2, 4, 5], vec![1, 1, 1, 1, 1, 2, 4, 5]),
        ] {
            assert_eq!(complete(&syn(SYN, &options)), syn(SYN, &expected).bytes(), "{options:?}");
        }
    }

    #[test]
    fn a_partial_checksum_stays() {
        let packet = syn(SYN, &mss(1460));
        let header = VnetHeader { gso_type: 0, ..packet.vnet(0) };
        assert_eq!(clamped(&packet.unfinished(), &header), syn(SYN, &mss(MOST)).unfinished());
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut bytes = syn(SYN, &mss(1460)).bytes();
        bytes[36] ^= 0x11;
        let lowered = clamped(&bytes, &VnetHeader::default());
        assert_eq!(lowered[42..44], MOST.to_be_bytes());
        assert!(!is_sound(&lowered));
    }

    #[test]
    fn truncated_headers_stay() {
        let whole = syn(SYN, &mss(1460));
        for (at, byte) in [(32, 0x00), (32, 0x40), (32, 0x70), (32, 0xf0)] {
            let mut bytes = whole.bytes();
            bytes[at] = byte;
            let got = clamped(&bytes, &VnetHeader::default());
            assert_eq!(got[40..], bytes[40..], "{byte:#x}");
        }
        for len in 20..44 {
            let mut bytes = whole.bytes();
            bytes.truncate(len);
            bytes[3] = len as u8;
            assert_eq!(clamped(&bytes, &VnetHeader::default()), bytes, "{len}");
        }
    }

    fn options() -> impl Strategy<Value = Vec<u8>> {
        let one = prop_oneof![
            Just(vec![1]),
            any::<u16>().prop_map(mss),
            (3_u8..9, prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(kind, data)| [
                &[kind, data.len() as u8 + 2],
                data.as_slice()
            ]
            .concat()),
            prop::collection::vec(any::<u8>(), 1..4),
        ];
        prop::collection::vec(one, 0..8).prop_map(|all| {
            let mut options = all.concat();
            options.truncate(40);
            options.resize(options.len().next_multiple_of(4), 0);
            options
        })
    }

    proptest! {
        /// The checksum is what a full computation over the lowered packet gives, and nothing else has changed.
        #[test]
        fn the_checksum_equals_a_full_recomputation(
            options in options(),
            ip_options in prop::sample::select(vec![vec![], vec![1, 1, 1, 0], vec![1; 40]]),
            flags in any::<u8>(),
            sequence: u32,
            data in prop::collection::vec(any::<u8>(), 0..40),
            mtu in 576_u16..,
        ) {
            let before = Packet { ip_options, flags, sequence, payload: data, ..syn(SYN, &options) };
            let mut bytes = before.bytes();
            let (view, offload) = Offload::check(&VnetHeader::default(), &bytes).unwrap();
            clamp_mss(&mut bytes, &view, &offload, mtu);
            let at = before.ip_len() + 20;
            let lowered = bytes[at..at + options.len()].to_vec();
            let after = Packet { tcp_options: lowered, ..before.clone() };
            prop_assert_eq!(&bytes, &after.bytes());
            prop_assert!(flags & SYN != 0 || before == after);

            let mut partial = before.unfinished();
            let own = VnetHeader { gso_type: 0, ..before.vnet(0) };
            let (view, offload) = Offload::check(&own, &partial).unwrap();
            clamp_mss(&mut partial, &view, &offload, mtu);
            prop_assert_eq!(partial, after.unfinished());
        }

        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 20..120),
            header_words in 5_u8..16,
            mtu: u16,
        ) {
            bytes[0] = 0x40 | header_words;
            bytes[2] = 0;
            bytes[3] = bytes.len() as u8;
            bytes[9] = 6;
            bytes[6..8].fill(0);
            if let Ok((view, offload)) = Offload::check(&VnetHeader::default(), &bytes) {
                clamp_mss(&mut bytes, &view, &offload, mtu);
            }
        }
    }
}
