//! What a device is to be, and why it cannot be created.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::UplinkChannel;
use crate::sdk::{NotRunning, STREAM_OVERHEAD};
use host::netlink::NetlinkError;
use host::tun::TunError;
use vpn_core::exchange::{Offer, agreed_mtu};
use vpn_core::forward::Networks;
use vpn_core::lease::Subnet;

/// The default size of the largest inner packet, in bytes: with the stream's overhead it fits into an Ethernet frame.
pub(crate) const MTU: u16 = 1500 - STREAM_OVERHEAD;

/// The most routes into the device.
pub(super) const MOST_ROUTES: usize = 4096;

/// What is routed into the tunnel beside its subnet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// The networks; none by default.
    pub networks: Vec<Subnet>,
    /// The networks in them that are not.
    pub exclude: Vec<Subnet>,
    /// The server's addresses, to which the host's own routes lead: that of the connection, and while the client connects
    /// again those of its name behind it. Empty if none is known.
    pub servers: Vec<IpAddr>,
    /// Whether the host's IPv6 is kept from leaving around a tunnel that has the Internet.
    pub block_ipv6: bool,
}

/// The parameters of the device.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// This host's inner address.
    pub addr: Ipv4Addr,
    /// The server's inner address.
    pub gateway: Ipv4Addr,
    /// The prefix length of the subnet that is routed into the device.
    pub prefix: u8,
    /// The largest inner packet, in bytes.
    pub mtu: u16,
    /// The worker that reads the device; `None` for the first one.
    pub worker: Option<u32>,
    /// The channel for the host's packets; with `None` they are dropped and counted.
    pub uplink: Option<UplinkChannel>,
    /// The number of the usage under which packets are sent.
    pub usage_id: u32,
    /// Whether super-packets pass between the device and a server that accepts them.
    pub offload: bool,
    /// The largest bundle that the server accepts, in bytes; 0 for none.
    pub bundle: usize,
    /// The networks beside the subnet that packets from the server may come from; `None` for any.
    pub allow_source: Option<Networks>,
    /// What is routed into the device beside the subnet.
    pub routes: Routes,
}

impl Settings {
    /// Describes the device for a server's offer. The MTU is the smaller of the server's and `mtu`, this host's own.
    pub(crate) fn from_offer(offer: &Offer, mtu: u16) -> Settings {
        Settings {
            addr: offer.addr,
            gateway: offer.gateway,
            prefix: offer.prefix,
            mtu: offer.mtu.map_or(mtu, |theirs| agreed_mtu(theirs, mtu)),
            worker: None,
            uplink: None,
            usage_id: 0,
            // C writes packets to the descriptor of a device that it created, without a header in front.
            offload: false,
            bundle: usize::from(offer.bundle),
            // C adds routes to the device by itself.
            allow_source: None,
            routes: Routes::default(),
        }
    }

    /// The networks that packets from the server may come from: the subnet, those that are `routed` into the device, and
    /// those that the user allows. `None` for any.
    pub(super) fn sources(&self, routed: &Networks) -> Option<Networks> {
        let subnet = Networks::of([(self.addr, self.prefix)]);
        Some(self.allow_source.as_ref()?.join(routed).join(&subnet))
    }

    /// Whether the device is for a connection of this library, not one that C makes.
    pub(super) fn is_clients(&self) -> bool {
        matches!(self.uplink, Some(UplinkChannel::Own(_)))
    }
}

/// Why the device cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// No host can have this address.
    #[error("{0} is not a valid host address")]
    BadAddress(Ipv4Addr),
    /// The subnet overlaps a network of this host.
    #[error("{subnet} overlaps this host's own address {other}")]
    Overlap {
        /// The tunnel's address and prefix.
        subnet: String,
        /// The host's address that overlaps it.
        other: Ipv4Addr,
    },
    /// The kernel refused the device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The kernel does not report its addresses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel does not say which address the server has, which must stay outside of the tunnel.
    #[error("the address of the server is not known, which [vpn_client] routes must leave out")]
    UnknownServer,
    /// The host's own routes cut the networks into too many pieces.
    #[error("[vpn_client] routes take {0} routes beside this host's own; expected at most {MOST_ROUTES}")]
    TooManyRoutes(usize),
    /// The device cannot get IPv6, to take in what the host sends.
    #[error(
        "[vpn_client] ipv6 = block: IPv6 on {device}, which leads it into the tunnel: {source}; expected files in \
         /proc/sys/net/ipv6/conf that can be read and written, or ipv6 = leave"
    )]
    Ipv6 {
        /// The name of the device.
        device: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A device with this MTU has no IPv6, and the host has.
    #[error(
        "[vpn_client] ipv6 = block: an MTU of {0} is below the 1280 that IPv6 needs, so that this host's would leave \
         around the tunnel; expected a larger one at both ends, or ipv6 = leave"
    )]
    Ipv6Mtu(u16),
    /// There is no worker to read the device.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
    /// Another thread is creating or removing the device. The caller is a worker, and that thread may be waiting for
    /// it.
    #[error("another thread is creating or removing the tunnel device; a worker must not wait for it")]
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C may write packets to the descriptor of a device that it created: a header in front would become part of them.
    #[test]
    fn a_device_that_c_makes_has_no_offload() {
        let (addr, gateway) = (Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 1, 1));
        let settings =
            Settings::from_offer(&Offer { addr, gateway, prefix: 24, mtu: None, bundle: 0, dns: Vec::new() }, MTU);
        assert!(!settings.offload && settings.bundle == 0);
    }

    #[test]
    fn the_smaller_mtu_counts() {
        let mtu = |theirs, ours| {
            let (addr, gateway) = (Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 1, 1));
            Settings::from_offer(&Offer { addr, gateway, prefix: 24, mtu: theirs, bundle: 0, dns: Vec::new() }, ours)
                .mtu
        };
        assert_eq!(mtu(None, 1390), 1390);
        assert_eq!(mtu(None, 9000), 9000);
        assert_eq!(mtu(Some(8000), 9000), 8000);
        assert_eq!(mtu(Some(9000), 8000), 8000);
        assert_eq!(mtu(Some(1400), 1390), 1390);
        assert_eq!(mtu(Some(1), 1390), 576);
    }
}
