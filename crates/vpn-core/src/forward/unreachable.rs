//! The ICMPv6 message that tells an application at once that its IPv6 packet goes nowhere (RFC 4443).
//!
//! The tunnel carries IPv4 alone. A host whose IPv6 is routed into it gets this answer to each packet, so that an
//! application turns to IPv4 without waiting for a timeout.

use super::checksum::Sum;
use super::fields::{get, put};
use std::net::Ipv6Addr;

/// The largest ICMPv6 error, in bytes with its IPv6 header: IPv6's smallest MTU (RFC 4443, 2.4 (c)).
pub const MAX_ICMPV6_ERROR: usize = 1280;

const IPV6_HEADER: usize = 40;
const ICMPV6_HEADER: usize = 8;
const ICMPV6_CHECKSUM: usize = 2;
const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

const ICMPV6: u8 = 58;
const UNREACHABLE: u8 = 1;
/// "Port unreachable". Linux ends a TCP connection that is being made for any code; a connected UDP socket gets an error
/// for the codes of errors that last alone: this one, as "connection refused", and those of prohibition, as "permission
/// denied". Applications know the former from every server that does not run.
const PORT: u8 = 4;
/// Types below it are errors.
const FIRST_QUERY: u8 = 128;
const REDIRECT: u8 = 137;

/// Extension headers (IANA), which stand before the header of the transport.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Writes to `out` the ICMPv6 message "port unreachable" for a packet, and returns it. It quotes as much of the packet as
/// fits.
///
/// Its source is the packet's destination: the answer needs no IPv6 address of the tunnel, and passes a filter that
/// compares a packet's source with the route back to it.
///
/// Returns `None` for packets about which no error may be sent (RFC 4443, 2.4 (e)): ICMPv6 errors and redirects, packets
/// to multicast addresses, and packets whose source is not one host. Nor is there one about what this host should not
/// have sent, or would not recognise: a packet that is not whole IPv6, and a fragment other than the first.
///
/// ```
/// use vpn_core::forward::{MAX_ICMPV6_ERROR, ipv6_unreachable};
///
/// // UDP from 2001:db8::1 to 2001:db8::2, with its header alone.
/// let mut packet = [0; 48];
/// packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 64]);
/// packet[8..24].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
/// packet[24..40].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
/// let mut out = [0; MAX_ICMPV6_ERROR];
/// let answer = ipv6_unreachable(&packet, &mut out).unwrap();
/// assert_eq!((answer.len(), answer[6], &answer[40..42]), (40 + 8 + 48, 58, &[1, 4][..]));
///
/// // To a multicast address.
/// packet[24] = 0xff;
/// assert_eq!(ipv6_unreachable(&packet, &mut out), None);
/// ```
#[cold]
pub fn ipv6_unreachable<'a>(packet: &[u8], out: &'a mut [u8; MAX_ICMPV6_ERROR]) -> Option<&'a [u8]> {
    let (header, payload) = packet.split_first_chunk::<IPV6_HEADER>()?;
    let [source, destination] = [SOURCE, DESTINATION].map(|at| get::<16>(header, at).map(Ipv6Addr::from));
    let (source, destination) = (source?, destination?);
    let is_whole = header[0] >> 4 == 6 && usize::from(u16::from_be_bytes(get(header, PAYLOAD_LEN)?)) == payload.len();
    if !is_whole || !is_one_host(source) || !is_one_host(destination) || !may_be_answered(header[NEXT_HEADER], payload)
    {
        return None;
    }
    let quoted = packet.len().min(MAX_ICMPV6_ERROR - IPV6_HEADER - ICMPV6_HEADER);
    let message = out.get_mut(..IPV6_HEADER + ICMPV6_HEADER + quoted)?;
    let (ip, icmp) = message.split_at_mut_checked(IPV6_HEADER)?;
    let len = icmp.len() as u16;
    ip.fill(0);
    put(ip, 0, [0x60])?;
    put(ip, PAYLOAD_LEN, len.to_be_bytes())?;
    // The hop limit of Linux.
    put(ip, NEXT_HEADER, [ICMPV6, 64])?;
    put(ip, SOURCE, destination.octets())?;
    put(ip, DESTINATION, source.octets())?;
    let (header, quote) = icmp.split_at_mut_checked(ICMPV6_HEADER)?;
    header.copy_from_slice(&[UNREACHABLE, PORT, 0, 0, 0, 0, 0, 0]);
    quote.copy_from_slice(packet.get(..quoted)?);
    // The pseudo header (RFC 8200, 8.1): both addresses, the length, the protocol.
    let pseudo = Sum::of(ip.get(SOURCE..)?) + Sum::of_field(len) + Sum::of_field(u16::from(ICMPV6));
    put(icmp, ICMPV6_CHECKSUM, (pseudo + Sum::of(icmp)).checksum().to_be_bytes())?;
    Some(message)
}

fn is_one_host(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// Whether the packet behind its extension headers may have an error sent about it.
fn may_be_answered(mut kind: u8, mut rest: &[u8]) -> bool {
    loop {
        let len = match kind {
            ICMPV6 => return rest.first().is_some_and(|kind| *kind >= FIRST_QUERY && *kind != REDIRECT),
            FRAGMENT if is_later_fragment(rest) => return false,
            FRAGMENT => Some(8),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                rest.get(1).map(|units| (usize::from(*units) + 1) * 8)
            }
            AUTHENTICATION => rest.get(1).map(|units| (usize::from(*units) + 2) * 4),
            _ => return true,
        };
        let (Some(next), Some(behind)) = (rest.first(), len.and_then(|len| rest.get(len..))) else { return false };
        (kind, rest) = (*next, behind);
    }
}

