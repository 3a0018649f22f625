//! The destinations whose packets the host keeps for itself.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::reply::RouteEntry;
use super::{Netlink, NetlinkError};

impl Netlink {
    /// Whether the address is one of this host, loopback included.
    pub fn is_own(&mut self, address: IpAddr) -> Result<bool, NetlinkError> {
        match address.to_canonical() {
            IpAddr::V4(address) => Ok(address.is_loopback() || self.addresses()?.iter().any(|own| own.addr == address)),
            IpAddr::V6(address) => Ok(address.is_loopback() || self.is_own6(address)?),
        }
    }

    /// The IPv4 networks whose packets the host delivers to itself, as addresses and prefix lengths: its addresses,
    /// including those in VRFs, the broadcast addresses of its networks, and what the administrator has added to the
    /// table `local` (`ip route add local 192.0.2.0/24 dev lo`). It reads no other table, since kernel 4.20.
    pub fn own_destinations(&mut self) -> Result<Vec<(Ipv4Addr, u8)>, NetlinkError> {
        let mut own: Vec<_> = self.addresses()?.into_iter().map(|address| (address.addr, 32)).collect();
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.table = libc::RT_TABLE_LOCAL;
        let request = RouteNetlinkMessage::GetRoute(request);
        let routes =
            self.socket.dump(request, format_args!("list local routes"), self.patience, RouteEntry::parse_into)?;
        let is_own = |route: &&RouteEntry| route.table == u32::from(libc::RT_TABLE_LOCAL) && route.stays_here();
        own.extend(routes.iter().filter(is_own).map(|route| (route.destination, route.prefix)));
        Ok(own)
    }
}
