//! Reads the kernel's answers: the headers and attributes of rtnetlink(7) that this crate needs.
//!
//! Pure functions over bytes. They return `None` for a truncated message. Numbers are in the host's byte order,
//! addresses in network order.

use std::net::Ipv4Addr;

use netlink_packet_core::{NlaBuffer, NlasIterator};

const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
pub(super) const ROUTE_HEADER_LEN: usize = 12;
const NEXT_HOP_HEADER_LEN: usize = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
pub(super) const RTN_UNICAST: u8 = 1;
pub(super) const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_ANYCAST: u8 = 4;
const RTPROT_KERNEL: u8 = 2;
const RULE_HEADER_LEN: usize = 12;
const FRA_TABLE: u16 = 15;
const FRA_L3MDEV: u16 = 19;
/// A rule's action: look the route up in a table.
const FR_ACT_TO_TBL: u8 = 1;
/// A cached copy of another route, not an entry of the table.
pub(super) const RTM_F_CLONED: u32 = 0x200;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The link's index, which identifies it in every other call; never 0.
    pub index: u32,
    /// The name, at most 15 bytes.
    pub name: String,
    /// Whether the administrator has set it up (`IFF_UP`).
    pub up: bool,
    /// The largest packet in bytes, without the link-layer header.
    pub mtu: u32,
    /// The length of the transmit queue in packets.
    pub txqlen: u32,
}

impl Link {
    /// Reads an `RTM_NEWLINK` message.
    pub(super) fn parse(message: &[u8]) -> Option<Link> {
        let (header, attributes) = message.split_first_chunk::<LINK_HEADER_LEN>()?;
        let mut link = Link {
            index: host_u32(header.get(4..)?)?,
            name: String::new(),
            up: host_u32(header.get(8..)?)? & libc::IFF_UP as u32 != 0,
            mtu: 0,
            txqlen: 0,
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            match attribute.kind() {
                IFLA_IFNAME => link.name = text(attribute.value()),
                IFLA_MTU => link.mtu = host_u32(attribute.value())?,
                IFLA_TXQLEN => link.txqlen = host_u32(attribute.value())?,
                _ => {}
            }
        }
        Some(link)
    }
}

/// An IPv4 address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The index of the link that has the address.
    pub index: u32,
    /// The host's own address.
    pub addr: Ipv4Addr,
    /// The prefix length of its network; 32 on a point-to-point link, where the prefix belongs to the peer and appears
    /// among the routes.
    pub prefix: u8,
}

impl Address {
    /// Whether this address's subnet and `network`/`prefix` have an address in common.
    pub fn overlaps(&self, network: Ipv4Addr, prefix: u8) -> bool {
        let common = self.prefix.min(prefix).min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(common)).unwrap_or(0);
        (u32::from(self.addr) ^ u32::from(network)) & mask == 0
    }

    /// Reads an `RTM_NEWADDR` message. Ignores addresses of other families than IPv4.
    pub(super) fn parse_into(message: &[u8], list: &mut Vec<Address>) -> Option<()> {
        let (header, attributes) = message.split_first_chunk::<ADDRESS_HEADER_LEN>()?;
        let [family, prefix, _flags, _scope, ..] = *header;
        if i32::from(family) != libc::AF_INET {
            return Some(());
        }
        let index = host_u32(header.get(4..)?)?;
        let (mut local, mut peer) = (None, None);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            match attribute.kind() {
                IFA_LOCAL => local = Some(ipv4(attribute.value())?),
                IFA_ADDRESS => peer = Some(ipv4(attribute.value())?),
                _ => {}
            }
        }
        let addr = local.or(peer)?;
        let prefix = if peer.is_some_and(|peer| peer != addr) { 32 } else { prefix };
        list.push(Address { index, addr, prefix });
        Some(())
    }
}

