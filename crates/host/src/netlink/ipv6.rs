//! IPv6 routes: the host's, and those into the tunnel.

use std::net::Ipv6Addr;

use netlink_packet_core::{NLM_F_CREATE, NlasIterator};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::reply::{
    ROUTE_HEADER_LEN, RTA_DST, RTA_GATEWAY, RTA_MULTIPATH, RTA_OIF, RTA_PRIORITY, RTA_TABLE, RTM_F_CLONED, RTN_LOCAL,
    RTN_UNICAST, host_u32,
};
use super::{Netlink, NetlinkError, OUR_ROUTE, link_route, route_request};

/// The metric of the routes that [`Netlink::set_route6`] sets: the best that IPv6 has, where 0 stands for 1024. It counts
/// among routes to the same network alone.
const METRIC: u32 = 1;

/// An IPv6 route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route6Entry {
    /// The destination network; `::` with prefix 0 is the default route.
    pub destination: Ipv6Addr,
    /// The prefix length of the destination.
    pub prefix: u8,
    /// The outgoing link; `None` for a route with several next hops.
    pub index: Option<u32>,
    /// Whether packets go to a gateway, not to hosts on the link.
    pub has_gateway: bool,
    /// The priority among routes to one destination: the lowest wins.
    pub metric: u32,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The kind of route as `rtm_type` of rtnetlink(7) numbers it; 1 is unicast.
    pub kind: u8,
    /// Where the route comes from, as `rtm_protocol` numbers it; 2 is the kernel.
    pub protocol: u8,
}

impl Route6Entry {
    /// Whether the route carries packets into its link, unlike one of the host's own addresses, or one that discards.
    pub fn is_unicast(&self) -> bool {
        self.kind == RTN_UNICAST
    }

    /// Reads an `RTM_NEWROUTE` message. Ignores cached copies and families other than IPv6.
    fn parse_into(message: &[u8], list: &mut Vec<Route6Entry>) -> Option<()> {
        let header = message.first_chunk::<ROUTE_HEADER_LEN>()?;
        let is_listed = i32::from(header[0]) == libc::AF_INET6 && host_u32(header.get(8..)?)? & RTM_F_CLONED == 0;
        if is_listed {
            list.push(Route6Entry::parse(message)?);
        }
        Some(())
    }

    /// Reads an `RTM_NEWROUTE` message of an IPv6 route, which may be a cached copy.
    fn parse(message: &[u8]) -> Option<Route6Entry> {
        let (header, attributes) = message.split_first_chunk::<ROUTE_HEADER_LEN>()?;
        let [_family, prefix, _source_prefix, _tos, table, protocol, _scope, kind, ..] = *header;
        let mut route = Route6Entry {
            destination: Ipv6Addr::UNSPECIFIED,
            prefix,
            index: None,
            has_gateway: false,
            metric: 0,
            table: u32::from(table),
            kind,
            protocol,
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            let value = attribute.value();
            match attribute.kind() {
                RTA_DST => route.destination = value.first_chunk::<16>().copied()?.into(),
                RTA_OIF => route.index = Some(host_u32(value)?),
                RTA_GATEWAY | RTA_MULTIPATH => route.has_gateway = true,
                RTA_PRIORITY => route.metric = host_u32(value)?,
                RTA_TABLE => route.table = host_u32(value)?,
                _ => {}
            }
        }
        Some(route)
    }
}