fn is_later_fragment(header: &[u8]) -> bool {
    get(header, 2).is_none_or(|offset| u16::from_be_bytes(offset) & 0xfff8 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::test_packets::{naive_sum, payload};
    use proptest::prelude::*;

    const HERE: &str = "2001:db8::2";
    const THERE: &str = "2001:db8:1::7";

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        between(HERE, THERE, next_header, payload)
    }

    fn between(source: &str, destination: &str, next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([next_header, 64]);
        for address in [source, destination] {
            bytes.extend(address.parse::<Ipv6Addr>().unwrap().octets());
        }
        bytes.extend(payload);
        bytes
    }

    fn answer(packet: &[u8]) -> Option<Vec<u8>> {
        ipv6_unreachable(packet, &mut [0xee; MAX_ICMPV6_ERROR]).map(<[u8]>::to_vec)
    }

    /// The ones'-complement sum over the pseudo header and the message, 0xffff for an intact one.
    fn sum(message: &[u8]) -> u16 {
        let mut bytes = message[8..40].to_vec();
        bytes.extend((message.len() as u32 - 40).to_be_bytes());
        bytes.extend([0, 0, 0, 58]);
        bytes.extend(&message[40..]);
        naive_sum(&bytes)
    }

    #[test]
    fn the_answer_comes_from_the_destination_and_quotes_the_packet() {
        for len in [8, 101, 1184, 1185, 60_000] {
            let asked = packet(17, &payload(len));
            let message = answer(&asked).unwrap();
            let quoted = asked.len().min(1232);
            assert_eq!(message.len(), 48 + quoted, "{len}");
            assert_eq!(message[..4], [0x60, 0, 0, 0]);
            assert_eq!(usize::from(u16::from_be_bytes([message[4], message[5]])), 8 + quoted);
            assert_eq!(message[6..8], [58, 64]);
            assert_eq!((&message[8..24], &message[24..40]), (&asked[24..40], &asked[8..24]));
            assert_eq!(message[40..42], [1, 4]);
            assert_eq!(message[44..48], [0; 4]);
            assert_eq!(message[48..], asked[..quoted]);
            assert_eq!(sum(&message), 0xffff, "{len}");
        }
    }

    #[test]
    fn no_answer_to_errors() {
        for kind in 0..=u8::MAX {
            let is_query = kind >= 128 && kind != 137;
            assert_eq!(answer(&packet(58, &[kind, 0, 0, 0, 0, 0, 0, 0])).is_some(), is_query, "{kind}");
            // Behind options for the hops, an authentication header, and a first fragment's header.
            let headers =
                [&[51, 0, 0, 0, 0, 0, 0, 0][..], &[44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[58, 0, 0, 1, 0, 0, 0, 0]];
            let hidden = [&headers.concat()[..], &[kind, 0, 0, 0]].concat();
            assert_eq!(answer(&packet(0, &hidden)).is_some(), is_query, "{kind}");
        }
        assert_eq!(answer(&packet(58, &[])), None);
    }

    #[test]
    fn no_answer_to_a_group_or_about_one() {
        let ping = [128, 0, 0, 0, 0, 1, 0, 1];
        for (source, destination, is_answered) in [
            (HERE, THERE, true),
            ("fe80::1", THERE, true),
            (HERE, "ff02::1", false),
            (HERE, "ff0e::1", false),
            ("::", THERE, false),
            ("ff02::1", THERE, false),
            ("::1", THERE, false),
            (HERE, "::1", false),
            (HERE, "::", false),
        ] {
            assert_eq!(
                answer(&between(source, destination, 58, &ping)).is_some(),
                is_answered,
                "{source} {destination}"
            );
        }
    }

    #[test]
    fn no_answer_to_what_is_no_whole_packet() {
        let whole = packet(6, &payload(20));
        assert!(answer(&whole).is_some());
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len]), None, "{len}");
        }
        assert_eq!(answer(&[&whole[..], &[0]].concat()), None);
        let mut other = whole.clone();
        other[0] = 0x45;
        assert_eq!(answer(&other), None);
        // A later fragment, and a chain of headers that ends before the transport's.
        assert_eq!(answer(&packet(44, &[17, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3, 4])), None);
        assert!(answer(&packet(44, &[17, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4])).is_some());
        for kind in [0, 43, 44, 51, 60, 135, 139, 140] {
            assert_eq!(answer(&packet(kind, &[])), None, "{kind}");
            assert_eq!(answer(&packet(kind, &[17, 255, 0, 0, 0, 0, 0])), None, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_no_answer_is_answered(
            mut bytes in prop::collection::vec(any::<u8>(), 0..1600),
            first in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 51, 58, 59, 60, 135]),
            is_whole: bool,
        ) {
            if is_whole && bytes.len() >= IPV6_HEADER {
                bytes[0] = 0x60;
                let len = (bytes.len() - IPV6_HEADER) as u16;
                bytes[4..6].copy_from_slice(&len.to_be_bytes());
                bytes[6] = first;
            }
            if let Some(message) = answer(&bytes) {
                prop_assert!(message.len() <= MAX_ICMPV6_ERROR);
                prop_assert_eq!(sum(&message), 0xffff);
                prop_assert_eq!(&message[48..], &bytes[..message.len() - 48]);
                prop_assert_eq!(answer(&message), None);
            }
        }
    }
}
