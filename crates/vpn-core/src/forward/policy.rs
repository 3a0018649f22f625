//! Decides by its addresses whether a packet may pass.

use super::networks::{Networks, is_routable};
use super::path_error::path_error;
use super::{DropCause, Offload};
use crate::lease::Subnet;
use crate::wire::{Ipv4View, VnetHeader};
use std::net::Ipv4Addr;

/// What a server lets its clients reach. Both directions obey it.
///
/// ```
/// use std::net::Ipv4Addr;
/// use vpn_core::forward::{DropCause, Networks, Policy};
/// use vpn_core::lease::Subnet;
/// use vpn_core::wire::VnetHeader;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subnet = Subnet::parse("10.98.0.0", "255.255.255.0")?;
/// let policy = |isolate, deny| Policy { subnet: &subnet, isolate, deny };
/// let (none, deny) = (Networks::default(), Networks::parse(["192.168.0.0/16"])?);
/// // UDP from 10.98.0.2.
/// let packet = |target: [u8; 4]| {
///     [[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 98, 0, 2].as_slice(), &target].concat()
/// };
/// let check = |policy: Policy<'_>, packet: &[u8], leased: Option<[u8; 4]>| {
///     policy.check_upstream(&VnetHeader::default(), packet, leased.map(Ipv4Addr::from)).map(|_| ())
/// };
///
/// let other_client = packet([10, 98, 0, 3]);
/// assert_eq!(check(policy(false, &none), &other_client, Some([10, 98, 0, 2])), Ok(()));
/// assert_eq!(check(policy(true, &none), &other_client, Some([10, 98, 0, 2])), Err(DropCause::PeerIsolated));
/// assert_eq!(check(policy(false, &none), &other_client, Some([10, 98, 0, 9])), Err(DropCause::SpoofedSource));
/// assert_eq!(check(policy(false, &none), &other_client, None), Err(DropCause::NoLease));
/// let inside = packet([192, 168, 1, 1]);
/// assert_eq!(check(policy(false, &deny), &inside, Some([10, 98, 0, 2])), Err(DropCause::Denied));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The tunnel's subnet with the gateway.
    pub subnet: &'a Subnet,
    /// Whether clients are kept from reaching each other.
    pub isolate: bool,
    /// Destinations that clients must not reach, inside the subnet too.
    pub deny: &'a Networks,
}

impl Policy<'_> {
    /// Checks a packet from a client before it reaches the server's TUN.
    ///
    /// `leased` is the address of the sending session. The packet must be one whole IPv4 packet from exactly that
    /// address, to a [routable](is_routable) one that is not denied. With `isolate` it must not go to another client
    /// either: inside the subnet it may reach only the gateway, which also excludes the subnet's broadcast.
    ///
    /// `header` describes the unfinished work on the packet; the default, as for a packet without a bundle, is none.
    ///
    /// Errors: [`DropCause::NoLease`], those of [`Offload::check_record`], [`DropCause::SpoofedSource`],
    /// [`DropCause::Denied`] for what is not routable, [`DropCause::PeerIsolated`], [`DropCause::Denied`], the first
    /// that applies in this order.
    #[inline]
    pub fn check_upstream(
        &self,
        header: &VnetHeader,
        packet: &[u8],
        leased: Option<Ipv4Addr>,
    ) -> Result<(Ipv4View, Offload), DropCause> {
        let leased = leased.ok_or(DropCause::NoLease)?;
        let (view, offload) = Offload::check_record(header, packet)?;
        if view.source != leased {
            return Err(DropCause::SpoofedSource);
        }
        if !is_routable(view.destination) {
            return Err(DropCause::Denied);
        }
        if self.isolate && self.subnet.contains(view.destination) && view.destination != self.subnet.gateway() {
            return Err(DropCause::PeerIsolated);
        }
        if !self.deny.is_empty() && self.deny.contains(view.destination) {
            return Err(DropCause::Denied);
        }
        Ok((view, offload))
    }

    /// Checks the source of a packet from the host to a client. With `isolate` it must not be another client's, however
    /// the host came to forward it.
    ///
    /// A denied network may be a source: its routers report errors on the way to other networks.
    ///
    /// Errors: [`DropCause::Denied`] for a source that is not [routable](is_routable), [`DropCause::PeerIsolated`].
    #[inline]
    pub fn check_downstream(&self, view: &Ipv4View) -> Result<(), DropCause> {
        if !is_routable(view.source) {
            return Err(DropCause::Denied);
        }
        if self.isolate && self.subnet.contains(view.source) && view.source != self.subnet.gateway() {
            return Err(DropCause::PeerIsolated);
        }
        Ok(())
    }
}

