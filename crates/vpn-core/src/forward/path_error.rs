//! ICMP errors of the routers on a path (RFC 792).
//!
//! A router may have any address: one outside of the networks that a client reaches through the tunnel, one that the
//! client's host has as well, such as that of a container bridge, or a link-local one. Rules that judge a packet by its
//! source drop its errors, among them the kernel's own (martian sources, rp_filter). A path of a smaller MTU then is a
//! black hole for connections that wait for "fragmentation needed" (RFC 2923, 2.1).

use super::checksum::{Sum, corrected};
use super::fields::{IP_ADDRESSES, IP_CHECKSUM, IP_PROTOCOL, get, put};
use super::networks::is_routable;
use super::offload::{ICMP, IP_HEADER};
use crate::wire::{Ipv4View, inspect};
use std::net::Ipv4Addr;

const ICMP_HEADER: usize = 8;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// An ICMP error about a packet that its receiver has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathError {
    /// Where that packet was sent to.
    pub(super) target: Ipv4Addr,
    is_fragmentation_needed: bool,
}

/// Reads an ICMP error. `None` for other packets, also for redirects, which are no errors, for fragments, which may hide
/// what they quote, and for errors about a packet that their receiver has not sent.
#[inline]
pub(super) fn path_error(packet: &[u8], view: &Ipv4View) -> Option<PathError> {
    if view.protocol == ICMP { read(packet, view) } else { None }
}

#[cold]
fn read(packet: &[u8], view: &Ipv4View) -> Option<PathError> {
    let icmp = packet.get(view.header_len..).filter(|_| !view.is_fragment)?;
    let [kind, code] = get(icmp, 0)?;
    let quoted: [u8; IP_HEADER] = get(icmp, ICMP_HEADER)?;
    let sender = Ipv4Addr::from(get::<4>(&quoted, IP_ADDRESSES)?);
    let target = Ipv4Addr::from(get::<4>(&quoted, IP_ADDRESSES + 4)?);
    let is_error = matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM);
    let is_receivers = quoted[0] >> 4 == 4 && sender == view.destination && is_routable(target);
    let is_fragmentation_needed = (kind, code) == (UNREACHABLE, FRAGMENTATION_NEEDED);
    (is_error && is_receivers).then_some(PathError { target, is_fragmentation_needed })
}

/// Returns whether a packet is a "fragmentation needed" that [`adopt`] changes.
#[inline]
pub fn is_adoptable(packet: &[u8]) -> bool {
    packet.get(IP_PROTOCOL) == Some(&ICMP) && adoptable(packet).is_some()
}

#[cold]
fn adoptable(packet: &[u8]) -> Option<(Ipv4View, PathError)> {
    let view = inspect(packet).ok()?;
    let error = path_error(packet, &view)?;
    error.is_fragmentation_needed.then_some((view, error))
}

/// Gives a "fragmentation needed" the destination of the packet that it quotes as its source: an address that the
/// receiver sends to, and so takes packets from. Does nothing to other packets.
///
/// The receiver's rules judge the changed packet. Its kernel finds the connection by the quoted packet alone.
///
/// ```
/// use vpn_core::forward::{adopt, is_adoptable};
///
/// // From the router 169.254.9.2 to 10.98.0.2, about a packet from there to 192.0.2.1.
/// let mut error = [
///     &[0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0xb4, 0x67, 169, 254, 9, 2, 10, 98, 0, 2][..],
///     &[3, 4, 0, 0, 0, 0, 0x05, 0x00],
///     &[0x45, 0, 0x05, 0x78, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 98, 0, 2, 192, 0, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8],
/// ]
/// .concat();
/// assert!(is_adoptable(&error));
/// adopt(&mut error);
/// assert_eq!(error[12..16], [192, 0, 2, 1]);
/// ```
pub fn adopt(packet: &mut [u8]) {
    if let Some((view, error)) = adoptable(packet) {
        set_source(packet, &view, error.target);
    }
}

