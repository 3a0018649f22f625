//! The hosts of the demo with an Internet, and their cables:
//!
//! ```text
//! client 192.0.2.2 ---- 192.0.2.1 Internet 198.51.100.1 ---- 198.51.100.2 server
//!                  203.0.113.80, .53, .99
//! ```
//!
//! The Internet's end routes between the two cables and has a web server and a name server ([`super::sites`]) of its own.
//! The server's host is a thread of that end, so that it outlives the server.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use host::lab::{self, Cable, LabError, Namespace, Plug};
use host::netlink::{Netlink, NetlinkError};

use super::super::namespaces;
use crate::exit::{Code, Failure};

/// The server's address.
pub(in super::super) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The client's address outside of the tunnel.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The client's router, which is a name server too.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The Internet's web server.
pub(super) const WEB: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
pub(super) const WEB6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x80);
/// The Internet's name server, which clients of the VPN get.
pub(in super::super) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);

/// An address of the Internet, with both servers too, for which the client's host has a route of its own: a tunnel leaves
/// it out, as it does with a company's network.
pub(super) const AROUND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
pub(super) const AROUND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x99);

/// The source of each frame that leaves the client.
pub(super) const CLIENT_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 2];

const CLIENT_LINK: &str = "veth-client";
const SERVER_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

fn cable(near: (&str, Ipv4Addr), far: (&str, Ipv4Addr)) -> Cable {
    let plug = |(link, address): (&str, Ipv4Addr)| Plug { link: link.to_owned(), address, prefix: 24 };
    Cable { near: plug(near), far: plug(far) }
}

fn client_cable() -> Cable {
    cable(("to-client", ROUTER), (CLIENT_LINK, CLIENT))
}

/// What the Internet's end has laid.
pub(super) struct Laid {
    /// The server's host, which ends with this value.
    pub(super) server_host: Namespace,
    /// Whether this machine has IPv6.
    pub(super) has_ipv6: bool,
}

/// Internet's side: lays both cables, the client's to the process `client`.
pub(super) fn lay(client: u32) -> Result<Laid, Failure> {
    let laid = lay_cables(client).map_err(namespaces::failure)?;
    // A router, if nothing else. The server does the same for its host by itself.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|error| no_router(&error))?;
    Ok(laid)
}

fn lay_cables(client: u32) -> Result<Laid, LabError> {
    lab::set_loopback_up()?;
    let server_host = Namespace::new()?;
    cable(("to-server", SERVER_ROUTER), ("veth-server", SERVER)).connect(&server_host)?;
    server_host.run(|| Netlink::open()?.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(SERVER_ROUTER), None))?;
    client_cable().lay(client)?;
    for address in [WEB, NAME_SERVER, AROUND] {
        lab::add_loopback_address(address)?;
    }
    let mut netlink = Netlink::open()?;
    let (loopback, to_client) = (netlink.link_index("lo")?, netlink.link_index("to-client")?);
    let addresses = [(to_client, ROUTER6, 64), (loopback, WEB6, 128), (loopback, AROUND6, 128)];
    let has_ipv6 =
        addresses.into_iter().all(|(link, address, prefix)| netlink.add_address6(link, address, prefix).is_ok());
    Ok(Laid { server_host, has_ipv6 })
}

/// Client's side, after [`lay`].
pub(super) fn take(has_ipv6: bool) -> Result<(), Failure> {
    let take = || -> Result<(), LabError> {
        set_hardware()?;
        client_cable().take()?;
        let mut netlink = Netlink::open()?;
        netlink.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(ROUTER), None)?;
        netlink.add_route(AROUND, 32, Some(ROUTER), None)?;
        if has_ipv6 {
            let link = netlink.link_index(CLIENT_LINK)?;
            netlink.add_address6(link, CLIENT6, 64)?;
            netlink.add_route6((Ipv6Addr::UNSPECIFIED, 0), ROUTER6, 1024)?;
            netlink.add_route6((AROUND6, 128), ROUTER6, 1024)?;
        }
        Ok(())
    };
    take().map_err(namespaces::failure)
}

fn set_hardware() -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let link = netlink.link_index(CLIENT_LINK)?;
    netlink.set_hardware_address(link, CLIENT_HARDWARE)
}

fn no_router(error: &io::Error) -> Failure {
    let message = format!(
        "the demo's Internet cannot route: net.ipv4.ip_forward cannot be set in its namespace ({error}); run the demo \
         where /proc/sys is writable, in a container with `--privileged`"
    );
    Failure::new(Code::Privilege, message)
}