/// An IPv4 route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// The destination network; 0.0.0.0 with prefix 0 is the default route.
    pub destination: Ipv4Addr,
    /// The prefix length of the destination.
    pub prefix: u8,
    /// The next hop; `None` for a directly connected network, and for blackhole, unreachable and prohibit routes.
    pub gateway: Option<Ipv4Addr>,
    /// The outgoing link; `None` for blackhole, unreachable and prohibit routes.
    pub index: Option<u32>,
    /// The priority among routes to one destination: the lowest wins, `None` is 0.
    pub metric: Option<u32>,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The kind of route as `rtm_type` of rtnetlink(7) numbers it; 1 is unicast.
    pub kind: u8,
    /// Where the route comes from, as `rtm_protocol` numbers it; 2 is the kernel.
    pub protocol: u8,
    /// Whether the next hop has an address of another family than IPv4 (`via inet6` of ip-route(8)).
    pub has_foreign_gateway: bool,
}

impl RouteEntry {
    /// Whether the destination is a network that the host is in: packets go to the link without a next hop.
    pub fn is_connected(&self) -> bool {
        self.kind == RTN_UNICAST && self.index.is_some() && self.gateway.is_none() && !self.has_foreign_gateway
    }

    /// The host's own address that the kernel has made this local route for.
    pub(super) fn own_address(&self) -> Option<Ipv4Addr> {
        (self.kind == RTN_LOCAL && self.protocol == RTPROT_KERNEL && self.prefix == 32).then_some(self.destination)
    }

    /// Whether the route carries packets into its link, unlike a local or broadcast address of the host.
    pub fn is_unicast(&self) -> bool {
        self.kind == RTN_UNICAST
    }

    /// Whether the host keeps packets to the destination for itself.
    pub(super) fn stays_here(&self) -> bool {
        matches!(self.kind, RTN_LOCAL | RTN_BROADCAST | RTN_ANYCAST)
    }

