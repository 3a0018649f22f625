//! How this host reaches a server, and when that changes: another default route, a new address, a link that goes or
//! comes, a machine that was suspended.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use rustix::time::{ClockId, clock_gettime};

use crate::descriptors::open_above_stdio;

/// The kernel's multicast groups (rtnetlink.h): links, IPv4 addresses and routes, IPv6 addresses and routes.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// A machine that slept for less counts as awake: TCP does not notice it either.
const SUSPENDED: Duration = Duration::from_secs(2);
/// UDP's discard port: a connected socket asks the kernel for its route and sends nothing.
pub(crate) const ANY_PORT: u16 = 9;

/// What has happened to the way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The address that this host has used towards the server is no longer its own: connections from it are dead.
    AddressGone,
    /// This host would use another of its addresses now.
    Moved,
    /// No route leads to the server at present.
    Unreachable,
    /// The machine was suspended.
    Resumed,
}

/// Watches the way to one server. Use it on one thread, in the network namespace where it was made; it never blocks.
#[derive(Debug)]
pub struct OuterPath {
    server: IpAddr,
    /// Receives the kernel's messages on changes.
    messages: Socket,
    /// This host's address towards the server.
    source: Option<IpAddr>,
    /// How long the machine has been suspended since it started.
    asleep: Duration,
}

/// Returns the address by which this host reaches what listens on `address`: loopback for one that listens on all.
pub fn on_this_host(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl OuterPath {
    /// Begins to watch.
    ///
    /// # Errors
    /// If the kernel gives no netlink socket.
    pub fn new(server: IpAddr) -> io::Result<OuterPath> {
        let mut messages = open_above_stdio(|| Socket::new(NETLINK_ROUTE))?;
        messages.bind(&NetlinkAddr::new(0, 0))?;
        messages.set_non_blocking(true)?;
        for group in GROUPS {
            messages.add_membership(group)?;
        }
        Ok(OuterPath { server, messages, source: source_towards(server), asleep: asleep() })
    }

    /// Returns what has changed since the last look, for the routes and addresses towards this server.
    pub fn look(&mut self) -> Option<Change> {
        self.look_after(asleep())
    }

    fn look_after(&mut self, asleep: Duration) -> Option<Change> {
        if asleep.saturating_sub(std::mem::replace(&mut self.asleep, asleep)) >= SUSPENDED {
            self.source = source_towards(self.server);
            return Some(Change::Resumed);
        }
        if !self.has_messages() {
            return None;
        }
        let source = source_towards(self.server);
        let before = std::mem::replace(&mut self.source, source);
        match (before, source) {
            (before, source) if before == source => None,
            (Some(before), _) if !is_own(before) => Some(Change::AddressGone),
            (_, Some(_)) => Some(Change::Moved),
            (_, None) => Some(Change::Unreachable),
        }
    }

    /// Returns whether a route led to the server at the last look.
    pub fn is_reachable(&self) -> bool {
        self.source.is_some()
    }

    /// Reads all messages. What they say is not looked at: the host's own answer is what counts.
    fn has_messages(&self) -> bool {
        let mut is_any = false;
        loop {
            match self.messages.recv(&mut [0u8; 64].as_mut_slice(), 0) {
                Ok(_) => is_any = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: there were more than the socket holds.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return true,
                Err(_) => return is_any,
            }
        }
    }
}

/// Returns the address that this host uses towards `server`, by all of its routing rules; `None` without a route. Sends
/// nothing.
pub fn source_towards(server: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = match server {
        IpAddr::V4(_) => ([0; 4], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = open_above_stdio(|| UdpSocket::bind(any)).ok()?;
    socket.connect((server, ANY_PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns whether this host has the address.
fn is_own(address: IpAddr) -> bool {
    let bound = open_above_stdio(|| UdpSocket::bind((address, 0)));
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Returns how long the machine has been suspended since it started.
fn asleep() -> Duration {
    let at = |clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    at(ClockId::Boottime).saturating_sub(at(ClockId::Monotonic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_host_has_no_change() {
        let mut path = OuterPath::new([127, 0, 0, 1].into()).unwrap();
        assert_eq!(path.source, Some([127, 0, 0, 1].into()));
        assert_eq!(path.look(), None);
    }

    #[test]
    fn a_suspended_machine_is_noticed_once() {
        let mut path = OuterPath::new([127, 0, 0, 1].into()).unwrap();
        let asleep = path.asleep + SUSPENDED;
        assert_eq!(path.look_after(asleep), Some(Change::Resumed));
        assert_eq!(path.look_after(asleep + Duration::from_millis(1)), None);
    }
}