/// Checks a packet from the server before it reaches the client's TUN.
///
/// It must be one whole IPv4 packet to exactly the `leased` address, from a [routable](is_routable) source that is in
/// `sources`; `None` for any: then the host's own rules must judge sources. A router outside of `sources` may report an
/// ICMP error about a packet that the leased address has sent to one of them.
///
/// Errors: those of [`Offload::check_record`], [`DropCause::WrongDestination`], [`DropCause::WrongSource`], the first
/// that applies in this order.
#[inline]
pub fn check_downlink(
    header: &VnetHeader,
    packet: &[u8],
    leased: Ipv4Addr,
    sources: Option<&Networks>,
) -> Result<(Ipv4View, Offload), DropCause> {
    let (view, offload) = Offload::check_record(header, packet)?;
    if view.destination != leased {
        return Err(DropCause::WrongDestination);
    }
    let is_named = |addr| sources.is_none_or(|sources| sources.contains(addr));
    let is_about_named = || path_error(packet, &view).is_some_and(|error| is_named(error.target));
    if !is_routable(view.source) || !is_named(view.source) && !is_about_named() {
        return Err(DropCause::WrongSource);
    }
    Ok((view, offload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::inspect;
    use proptest::prelude::*;

    /// Checks a packet without a bundle.
    fn check_upstream(
        packet: &[u8],
        leased: Option<Ipv4Addr>,
        subnet: &Subnet,
        isolate: bool,
    ) -> Result<Ipv4View, DropCause> {
        let policy = Policy { subnet, isolate, deny: &Networks::default() };
        policy.check_upstream(&VnetHeader::default(), packet, leased).map(|(view, _)| view)
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
    fn isolation_holds_on_the_way_down() {
        for (source, expected) in [
            ("10.0.0.1", Ok(())),
            ("198.51.100.7", Ok(())),
            ("10.0.1.3", Ok(())),
            ("10.0.0.3", Err(DropCause::PeerIsolated)),
            ("10.0.0.2", Err(DropCause::PeerIsolated)),
            ("10.0.0.255", Err(DropCause::PeerIsolated)),
            ("169.254.169.254", Err(DropCause::Denied)),
            ("127.0.0.1", Err(DropCause::Denied)),
        ] {
            let view = inspect(&packet(source.parse().unwrap(), CLIENT)).unwrap();
            let outside = Networks::parse([OUTSIDE.to_string()]).unwrap();
            let check = |isolate| Policy { subnet: &SUBNET, isolate, deny: &outside }.check_downstream(&view);
            assert_eq!(check(true), expected, "{source}");
            let without = expected.or_else(|cause| if cause == DropCause::PeerIsolated { Ok(()) } else { Err(cause) });
            assert_eq!(check(false), without, "{source}");
        }
    }

    #[test]
    fn denied_destinations_are_not_reached() {
        // The host has 10.0.0.200, in the tunnel's subnet.
        let outside = Networks::parse(["10.0.0.0/8"]).unwrap().without(&Networks::parse(["10.0.0.0/24"]).unwrap());
        let deny = outside.join(&Networks::parse(["10.0.0.200", "198.51.100.7"]).unwrap());
        for (destination, expected) in [
            ("10.0.0.1", None),
            ("10.0.0.3", None),
            ("10.0.0.200", Some(DropCause::Denied)),
            ("10.0.0.255", None),
            ("10.0.1.0", Some(DropCause::Denied)),
            ("10.255.255.255", Some(DropCause::Denied)),
            ("198.51.100.7", Some(DropCause::Denied)),
            ("198.51.100.8", None),
            ("169.254.169.254", Some(DropCause::Denied)),
            ("127.0.0.1", Some(DropCause::Denied)),
            ("0.0.0.0", Some(DropCause::Denied)),
            ("224.0.0.251", Some(DropCause::Denied)),
            ("255.255.255.255", Some(DropCause::Denied)),
        ] {
            let bytes = packet(CLIENT, destination.parse().unwrap());
            let policy = Policy { subnet: &SUBNET, isolate: false, deny: &deny };
            let checked = policy.check_upstream(&VnetHeader::default(), &bytes, Some(CLIENT));
            assert_eq!(checked.err(), expected, "{destination}");
        }
    }

    #[test]
    fn a_client_takes_packets_of_the_named_networks() {
        let sources = Networks::parse(["10.0.0.0/24", "192.168.1.0/24"]).unwrap();
        let check = |source: &str, destination: Ipv4Addr, sources: Option<&Networks>| {
            let bytes = packet(source.parse().unwrap(), destination);
            check_downlink(&VnetHeader::default(), &bytes, CLIENT, sources).err()
        };
        for (source, is_named, is_possible) in [
            ("10.0.0.1", true, true),
            ("10.0.0.3", true, true),
            ("192.168.1.9", true, true),
            ("192.168.2.9", false, true),
            ("8.8.8.8", false, true),
            ("127.0.0.1", false, false),
            ("169.254.169.254", false, false),
            ("224.0.0.1", false, false),
        ] {
            let expected = |passes: bool| (!passes).then_some(DropCause::WrongSource);
            assert_eq!(check(source, CLIENT, Some(&sources)), expected(is_named), "{source}");
            assert_eq!(check(source, CLIENT, None), expected(is_possible), "{source}");
            let all = Networks::parse(["0.0.0.0/0"]).unwrap();
            assert_eq!(check(source, CLIENT, Some(&all)), expected(is_possible), "{source}");
            assert_eq!(check(source, OUTSIDE, None), Some(DropCause::WrongDestination), "{source}");
        }
    }

    #[test]
    fn a_client_takes_errors_of_routers_on_the_way_to_the_named_networks() {
        let sources = Networks::parse(["198.51.100.0/24"]).unwrap();
        let check = |router: &str, kind: u8, (from, to): (Ipv4Addr, Ipv4Addr)| {
            let mut error = [packet(router.parse().unwrap(), CLIENT), packet(from, to)].concat();
            (error[3], error[9], error[20]) = (56, 1, kind);
            check_downlink(&VnetHeader::default(), &error, CLIENT, Some(&sources)).err()
        };
        for router in ["203.0.113.1", "198.51.100.1"] {
            for kind in [3, 11, 12] {
                assert_eq!(check(router, kind, (CLIENT, OUTSIDE)), None, "{router} {kind}");
            }
        }
        for (kind, quoted, what) in [
            (5, (CLIENT, OUTSIDE), "a redirect"),
            (0, (CLIENT, OUTSIDE), "an answer"),
            (3, (CLIENT, Ipv4Addr::new(203, 0, 113, 9)), "about a packet to another network"),
            (3, (OUTSIDE, OUTSIDE), "about the packet of another host"),
        ] {
            assert_eq!(check("203.0.113.1", kind, quoted), Some(DropCause::WrongSource), "{what}");
        }
        assert_eq!(check("169.254.9.2", 3, (CLIENT, OUTSIDE)), Some(DropCause::WrongSource));
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
        let mut ipv6 = good.clone();
        ipv6[0] = 0x60;
        assert_eq!(check(&ipv6), DropCause::NotIpv4);
        // The two words behind the addresses become a source route to another address.
        let mut routed = good;
        routed[0] = 0x47;
        routed[20..].copy_from_slice(&[131, 7, 4, 10, 0, 0, 3, 0]);
        assert_eq!(check(&routed), DropCause::BadOptions);
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
                    DropCause::NotIpv4
                        | DropCause::Malformed
                        | DropCause::BadOptions
                        | DropCause::SpoofedSource
                        | DropCause::Denied
                        | DropCause::PeerIsolated
                )),
            }
        }
    }
}
