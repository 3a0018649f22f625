//! IPv6 addresses and routes of the hosts of a test.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{Netlink, NetlinkError, route_request};

impl Netlink {
    /// Adds an IPv6 address, which is used at once: no other host is asked whether it has it.
    ///
    /// # Errors
    /// `EEXIST` if the link already has this address.
    pub fn add_address6(&mut self, index: u32, addr: Ipv6Addr, prefix: u8) -> Result<(), NetlinkError> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet6;
        request.header.index = index;
        request.header.prefix_len = prefix;
        request.header.flags = AddressHeaderFlags::Nodad;
        request.attributes =
            vec![AddressAttribute::Local(IpAddr::V6(addr)), AddressAttribute::Address(IpAddr::V6(addr))];
        let what = format_args!("add address {addr}/{prefix} to link {index}");
        self.command(RouteNetlinkMessage::NewAddress(request), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Adds an IPv6 route through a gateway to the main table, with this metric.
    ///
    /// # Errors
    /// `EEXIST` if there is one to this destination with this metric, `EHOSTUNREACH` if the gateway cannot be reached.
    pub fn add_route6(&mut self, to: (Ipv6Addr, u8), gateway: Ipv6Addr, metric: u32) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewRoute(route6(to, gateway, metric));
        let what = format_args!("add route {}/{} via {gateway}", to.0, to.1);
        self.command(request, NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Removes a route that [`Netlink::add_route6`] has added.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    pub fn del_route6(&mut self, to: (Ipv6Addr, u8), gateway: Ipv6Addr, metric: u32) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelRoute(route6(to, gateway, metric));
        self.command(request, 0, format_args!("delete route {}/{} via {gateway}", to.0, to.1))
    }
}

fn route6((destination, prefix): (Ipv6Addr, u8), gateway: Ipv6Addr, metric: u32) -> RouteMessage {
    let mut request = route_request(destination, prefix);
    request.header.protocol = RouteProtocol::Static;
    request.header.kind = RouteType::Unicast;
    request.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(gateway)));
    request.attributes.push(RouteAttribute::Priority(metric));
    request
}
