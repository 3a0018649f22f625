//! Decides whether an inner packet may pass, and to which session it goes.
//!
//! The data path's work on each packet: the source check, the table from inner address to session, the counters, and
//! super-packets, which are cut for peers that do not accept them and merged for peers that do, and packets that exceed a
//! session's MTU. Nothing here allocates, locks or makes a system call for a packet.

mod bundle;
mod bundler;
mod checksum;
mod coalesce;
mod counters;
mod drops;
mod fields;
mod mss;
mod offload;
mod split;
mod table;
#[cfg(test)]
mod test_packets;
mod too_big;

pub use bundle::Bundle;
pub use bundler::{Bundler, Peer};
pub use coalesce::Coalescer;
pub use counters::{Counters, Load, Totals};
pub use drops::DropCause;
pub use mss::{MssClamp, clamp_mss};
pub use offload::{Offload, Segments};
pub use split::split;
pub use table::{Route, Table};
pub use too_big::{MAX_ICMP_ERROR, fragmentation_needed, is_too_big};

use crate::lease::Subnet;
use crate::wire::{Ipv4View, VnetHeader};
use std::net::Ipv4Addr;

/// Checks a packet from a client before it reaches the server's TUN.
///
/// `leased` is the address of the sending session. The packet must be one whole IPv4 packet from exactly that address.
/// With `isolate` it must not go to another client either: inside the subnet it may reach only the gateway, which also
/// excludes the subnet's broadcast.
///
/// `header` describes the unfinished work on the packet; the default, as for a packet without a bundle, is none.
///
/// Errors: [`DropCause::NoLease`], [`DropCause::NotIpv4`], [`DropCause::Malformed`], [`DropCause::BadOffload`],
/// [`DropCause::SpoofedSource`], [`DropCause::PeerIsolated`], the first that applies in this order.
///
/// ```
/// use std::net::Ipv4Addr;
/// use vpn_core::forward::{DropCause, check_upstream};
/// use vpn_core::lease::Subnet;
/// use vpn_core::wire::VnetHeader;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subnet = Subnet::parse("10.98.0.0", "255.255.255.0")?;
/// // UDP from 10.98.0.2 to 10.98.0.3, another client.
/// let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 98, 0, 2, 10, 98, 0, 3];
/// let check = |leased: Option<[u8; 4]>, isolate| {
///     let checked = check_upstream(&VnetHeader::default(), &packet, leased.map(Ipv4Addr::from), &subnet, isolate);
///     checked.map(|(view, _offload)| view.destination)
/// };
///
/// assert_eq!(check(Some([10, 98, 0, 2]), false), Ok(Ipv4Addr::new(10, 98, 0, 3)));
/// assert_eq!(check(Some([10, 98, 0, 2]), true), Err(DropCause::PeerIsolated));
/// assert_eq!(check(Some([10, 98, 0, 9]), false), Err(DropCause::SpoofedSource));
/// assert_eq!(check(None, false), Err(DropCause::NoLease));
/// # Ok(())
/// # }
/// ```
pub fn check_upstream(
    header: &VnetHeader,
    packet: &[u8],
    leased: Option<Ipv4Addr>,
    subnet: &Subnet,
    isolate: bool,
) -> Result<(Ipv4View, Offload), DropCause> {
    let leased = leased.ok_or(DropCause::NoLease)?;
    let (view, offload) = Offload::check(header, packet)?;
    if view.source != leased {
        return Err(DropCause::SpoofedSource);
    }
    if isolate && subnet.contains(view.destination) && view.destination != subnet.gateway() {
        return Err(DropCause::PeerIsolated);
    }
    Ok((view, offload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks a packet without a bundle.
    fn check_upstream(
        packet: &[u8],
        leased: Option<Ipv4Addr>,
        subnet: &Subnet,
        isolate: bool,
    ) -> Result<Ipv4View, DropCause> {
        super::check_upstream(&VnetHeader::default(), packet, leased, subnet, isolate).map(|(view, _)| view)
    }

    const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 24 };
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    fn packet(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&source.octets());
        packet[16..20].copy_from_slice(&destination.octets());
        packet
    }

    #[test]
    fn a_packet_of_the_lease_passes() {
        let view = check_upstream(&packet(CLIENT, OUTSIDE), Some(CLIENT), &SUBNET, true).unwrap();
        assert_eq!((view.source, view.destination, view.total_len), (CLIENT, OUTSIDE, 28));
    }

    #[test]
    fn without_a_lease_nothing_passes() {
        let unleased = check_upstream(&packet(CLIENT, OUTSIDE), None, &SUBNET, false);
        assert_eq!(unleased, Err(DropCause::NoLease));
    }

    #[test]
    fn another_source_is_spoofed() {
        for source in ["10.0.0.3", "10.0.0.1", "0.0.0.0", "127.0.0.1", "10.0.0.255", "192.0.2.1"] {
            let spoofed = packet(source.parse().unwrap(), OUTSIDE);
            assert_eq!(check_upstream(&spoofed, Some(CLIENT), &SUBNET, false), Err(DropCause::SpoofedSource));
        }
    }

    #[test]
    fn isolation_allows_the_gateway_and_outside_hosts() {
        for (destination, isolated) in [
            ("10.0.0.1", false),
            ("198.51.100.7", false),
            ("10.0.1.3", false),
            ("10.0.0.3", true),
            ("10.0.0.2", true),
            ("10.0.0.0", true),
            ("10.0.0.255", true),
        ] {
            let bytes = packet(CLIENT, destination.parse().unwrap());
            let expected = if isolated { Some(DropCause::PeerIsolated) } else { None };
            assert_eq!(check_upstream(&bytes, Some(CLIENT), &SUBNET, true).err(), expected, "{destination}");
            assert!(check_upstream(&bytes, Some(CLIENT), &SUBNET, false).is_ok(), "{destination}");
        }
    }

    #[test]
    fn invalid_packets_have_distinct_causes() {
        let good = packet(CLIENT, OUTSIDE);
        let check = |bytes: &[u8]| check_upstream(bytes, Some(CLIENT), &SUBNET, false).unwrap_err();
        assert_eq!(check(&[]), DropCause::Malformed);
        assert_eq!(check(&good[..27]), DropCause::Malformed);
        assert_eq!(check(&[good.as_slice(), &[0]].concat()), DropCause::Malformed);
        let mut short_header = good.clone();
        short_header[0] = 0x44;
        assert_eq!(check(&short_header), DropCause::Malformed);
        let mut ipv6 = good;
        ipv6[0] = 0x60;
        assert_eq!(check(&ipv6), DropCause::NotIpv4);
    }

    proptest! {
        #[test]
        fn a_passed_packet_comes_from_the_lease(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            shape: bool,
            isolate: bool,
        ) {
            // Half of the cases are changed into packets that reach the later checks.
            if shape && bytes.len() >= 20 {
                let len = bytes.len() as u8;
                bytes[0] = 0x45;
                bytes[2..4].copy_from_slice(&[0, len]);
                bytes[12..15].copy_from_slice(&[10, 0, 0]);
                bytes[15] %= 4;
                let third = bytes[18] % 2;
                bytes[16..19].copy_from_slice(&[10, 0, third]);
            }
            match check_upstream(&bytes, Some(CLIENT), &SUBNET, isolate) {
                Ok(view) => {
                    prop_assert!(bytes[12..16] == CLIENT.octets());
                    prop_assert!(bytes[16..20] == view.destination.octets());
                    prop_assert_eq!(view.total_len, bytes.len());
                    prop_assert!(view.header_len >= 20 && view.header_len <= bytes.len());
                    let peer = bytes[16..19] == [10, 0, 0] && bytes[19] != 1;
                    prop_assert!(!(isolate && peer));
                }
                Err(cause) => prop_assert!(matches!(
                    cause,
                    DropCause::NotIpv4 | DropCause::Malformed | DropCause::SpoofedSource | DropCause::PeerIsolated
                )),
            }
        }
    }
}