/// Sets the source, and corrects the header's checksum; ICMP's does not cover addresses.
fn set_source(packet: &mut [u8], view: &Ipv4View, source: Ipv4Addr) -> Option<()> {
    let checksum = u16::from_be_bytes(get(packet, IP_CHECKSUM)?);
    let checksum = corrected(checksum, Sum::of(&view.source.octets()), Sum::of(&source.octets()));
    put(packet, IP_CHECKSUM, checksum.to_be_bytes())?;
    put(packet, IP_ADDRESSES, source.octets())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::fragmentation_needed;
    use crate::forward::test_packets::{Packet, naive_sum, payload};
    use crate::forward::too_big::MAX_ICMP_ERROR;
    use proptest::prelude::*;

    const ROUTER: [u8; 4] = [169, 254, 9, 2];

    /// An error of the router about a packet, and where that packet was sent to.
    fn error(of: &Packet) -> (Vec<u8>, Ipv4Addr) {
        let packet = of.bytes();
        let view = inspect(&packet).unwrap();
        let mut error = fragmentation_needed(&packet, &view, 1280, &mut [0; MAX_ICMP_ERROR]).unwrap().to_vec();
        error[12..16].copy_from_slice(&ROUTER);
        error[10..12].fill(0);
        let sum = !naive_sum(&error[..20]);
        error[10..12].copy_from_slice(&sum.to_be_bytes());
        (error, view.destination)
    }

    fn read_error(packet: &[u8]) -> Option<PathError> {
        path_error(packet, &inspect(packet).unwrap())
    }

    fn adopted(packet: &[u8]) -> Vec<u8> {
        let mut adopted = packet.to_vec();
        adopt(&mut adopted);
        assert_eq!(is_adoptable(packet), adopted != packet);
        adopted
    }

    #[test]
    fn the_source_becomes_the_quoted_target_and_nothing_else_changes() {
        for packet in [Packet::udp(&payload(1400)), Packet::tcp(7, &payload(30))] {
            let (error, target) = error(&packet);
            let changed = adopted(&error);
            assert_eq!(inspect(&changed).unwrap().source, target);
            assert_eq!(naive_sum(&changed[..20]), 0xffff);
            assert_eq!([&changed[..10], &changed[16..]], [&error[..10], &error[16..]]);
            let mut wrong = error;
            wrong[11] ^= 0x10;
            assert_ne!(naive_sum(&adopted(&wrong)[..20]), 0xffff);
        }
    }

    #[test]
    fn errors_are_told_from_other_messages() {
        let (error, target) = error(&Packet::udp(&payload(100)));
        for kind in 0..=u8::MAX {
            for code in [0, 3, 4, 5] {
                let mut other = error.clone();
                (other[20], other[21]) = (kind, code);
                let is_fragmentation_needed = (kind, code) == (3, 4);
                let expected = [3, 11, 12].contains(&kind).then_some(PathError { target, is_fragmentation_needed });
                assert_eq!(read_error(&other), expected, "{kind} {code}");
                assert_eq!(is_adoptable(&other), is_fragmentation_needed, "{kind} {code}");
            }
        }
    }

    #[test]
    fn what_the_receiver_has_not_sent_is_no_error_of_its_path() {
        let (error, _) = error(&Packet::udp(&payload(100)));
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = error.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            changed
        };
        for (changed, what) in [
            (with(6, &[0x20, 0]), "a fragment"),
            (with(6, &[0, 1]), "a later fragment"),
            (with(9, &[17]), "UDP"),
            (with(40, &[10, 9, 9, 9]), "of another sender"),
            (with(44, &[127, 0, 0, 1]), "to a loopback address"),
            (with(44, &[169, 254, 169, 254]), "to a link-local address"),
            (with(28, &[0x65]), "of IPv6"),
            (with(2, &47_u16.to_be_bytes())[..47].to_vec(), "a quote that is cut"),
        ] {
            assert_eq!(read_error(&changed), None, "{what}");
            assert_eq!(adopted(&changed), changed, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100), words in 0_u8..16, icmp: bool) {
            if icmp && bytes.len() > 21 {
                let len = bytes.len() as u8;
                (bytes[0], bytes[2], bytes[3], bytes[9], bytes[20], bytes[21]) = (0x40 | words, 0, len, 1, 3, 4);
            }
            adopted(&bytes);
        }
    }
}
