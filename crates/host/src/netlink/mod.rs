//! Links, addresses and routes of the host, over the kernel's rtnetlink(7), without external commands.
//!
//! [`Netlink`] is one synchronous `NETLINK_ROUTE` socket: each method sends one request and waits for the kernel's
//! answer, which comes at once. The socket belongs to the network namespace in which the calling thread opened it, and
//! stays there on any thread.
//!
//! `netlink-packet-route` builds the requests. `reply` reads the answers: only the few attributes that this crate
//! needs. A link type that a library does not know must not stop a VPN.

mod ipv6;
mod listing;
mod own;
mod reply;
pub(crate) mod socket;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

pub use ipv6::Route6Entry;
pub use reply::{Address, Link, RouteEntry};

/// How long a listing is repeated while changes of its table interrupt it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The same for a thread that others wait for, and for questions about one link: their answer is short, so that a change
/// rarely interrupts it.
pub const SHORT_PATIENCE: Duration = Duration::from_millis(20);

/// The `rtm_protocol` of the routes that [`Netlink::set_route`] sets: none of those that the kernel's rtnetlink.h names, so
/// that they are told apart from the routes of other programs.
pub const OUR_ROUTE: u8 = 108;

/// One rtnetlink socket. Every change needs `CAP_NET_ADMIN` in its network namespace; reading needs no privilege.
///
/// Methods take `&mut self` because a socket has one request under way at a time. `Send`, so it may move to another
/// thread.
///
/// ```
/// use host::netlink::{Netlink, NetlinkError};
///
/// let mut netlink = Netlink::open()?;
/// let index = netlink.link_index("lo")?;
/// assert_eq!(netlink.link(index)?.name, "lo");
///
/// let error = netlink.link_index("no-such-link").map_err(|error| error.to_string());
/// assert_eq!(error, Err("link no-such-link does not exist".to_owned()));
/// # Ok::<(), NetlinkError>(())
/// ```
#[derive(Debug)]
pub struct Netlink {
    socket: socket::KernelSocket,
    /// How long a listing is repeated.
    patience: Duration,
}

/// Errors of the requests to the kernel.
#[derive(thiserror::Error, Debug)]
pub enum NetlinkError {
    /// The socket could not be opened: out of descriptors, or a sandbox forbids `AF_NETLINK`.
    #[error("open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The request could not be sent.
    #[error("send to the kernel's netlink: {0}")]
    Send(#[source] io::Error),
    /// The answer could not be received.
    #[error("receive from the kernel's netlink: {0}")]
    Receive(#[source] io::Error),
    /// The kernel refused. `what` is the operation with its object, `errno` the kernel's positive error number.
    #[error("{what}: {}", io::Error::from_raw_os_error(*.errno))]
    Kernel {
        /// The operation and its object, as in "add address 10.0.0.1/24 to link 7".
        what: String,
        /// A positive `errno` value.
        errno: i32,
    },
    /// The link does not exist; the text names it.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A table changed during every reading, so that no reading was whole.
    #[error(
        "{what}: the kernel's table changed during each of the readings of {} s (NLM_F_DUMP_INTR); expected one without \
         a change",
        .patience.as_secs_f32()
    )]
    Changing {
        /// The operation, as in "list addresses".
        what: String,
        /// For how long it was repeated.
        patience: Duration,
    },
    /// The kernel's answer breaks the netlink framing, or exceeds the receive buffer.
    #[error("the kernel's netlink answer is malformed")]
    Malformed,
}

impl NetlinkError {
    /// The kernel's error number, if the kernel refused: `libc::EEXIST` for an existing address, for example.
    pub fn errno(&self) -> Option<i32> {
        match self {
            NetlinkError::Kernel { errno, .. } => Some(*errno),
            NetlinkError::Open(error) | NetlinkError::Send(error) | NetlinkError::Receive(error) => {
                error.raw_os_error()
            }
            NetlinkError::NotFound(_) => Some(libc::ENODEV),
            NetlinkError::Changing { .. } => Some(libc::EAGAIN),
            NetlinkError::Malformed => None,
        }
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Netlink, NetlinkError> {
        Netlink::with_patience(PATIENCE)
    }

    /// As [`Netlink::open`], with another patience than [`PATIENCE`] for its listings.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn with_patience(patience: Duration) -> Result<Netlink, NetlinkError> {
        Ok(Netlink { socket: socket::KernelSocket::open(NETLINK_ROUTE)?, patience })
    }