impl Netlink {
    /// The IPv6 routes of all tables but that of the host's own addresses; none where the kernel has no IPv6.
    pub fn routes6(&mut self) -> Result<Vec<Route6Entry>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet6;
        let request = RouteNetlinkMessage::GetRoute(request);
        let dump = self.socket.dump(request, format_args!("list IPv6 routes"), self.patience, Route6Entry::parse_into);
        let mut routes = match dump {
            Err(NetlinkError::Kernel { errno: libc::EOPNOTSUPP | libc::EAFNOSUPPORT, .. }) => Vec::new(),
            result => result?,
        };
        routes.retain(|route| route.table != u32::from(libc::RT_TABLE_LOCAL));
        Ok(routes)
    }

    /// Whether the address is one of this host, loopback included.
    pub fn is_own6(&mut self, address: Ipv6Addr) -> Result<bool, NetlinkError> {
        Ok(self.route6_to(address)?.is_some_and(|route| route.kind == RTN_LOCAL))
    }

    /// Whether the host sends packets to the address into the link. It costs the same with any number of routes.
    pub fn has_route6(&mut self, index: u32, towards: Ipv6Addr) -> Result<bool, NetlinkError> {
        Ok(self.route6_to(towards)?.is_some_and(|route| route.is_unicast() && route.index == Some(index)))
    }

    /// Looks up the route to an address; `None` if there is none, or one that discards.
    fn route6_to(&mut self, address: Ipv6Addr) -> Result<Option<Route6Entry>, NetlinkError> {
        let mut request = route_request(address, 128);
        // By all tables, as the host's packets.
        request.header.table = libc::RT_TABLE_UNSPEC;
        let what = format_args!("look up the route to {address}");
        match self.socket.query(RouteNetlinkMessage::GetRoute(request), what) {
            Ok(answer) => Route6Entry::parse(&answer).map(Some).ok_or(NetlinkError::Malformed),
            Err(NetlinkError::Kernel { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds an IPv6 route through a link, without a next hop, in the main table. It ends with the link, and is known by
    /// [`OUR_ROUTE`]. It stands before another link's route to the same network, which stays. Idempotent.
    ///
    /// # Errors
    /// `EACCES`, `ENODEV` or `EINVAL` if the link has no IPv6.
    pub fn set_route6(&mut self, index: u32, (network, prefix): (Ipv6Addr, u8)) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewRoute(link_route6(index, (network, prefix)));
        match self.command(request, NLM_F_CREATE, format_args!("set route {network}/{prefix} on link {index}")) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Deletes a route that [`Netlink::set_route6`] has set.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    pub fn unset_route6(&mut self, index: u32, (network, prefix): (Ipv6Addr, u8)) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelRoute(link_route6(index, (network, prefix)));
        self.command(request, 0, format_args!("delete route {network}/{prefix} on link {index}"))
    }
}

fn link_route6(index: u32, network: (Ipv6Addr, u8)) -> RouteMessage {
    let mut request = link_route(index, network, RouteProtocol::Other(OUR_ROUTE));
    request.attributes.push(RouteAttribute::Priority(METRIC));
    request
}

#[cfg(test)]
mod tests {
    use super::super::reply::tests::attribute;
    use super::*;

    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [libc::AF_INET6 as u8, 64, 0, 0, 254, OUR_ROUTE, 0, RTN_UNICAST, 0, 0, 0, 0];
        [&header[..], &attributes.concat()].concat()
    }

    #[test]
    fn a_route_is_read_from_its_attributes() {
        let network: Ipv6Addr = "2001:db8::".parse().unwrap();
        let attributes = [
            attribute(RTA_DST, &network.octets()),
            attribute(RTA_OIF, &5_u32.to_ne_bytes()),
            attribute(RTA_PRIORITY, &1024_u32.to_ne_bytes()),
            attribute(RTA_TABLE, &7000_u32.to_ne_bytes()),
        ];
        let mut list = Vec::new();
        Route6Entry::parse_into(&message(&attributes), &mut list).unwrap();
        let expected = Route6Entry {
            destination: network,
            prefix: 64,
            index: Some(5),
            has_gateway: false,
            metric: 1024,
            table: 7000,
            kind: RTN_UNICAST,
            protocol: OUR_ROUTE,
        };
        assert_eq!(list, [expected]);
        Route6Entry::parse_into(&message(&[attribute(RTA_GATEWAY, &network.octets())]), &mut list).unwrap();
        assert!(list[1].has_gateway && list[1].destination.is_unspecified());

        let whole = message(&attributes);
        for len in [0, ROUTE_HEADER_LEN - 1, ROUTE_HEADER_LEN + 5, whole.len() - 1] {
            assert!(Route6Entry::parse_into(&whole[..len], &mut list).is_none(), "{len}");
        }
        let mut other = whole.clone();
        other[0] = libc::AF_INET as u8;
        Route6Entry::parse_into(&other, &mut list).unwrap();
        let mut cached = whole;
        cached[8..12].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
        Route6Entry::parse_into(&cached, &mut list).unwrap();
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn loopback_is_this_hosts() {
        let mut netlink = Netlink::open().unwrap();
        assert!(netlink.routes6().unwrap().iter().all(|route| route.table != u32::from(libc::RT_TABLE_LOCAL)));
        assert!(!netlink.is_own6("2001:db8::1".parse().unwrap()).unwrap());
    }
}
