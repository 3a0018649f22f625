//! Addresses, routes and rules as lists, whole while they change.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::reply::RuleTable;
use super::{Address, Netlink, NetlinkError, RouteEntry, SHORT_PATIENCE, socket};

impl Netlink {
    /// All IPv4 addresses of the namespace. Like each listing, it is repeated for up to [`PATIENCE`](super::PATIENCE)
    /// while changes interrupt it.
    ///
    /// The kernel continues a long list of addresses by position, so that a listing which a change interrupts may lack
    /// one that was there all the time, and a thousand changes a second interrupt each listing of thousands. It
    /// continues the routing tables by key, and keeps a local route for each address. So the listings together are
    /// whole, too, when they have all addresses of the local routes.
    ///
    /// # Errors
    /// [`NetlinkError::Changing`] if the addresses change too fast for that.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let what = format_args!("list addresses");
        let mut seen = HashSet::new();
        socket::until_whole(what, self.patience, || {
            let (list, is_whole) = self.socket.dump_once(addresses_request(0), what, Address::parse_into)?;
            if is_whole {
                return Ok(Some(list));
            }
            seen.extend(list);
            let there: HashSet<_> = self.own_addresses()?.into_iter().collect();
            let known: HashSet<_> = seen.iter().map(|address| (address.index, address.addr)).collect();
            let list = || seen.iter().copied().filter(|one| there.contains(&(one.index, one.addr))).collect();
            Ok(there.is_subset(&known).then(list))
        })
    }

    /// The host's own addresses and their links, as the local routes have them.
    fn own_addresses(&mut self) -> Result<Vec<(u32, Ipv4Addr)>, NetlinkError> {
        let routes = self.all_routes()?;
        Ok(routes.iter().filter_map(|route| Some((route.index?, route.own_address()?))).collect())
    }

    /// The IPv4 addresses of one link. It takes 20 ms at most.
    pub fn addresses_of(&mut self, index: u32) -> Result<Vec<Address>, NetlinkError> {
        let what = format_args!("list addresses of link {index}");
        let mut list = self.socket.dump(addresses_request(index), what, SHORT_PATIENCE, Address::parse_into)?;
        // Kernels before 4.20 list those of all links.
        list.retain(|address| address.index == index);
        Ok(list)
    }

    /// The IPv4 routes of the main table, one entry for each next hop of a multipath route.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut routes = self.all_routes()?;
        routes.retain(|route| route.table == u32::from(RouteHeader::RT_TABLE_MAIN));
        Ok(routes)
    }

    /// The IPv4 routes of every table that a routing rule names, and of the main table. With VRFs those of all tables.
    pub fn routes_in_use(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let tables = self.rule_tables()?;
        let mut routes = self.all_routes()?;
        if !tables.contains(&RuleTable::Vrf) {
            let main = RuleTable::One(u32::from(RouteHeader::RT_TABLE_MAIN));
            let is_used = |table| table == main || tables.contains(&table);
            routes.retain(|route| is_used(RuleTable::One(route.table)));
        }
        Ok(routes)
    }

    fn all_routes(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetRoute(request);
        self.socket.dump(request, format_args!("list routes"), self.patience, RouteEntry::parse_into)
    }

    fn rule_tables(&mut self) -> Result<Vec<RuleTable>, NetlinkError> {
        let mut request = RuleMessage::default();
        request.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetRule(request);
        match self.socket.dump(request, format_args!("list routing rules"), self.patience, RuleTable::parse_into) {
            // A kernel without policy routing has the main table alone.
            Err(NetlinkError::Kernel { errno: libc::EOPNOTSUPP, .. }) => Ok(Vec::new()),
            result => result,
        }
    }

    /// Whether a route leads into the link. It asks for the route to `towards` first, which costs the same with any
    /// number of routes, and reads the tables only if that leads elsewhere. It takes 20 ms at most, and the time that
    /// the kernel needs for its tables.
    pub fn has_route(&mut self, index: u32, towards: Ipv4Addr) -> Result<bool, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.destination_prefix_length = 32;
        request.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(towards)));
        let what = format_args!("look up the route to {towards}");
        let link = match self.socket.query(RouteNetlinkMessage::GetRoute(request), what) {
            Ok(answer) => RouteEntry::link_of(&answer).ok_or(NetlinkError::Malformed)?,
            // No route, or one that discards.
            Err(NetlinkError::Kernel { .. }) => None,
            Err(error) => return Err(error),
        };
        if link == Some(index) {
            return Ok(true);
        }
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.attributes.push(RouteAttribute::Oif(index));
        let request = RouteNetlinkMessage::GetRoute(request);
        let what = format_args!("list routes of link {index}");
        let routes = self.socket.dump(request, what, SHORT_PATIENCE, RouteEntry::parse_into)?;
        Ok(routes.iter().any(|route| route.index == Some(index) && route.is_unicast()))
    }
}

/// A request for the IPv4 addresses of a link; with 0 of all links.
fn addresses_request(index: u32) -> RouteNetlinkMessage {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    request.header.index = index;
    RouteNetlinkMessage::GetAddress(request)
}