    /// The index of the link called `name`.
    ///
    /// # Errors
    /// [`NetlinkError::NotFound`] if no link has this name.
    pub fn link_index(&mut self, name: &str) -> Result<u32, NetlinkError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(request, format_args!("link {name}")).map(|link| link.index)
    }

    /// The link with this index.
    ///
    /// # Errors
    /// [`NetlinkError::NotFound`] if no link has this index.
    pub fn link(&mut self, index: u32) -> Result<Link, NetlinkError> {
        self.get_link(link_request(index), format_args!("link {index}"))
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.socket.dump(request, format_args!("list links"), self.patience, |payload, links| {
            links.push(Link::parse(payload)?);
            Some(())
        })
    }

    /// Adds the route to a link's own network that the kernel adds when the link comes up with the address, in the main
    /// table.
    ///
    /// # Errors
    /// `EEXIST` if the main table has a route to this network.
    pub fn add_connected_route(&mut self, index: u32, addr: Ipv4Addr, prefix: u8) -> Result<(), NetlinkError> {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let network = Ipv4Addr::from(u32::from(addr) & mask);
        let mut request = link_route(index, (network, prefix), RouteProtocol::Kernel);
        request.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(addr)));
        let what = format_args!("add route {network}/{prefix} on link {index}");
        self.command(RouteNetlinkMessage::NewRoute(request), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Adds a route through a link, without a next hop, in the main table, for which the host uses its address `source`. It
    /// ends with the link, and is known by [`OUR_ROUTE`]. A route of the main table to this network whose metric is 0 too
    /// is replaced in one step.
    pub fn set_route(
        &mut self,
        index: u32,
        (network, prefix): (Ipv4Addr, u8),
        source: Ipv4Addr,
    ) -> Result<(), NetlinkError> {
        let mut request = link_route(index, (network, prefix), RouteProtocol::Other(OUR_ROUTE));
        request.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        let what = format_args!("set route {network}/{prefix} on link {index}");
        self.command(RouteNetlinkMessage::NewRoute(request), NLM_F_CREATE | NLM_F_REPLACE, what)
    }

    /// Deletes a route that [`Netlink::set_route`] has set.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    pub fn unset_route(&mut self, index: u32, (network, prefix): (Ipv4Addr, u8)) -> Result<(), NetlinkError> {
        let request = link_route(index, (network, prefix), RouteProtocol::Other(OUR_ROUTE));
        let what = format_args!("delete route {network}/{prefix} on link {index}");
        self.command(RouteNetlinkMessage::DelRoute(request), 0, what)
    }

    /// Sets the link up. Idempotent.
    pub fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.set_flags(index, LinkFlags::Up, format_args!("set link {index} up"))
    }

    /// Sets the link down. Idempotent. Routes through the link vanish.
    pub fn set_down(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.set_flags(index, LinkFlags::empty(), format_args!("set link {index} down"))
    }

    /// Renames the link. Older kernels allow that only while the link is down.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        let what = format_args!("rename link {index} to {name}");
        self.set_attribute(index, LinkAttribute::IfName(name.to_owned()), what)
    }

    /// Sets the link's MTU in bytes. The kernel checks the device's bounds.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set_attribute(index, LinkAttribute::Mtu(mtu), format_args!("set MTU {mtu} on link {index}"))
    }

    /// Sets the length of the link's transmit queue in packets. On a TUN device this is the capacity of each queue.
    pub fn set_txqlen(&mut self, index: u32, len: u32) -> Result<(), NetlinkError> {
        let what = format_args!("set transmit queue length {len} on link {index}");
        self.set_attribute(index, LinkAttribute::TxQueueLen(len), what)
    }

    /// Adds an address. Once the link is up, the kernel also adds the route to the address's subnet.
    ///
    /// # Errors
    /// `EEXIST` if the link already has this address; see [`NetlinkError::errno`].
    pub fn add_address(&mut self, index: u32, addr: Ipv4Addr, prefix: u8) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewAddress(address_request(index, addr, prefix));
        let what = format_args!("add address {addr}/{prefix} to link {index}");
        self.command(request, NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Deletes the link with its addresses and routes.
    ///
    /// # Errors
    /// [`NetlinkError::NotFound`] if no link has this index.
    pub fn del_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelLink(link_request(index));
        not_found(self.command(request, 0, format_args!("delete link {index}")), format_args!("link {index}"))
    }

    /// Sends a change and waits for its acknowledgement; `what` names the change in an error.
    pub(crate) fn command(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        what: fmt::Arguments<'_>,
    ) -> Result<(), NetlinkError> {
        self.socket.command(request, flags, what)
    }

    fn get_link(&mut self, request: LinkMessage, link: fmt::Arguments<'_>) -> Result<Link, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(request);
        let payload = not_found(self.socket.query(request, format_args!("look up {link}")), link)?;
        Link::parse(&payload).ok_or(NetlinkError::Malformed)
    }

    pub(crate) fn set_flags(
        &mut self,
        index: u32,
        flags: LinkFlags,
        what: fmt::Arguments<'_>,
    ) -> Result<(), NetlinkError> {
        let mut request = link_request(index);
        request.header.flags = flags;
        request.header.change_mask = LinkFlags::Up;
        self.command(RouteNetlinkMessage::SetLink(request), 0, what)
    }

    pub(crate) fn set_attribute(
        &mut self,
        index: u32,
        attribute: LinkAttribute,
        what: fmt::Arguments<'_>,
    ) -> Result<(), NetlinkError> {
        let mut request = link_request(index);
        request.attributes.push(attribute);
        self.command(RouteNetlinkMessage::SetLink(request), 0, what)
    }
}

