//! Changes to links, addresses and routes that only the demo and tests make.

use std::fmt;
use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};

use crate::netlink::{Netlink, NetlinkError, address_request, route_request};

impl Netlink {
    /// Removes an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the link does not have the address.
    pub fn del_address(&mut self, index: u32, addr: Ipv4Addr, prefix: u8) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelAddress(address_request(index, addr, prefix));
        self.command(request, 0, format_args!("delete address {addr}/{prefix} from link {index}"))
    }

    /// Adds a route to the main table, through a gateway, a link, or a gateway on a link. Its protocol is `static`, so
    /// that routing daemons and network managers leave it alone.
    ///
    /// # Errors
    /// `EEXIST` if a route to this destination exists, `ENETUNREACH` if the gateway cannot be reached.
    pub fn add_route(
        &mut self,
        destination: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        index: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let mut request = route_by(destination, prefix, gateway, index);
        request.header.protocol = RouteProtocol::Static;
        request.header.kind = RouteType::Unicast;
        request.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        let what = format_args!("add route {}", Path { destination, prefix, gateway, index });
        self.command(RouteNetlinkMessage::NewRoute(request), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Like [`Netlink::add_route`], through a gateway, with a locked MTU (`mtu lock` of ip-route(8)): the host ignores
    /// what ICMP says of the path's MTU.
    ///
    /// # Errors
    /// As [`Netlink::add_route`].
    pub fn add_route_of_locked_mtu(
        &mut self,
        destination: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        /// RTAX_MTU of linux/rtnetlink.h, as a bit of RTAX_LOCK.
        const MTU_BIT: u32 = 1 << 2;
        let mut request = route_by(destination, prefix, Some(gateway), None);
        request.header.protocol = RouteProtocol::Static;
        request.header.kind = RouteType::Unicast;
        request.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Lock(MTU_BIT), RouteMetric::Mtu(mtu)]));
        let what = format_args!("add route {destination}/{prefix} via {gateway} with MTU {mtu}");
        self.command(RouteNetlinkMessage::NewRoute(request), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Removes the route to this destination from the main table; a given gateway or link must match too.
    ///
    /// # Errors
    /// `ESRCH` if no route matches.
    pub fn del_route(
        &mut self,
        destination: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        index: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let mut request = route_by(destination, prefix, gateway, index);
        // In a deletion the kernel takes the scope "nowhere" as "any scope".
        request.header.scope = RouteScope::NoWhere;
        let what = format_args!("delete route {}", Path { destination, prefix, gateway, index });
        self.command(RouteNetlinkMessage::DelRoute(request), 0, what)
    }

    /// Creates a pair of virtual Ethernet links, both down. Deleting one deletes the other.
    pub fn add_veth(&mut self, name: &str, peer: &str) -> Result<(), NetlinkError> {
        let mut far = LinkMessage::default();
        far.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        let mut near = LinkMessage::default();
        near.attributes.push(LinkAttribute::IfName(name.to_owned()));
        near.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        let what = format_args!("add veth pair {name}, {peer}");
        self.command(RouteNetlinkMessage::NewLink(near), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Creates a VXLAN link (RFC 7348) between two addresses, down, with network number 7 on UDP port 4789. With
    /// `checksum` the outer datagrams have checksums.
    pub fn add_vxlan(
        &mut self,
        name: &str,
        local: Ipv4Addr,
        remote: Ipv4Addr,
        checksum: bool,
    ) -> Result<(), NetlinkError> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vec![
                InfoVxlan::Id(7),
                InfoVxlan::Local(local),
                InfoVxlan::Group(remote),
                InfoVxlan::Port(4789),
                InfoVxlan::UDPCsum(checksum),
                InfoVxlan::Learning(true),
            ])),
        ]));
        let what = format_args!("add VXLAN {name} from {local} to {remote}");
        self.command(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Sets the link's hardware address, the source of each Ethernet frame that it sends.
    ///
    /// # Errors
    /// If the address is a group's, or the kernel does not let the link have another.
    pub fn set_hardware_address(&mut self, index: u32, address: [u8; 6]) -> Result<(), NetlinkError> {
        let what = format_args!("set hardware address {address:02x?} on link {index}");
        self.set_attribute(index, LinkAttribute::Address(address.to_vec()), what)
    }

    /// Moves the link into the network namespace of process `pid`. The link arrives down and without addresses.
    pub fn set_netns_by_pid(&mut self, index: u32, pid: u32) -> Result<(), NetlinkError> {
        let what = format_args!("move link {index} to the network namespace of process {pid}");
        self.set_attribute(index, LinkAttribute::NetNsPid(pid), what)
    }
}

/// A route in the form of an error message: "10.0.0.0/8 via 192.168.1.1 on link 2".
struct Path {
    destination: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    index: Option<u32>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.destination, self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(index) = self.index {
            write!(f, " on link {index}")?;
        }
        Ok(())
    }
}

fn route_by(destination: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>, index: Option<u32>) -> RouteMessage {
    let mut request = route_request(destination, prefix);
    request.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::Inet(gateway))));
    request.attributes.extend(index.map(RouteAttribute::Oif));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_named_by_its_known_parts() {
        let path = |gateway, index| Path { destination: Ipv4Addr::new(10, 0, 0, 0), prefix: 8, gateway, index };
        assert_eq!(path(None, None).to_string(), "10.0.0.0/8");
        assert_eq!(path(None, Some(3)).to_string(), "10.0.0.0/8 on link 3");
        let gateway = Some(Ipv4Addr::new(192, 168, 1, 1));
        assert_eq!(path(gateway, Some(2)).to_string(), "10.0.0.0/8 via 192.168.1.1 on link 2");
    }
}