    /// Reads the outgoing link from the answer to a look-up of one route, which may be a cached copy.
    pub(super) fn link_of(message: &[u8]) -> Option<Option<u32>> {
        let (_, attributes) = message.split_first_chunk::<ROUTE_HEADER_LEN>()?;
        let mut link = None;
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            if attribute.kind() == RTA_OIF {
                link = Some(host_u32(attribute.value())?);
            }
        }
        Some(link)
    }

    /// Reads an `RTM_NEWROUTE` message: one entry for each next hop. Ignores cached copies and families other than
    /// IPv4.
    pub(super) fn parse_into(message: &[u8], list: &mut Vec<RouteEntry>) -> Option<()> {
        let (header, attributes) = message.split_first_chunk::<ROUTE_HEADER_LEN>()?;
        let [family, prefix, _source_prefix, _tos, table, protocol, _scope, kind, ..] = *header;
        if i32::from(family) != libc::AF_INET || host_u32(header.get(8..)?)? & RTM_F_CLONED != 0 {
            return Some(());
        }
        let mut route = RouteEntry {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix,
            gateway: None,
            index: None,
            metric: None,
            table: u32::from(table),
            kind,
            protocol,
            has_foreign_gateway: false,
        };
        let mut hops = None;
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            match attribute.kind() {
                RTA_DST => route.destination = ipv4(attribute.value())?,
                RTA_PRIORITY => route.metric = Some(host_u32(attribute.value())?),
                // The header has one byte for the table; this attribute holds every number.
                RTA_TABLE => route.table = host_u32(attribute.value())?,
                RTA_MULTIPATH => hops = Some(attribute),
                _ => route.take_hop(&attribute)?,
            }
        }
        match hops {
            Some(hops) => route.push_hops(hops.value(), list)?,
            None => list.push(route),
        }
        Some(())
    }

    /// Reads a gateway or an outgoing link from an attribute of the route or of one of its next hops.
    fn take_hop(&mut self, attribute: &NlaBuffer<&[u8]>) -> Option<()> {
        match attribute.kind() {
            RTA_GATEWAY => self.gateway = Some(ipv4(attribute.value())?),
            RTA_OIF => self.index = Some(host_u32(attribute.value())?),
            RTA_VIA => {
                let (family, address) = attribute.value().split_first_chunk::<2>()?;
                match i32::from(u16::from_ne_bytes(*family)) {
                    libc::AF_INET => self.gateway = Some(ipv4(address)?),
                    _ => self.has_foreign_gateway = true,
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Adds one copy of the route for each `rtnexthop` of a multipath route.
    fn push_hops(&self, mut hops: &[u8], list: &mut Vec<RouteEntry>) -> Option<()> {
        while !hops.is_empty() {
            let length = usize::from(u16::from_ne_bytes(*hops.first_chunk()?));
            let (header, attributes) = hops.get(..length)?.split_first_chunk::<NEXT_HOP_HEADER_LEN>()?;
            let mut route = RouteEntry { index: Some(host_u32(header.get(4..)?)?), ..*self };
            for attribute in NlasIterator::new(attributes) {
                route.take_hop(&attribute.ok()?)?;
            }
            list.push(route);
            hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(())
    }
}

/// The tables in which a routing rule makes the kernel look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleTable {
    /// The table with this number.
    One(u32),
    /// The table of whatever VRF a packet belongs to.
    Vrf,
}

impl RuleTable {
    /// Reads an `RTM_NEWRULE` message. Ignores rules that name no table, and families other than IPv4.
    pub(super) fn parse_into(message: &[u8], list: &mut Vec<RuleTable>) -> Option<()> {
        let (header, attributes) = message.split_first_chunk::<RULE_HEADER_LEN>()?;
        let [family, _to_prefix, _from_prefix, _tos, table, _, _, action, ..] = *header;
        if i32::from(family) != libc::AF_INET || action != FR_ACT_TO_TBL {
            return Some(());
        }
        let mut found = RuleTable::One(u32::from(table));
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            match attribute.kind() {
                FRA_TABLE if found != RuleTable::Vrf => found = RuleTable::One(host_u32(attribute.value())?),
                FRA_L3MDEV if attribute.value().first() == Some(&1) => found = RuleTable::Vrf,
                _ => {}
            }
        }
        list.push(found);
        Some(())
    }
}

pub(super) fn host_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().copied().map(Ipv4Addr::from)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::netlink) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link_message() -> Vec<u8> {
        let mut bytes = vec![0; LINK_HEADER_LEN];
        bytes[4..8].copy_from_slice(&7u32.to_ne_bytes());
        bytes[8..12].copy_from_slice(&(libc::IFF_UP as u32 | 0x1000).to_ne_bytes());
        bytes.extend(attribute(IFLA_IFNAME, b"tun0\0"));
        bytes.extend(attribute(999, &[1, 2, 3]));
        bytes.extend(attribute(IFLA_MTU, &1420u32.to_ne_bytes()));
        bytes.extend(attribute(IFLA_TXQLEN, &500u32.to_ne_bytes()));
        bytes
    }

    fn address_message(prefix: u8, local: Option<[u8; 4]>, peer: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![libc::AF_INET as u8, prefix, 0, 0];
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend(attribute(IFA_ADDRESS, &peer));
        bytes.extend(local.map(|local| attribute(IFA_LOCAL, &local)).unwrap_or_default());
        bytes
    }

    fn route_message(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![libc::AF_INET as u8, 16, 0, 0, 252, 0, 0, RTN_UNICAST, 0, 0, 0, 0];
        bytes.extend(attribute(RTA_DST, &[10, 1, 0, 0]));
        bytes.extend(attributes.concat());
        bytes
    }

    fn hop(index: u32, gateway: [u8; 4]) -> Vec<u8> {
        let gateway = attribute(RTA_GATEWAY, &gateway);
        let mut bytes = (NEXT_HOP_HEADER_LEN as u16 + gateway.len() as u16).to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(index.to_ne_bytes());
        bytes.extend(gateway);
        bytes
    }

    #[test]
    fn a_link_is_read_past_attributes_that_are_unknown() {
        let link = Link { index: 7, name: "tun0".into(), up: true, mtu: 1420, txqlen: 500 };
        assert_eq!(Link::parse(&link_message()), Some(link));
    }

    #[test]
    fn an_address_of_a_point_to_point_link_owns_no_prefix() {
        let mut list = Vec::new();
        Address::parse_into(&address_message(24, Some([10, 0, 0, 1]), [10, 0, 0, 1]), &mut list).unwrap();
        Address::parse_into(&address_message(24, Some([10, 0, 0, 1]), [10, 9, 9, 2]), &mut list).unwrap();
        Address::parse_into(&address_message(8, None, [127, 0, 0, 1]), &mut list).unwrap();
        let addr = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(
            list,
            [
                Address { index: 3, addr, prefix: 24 },
                Address { index: 3, addr, prefix: 32 },
                Address { index: 3, addr: Ipv4Addr::LOCALHOST, prefix: 8 },
            ]
        );
    }

    #[test]
    fn subnets_overlap_when_the_shorter_prefix_covers_both() {
        let address = Address { index: 1, addr: Ipv4Addr::new(10, 0, 3, 4), prefix: 24 };
        for (network, prefix, expected) in [
            ([10, 0, 3, 0], 24, true),
            ([10, 0, 3, 128], 25, true),
            ([10, 0, 0, 0], 8, true),
            ([0, 0, 0, 0], 0, true),
            ([10, 0, 3, 9], 32, true),
            ([10, 0, 2, 0], 24, false),
            ([10, 0, 0, 0], 23, false),
            ([11, 0, 0, 0], 8, false),
        ] {
            assert_eq!(address.overlaps(network.into(), prefix), expected, "{network:?}/{prefix}");
        }
    }

    #[test]
    fn a_route_takes_its_table_from_the_wide_attribute() {
        let attributes = [
            attribute(RTA_TABLE, &1000u32.to_ne_bytes()),
            attribute(RTA_GATEWAY, &[10, 0, 0, 1]),
            attribute(RTA_OIF, &2u32.to_ne_bytes()),
            attribute(RTA_PRIORITY, &50u32.to_ne_bytes()),
        ];
        let mut list = Vec::new();
        RouteEntry::parse_into(&route_message(&attributes), &mut list).unwrap();
        let expected = RouteEntry {
            destination: Ipv4Addr::new(10, 1, 0, 0),
            prefix: 16,
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            index: Some(2),
            metric: Some(50),
            table: 1000,
            kind: RTN_UNICAST,
            protocol: 0,
            has_foreign_gateway: false,
        };
        assert_eq!(list, [expected]);
    }

    #[test]
    fn a_multipath_route_gives_one_entry_a_hop() {
        let hops = [hop(2, [10, 0, 0, 1]), hop(3, [10, 0, 1, 1])].concat();
        let mut list = Vec::new();
        RouteEntry::parse_into(&route_message(&[attribute(RTA_MULTIPATH, &hops)]), &mut list).unwrap();
        let seen: Vec<_> = list.iter().map(|route| (route.index, route.gateway.map(|g| g.octets()))).collect();
        assert_eq!(seen, [(Some(2), Some([10, 0, 0, 1])), (Some(3), Some([10, 0, 1, 1]))]);
        assert!(list.iter().all(|route| route.table == 252 && route.prefix == 16));
    }

    #[test]
    fn a_network_of_the_host_is_told_from_one_behind_a_gateway() {
        let oif = attribute(RTA_OIF, &2u32.to_ne_bytes());
        let via =
            |family: i32, address: &[u8]| attribute(RTA_VIA, &[&(family as u16).to_ne_bytes()[..], address].concat());
        let cases = [
            (vec![oif.clone()], None, true),
            (vec![oif.clone(), attribute(RTA_GATEWAY, &[10, 0, 0, 1])], Some([10, 0, 0, 1]), false),
            (vec![oif.clone(), via(libc::AF_INET, &[10, 0, 0, 2])], Some([10, 0, 0, 2]), false),
            (vec![oif.clone(), via(libc::AF_INET6, &[0xfe; 16])], None, false),
            (vec![], None, false),
        ];
        for (attributes, gateway, is_connected) in cases {
            let mut list = Vec::new();
            RouteEntry::parse_into(&route_message(&attributes), &mut list).unwrap();
            assert_eq!((list[0].gateway, list[0].is_connected()), (gateway.map(Ipv4Addr::from), is_connected));
        }
        let mut local = route_message(&[oif]);
        (local[5], local[7]) = (RTPROT_KERNEL, RTN_LOCAL);
        let mut list = Vec::new();
        RouteEntry::parse_into(&local, &mut list).unwrap();
        assert!(!list[0].is_connected() && !list[0].is_unicast());
        assert_eq!(list[0].own_address(), None, "it is no single address");
        local[1] = 32;
        RouteEntry::parse_into(&local, &mut list).unwrap();
        assert_eq!(list[1].own_address(), Some(Ipv4Addr::new(10, 1, 0, 0)));
        assert_eq!(RouteEntry::link_of(&local), Some(Some(2)));
    }

    #[test]
    fn rules_name_their_tables() {
        let rule = |table: u8, action: u8, attributes: &[Vec<u8>]| {
            let mut bytes = vec![libc::AF_INET as u8, 0, 0, 0, table, 0, 0, action, 0, 0, 0, 0];
            bytes.extend(attributes.concat());
            bytes
        };
        let wide = attribute(FRA_TABLE, &51_820u32.to_ne_bytes());
        let mut list = Vec::new();
        for message in [
            rule(254, FR_ACT_TO_TBL, &[]),
            rule(0, FR_ACT_TO_TBL, &[wide]),
            rule(0, FR_ACT_TO_TBL, &[attribute(FRA_L3MDEV, &[1])]),
            rule(0, 7, &[]),
        ] {
            RuleTable::parse_into(&message, &mut list).unwrap();
        }
        assert_eq!(list, [RuleTable::One(254), RuleTable::One(51_820), RuleTable::Vrf]);
        assert_eq!(RuleTable::parse_into(&[2; 5], &mut list), None);
    }

    /// Every proper prefix of a message is either read (if it ends between attributes) or refused; none panics. A next
    /// hop whose length is below that of its header, above all 0, must not cause an endless loop.
    #[test]
    fn truncated_messages_are_refused() {
        let hops = attribute(RTA_MULTIPATH, &[hop(2, [10, 0, 0, 1]), hop(3, [10, 0, 1, 1])].concat());
        for message in [link_message(), address_message(24, Some([1, 2, 3, 4]), [1, 2, 3, 4]), route_message(&[hops])] {
            for end in 0..message.len() {
                let _ = Link::parse(&message[..end]);
                let _ = Address::parse_into(&message[..end], &mut Vec::new());
                let _ = RouteEntry::parse_into(&message[..end], &mut Vec::new());
            }
        }
        assert_eq!(Link::parse(&link_message()[..LINK_HEADER_LEN + 6]), None);
        assert_eq!(Address::parse_into(&address_message(24, None, [1, 2, 3, 4])[..10], &mut Vec::new()), None);
        assert_eq!(RouteEntry::parse_into(&route_message(&[])[..14], &mut Vec::new()), None);
        for length in [0u16, 7, 200] {
            let mut broken = hop(2, [10, 0, 0, 1]);
            broken[..2].copy_from_slice(&length.to_ne_bytes());
            let message = route_message(&[attribute(RTA_MULTIPATH, &broken)]);
            assert_eq!(RouteEntry::parse_into(&message, &mut Vec::new()), None, "next hop of length {length}");
        }
    }
}