fn not_found<T>(result: Result<T, NetlinkError>, object: fmt::Arguments<'_>) -> Result<T, NetlinkError> {
    result.map_err(|error| match error {
        NetlinkError::Kernel { errno: libc::ENODEV, .. } => NetlinkError::NotFound(object.to_string()),
        other => other,
    })
}

/// A request about the main table's route to a network through a link, without a next hop.
fn link_route(index: u32, (network, prefix): (impl Into<IpAddr>, u8), protocol: RouteProtocol) -> RouteMessage {
    let mut request = route_request(network, prefix);
    request.header.protocol = protocol;
    request.header.scope = RouteScope::Link;
    request.header.kind = RouteType::Unicast;
    request.attributes.push(RouteAttribute::Oif(index));
    request
}

/// A request about the main table's routes to a network.
pub(crate) fn route_request(network: impl Into<IpAddr>, prefix: u8) -> RouteMessage {
    let (family, network) = match network.into() {
        IpAddr::V4(network) => (AddressFamily::Inet, RouteAddress::Inet(network)),
        IpAddr::V6(network) => (AddressFamily::Inet6, RouteAddress::Inet6(network)),
    };
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.header.destination_prefix_length = prefix;
    request.header.table = RouteHeader::RT_TABLE_MAIN;
    request.attributes.push(RouteAttribute::Destination(network));
    request
}

fn link_request(index: u32) -> LinkMessage {
    let mut request = LinkMessage::default();
    request.header.index = index;
    request
}

pub(crate) fn address_request(index: u32, addr: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    request.header.index = index;
    request.header.prefix_len = prefix;
    request.header.scope = AddressScope::Universe;
    request.attributes = vec![AddressAttribute::Local(IpAddr::V4(addr)), AddressAttribute::Address(IpAddr::V4(addr))];
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_operation_its_object_and_the_reason() {
        let error = NetlinkError::Kernel { what: "add address 10.0.0.1/24 to link 7".into(), errno: libc::EEXIST };
        assert_eq!(error.to_string(), "add address 10.0.0.1/24 to link 7: File exists (os error 17)");
        assert_eq!(error.errno(), Some(libc::EEXIST));
    }

    /// Every namespace has a loopback link with index 1, and reading needs no privilege.
    #[test]
    fn the_loopback_link_is_found_by_name_and_by_index() {
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link_index("lo").unwrap();
        let link = netlink.link(index).unwrap();
        assert_eq!((link.index, link.name.as_str()), (index, "lo"));
        assert!(netlink.links().unwrap().contains(&link));
    }

    #[test]
    fn a_missing_link_is_not_found() {
        let mut netlink = Netlink::open().unwrap();
        let error = netlink.link_index("no-such-link0").unwrap_err();
        assert!(matches!(error, NetlinkError::NotFound(_)), "{error:?}");
        assert_eq!(error.to_string(), "link no-such-link0 does not exist");
        let error = netlink.link(0x7fff_fff0).unwrap_err();
        assert!(matches!(error, NetlinkError::NotFound(_)), "{error:?}");
    }
}
