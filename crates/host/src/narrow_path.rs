//! Paths that lose full packets without a word, because a router's "packet too big" does not arrive (RFC 2923, 2.1). The
//! kernel would send such a packet again until the connection fails: unless `net.ipv4.tcp_mtu_probing` is set, it never
//! tries a smaller one.
//!
//! No option of a TCP socket over IPv6 makes a live connection's packets smaller; on Linux 6.18 TCP_MAXSEG, IPV6_MTU,
//! IPV6_DONTFRAG and each value of IPV6_MTU_DISCOVER were tried. The message that is missing does. So this host sends it
//! to itself, about a socket of its own that has sent nothing. The kernel then knows the path for all of its connections,
//! and forgets it ten minutes later, as after any such message (`net.ipv6.route.mtu_expires`, and the same of IPv4).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with, sockopt};
use vpn_core::forward::{MAX_ICMP_ERROR, fragmentation_needed};
use vpn_core::wire::inspect;

use crate::descriptors::{above_stdio, open_above_stdio};
use crate::outer_path::ANY_PORT;

/// What every path of IPv6 takes (RFC 8200, 5), and nearly every one of IPv4. IPv6 has no way to less.
pub const MTU: u16 = 1280;
/// The headers of a TCP segment over IPv6 without options.
const HEADERS: u16 = 60;
/// The data in a segment that fits.
pub const MSS: u16 = MTU - HEADERS;

/// How often, and after how long each time, to look whether the kernel has taken the message: it nearly always has at the
/// first look, and a worker waits meanwhile.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(1);

/// Makes the kernel send no packets above [`MTU`] to this host; it sends those again that were lost, at their next turn.
/// Does nothing if it knows that already.
///
/// # Errors
/// EPERM without CAP_NET_RAW. Otherwise there is no route, or the kernel did not take the message.
pub fn narrow(peer: IpAddr) -> io::Result<()> {
    let peer = peer.to_canonical();
    let any: SocketAddr =
        if peer.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let asking = open_above_stdio(|| UdpSocket::bind(any))?;
    asking.connect((peer, ANY_PORT))?;
    if mtu(&asking)? <= MTU.into() {
        return Ok(());
    }
    let own = asking.local_addr()?;
    match (own.ip(), peer) {
        (IpAddr::V4(source), IpAddr::V4(peer)) => {
            let quoted = [&udp4_header(source, peer), udp_header(own.port()).as_slice()].concat();
            let mut memory = [0; MAX_ICMP_ERROR];
            let message = inspect(&quoted).ok().and_then(|view| fragmentation_needed(&quoted, &view, MTU, &mut memory));
            let message = message.ok_or(io::ErrorKind::AddrNotAvailable)?;
            send_raw(AddressFamily::INET, ipproto::RAW, message, own.ip())?;
        }
        (IpAddr::V6(source), IpAddr::V6(peer)) => {
            let quoted = [&udp6_header(source, peer), udp_header(own.port()).as_slice()].concat();
            let message = [&TOO_BIG, quoted.as_slice()].concat();
            send_raw(AddressFamily::INET6, ipproto::ICMPV6, &message, own.ip())?;
        }
        _ => return Err(io::ErrorKind::AddrNotAvailable.into()),
    }
    // A busy kernel takes it a moment later, and needs the socket for it.
    for _ in 0..LOOKS {
        if mtu(&asking)? <= MTU.into() {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    Err(io::Error::other(format!("the kernel does not take the path to {peer} for a narrow one")))
}

/// Returns the size of the largest packet, in bytes, that this host sends to `peer`: the link's, or what a router or
/// [`narrow`] has said. Sends nothing.
///
/// # Errors
/// If there is no route.
pub fn mtu_to(peer: IpAddr) -> io::Result<u32> {
    let peer = peer.to_canonical();
    let any: SocketAddr =
        if peer.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let asking = open_above_stdio(|| UdpSocket::bind(any))?;
    asking.connect((peer, ANY_PORT))?;
    mtu(&asking)
}

/// The MTU of the path to the socket's peer, as the kernel knows it.
fn mtu(socket: &UdpSocket) -> io::Result<u32> {
    let is_ipv4 = socket.local_addr()?.is_ipv4();
    Ok(if is_ipv4 { sockopt::ip_mtu(socket)? } else { sockopt::ipv6_mtu(socket)? })
}

/// "Packet too big" (RFC 4443, 3.2). The kernel fills in the checksum.
const TOO_BIG: [u8; 8] = [2, 0, 0, 0, 0, 0, MTU.to_be_bytes()[0], MTU.to_be_bytes()[1]];

/// The header of an IPv4 packet with a UDP header, which must not be fragmented.
fn udp4_header(source: Ipv4Addr, peer: Ipv4Addr) -> [u8; 20] {
    let mut header = [0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&peer.octets());
    header
}

/// The same of IPv6.
fn udp6_header(source: Ipv6Addr, peer: Ipv6Addr) -> [u8; 40] {
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 64]);
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&peer.octets());
    header
}

fn udp_header(port: u16) -> [u8; 8] {
    let ([from, rest_from], [to, rest_to]) = (port.to_be_bytes(), ANY_PORT.to_be_bytes());
    [from, rest_from, to, rest_to, 0, 8, 0, 0]
}

fn send_raw(family: AddressFamily, protocol: Protocol, message: &[u8], to: IpAddr) -> io::Result<()> {
    let raw: UdpSocket = above_stdio(socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?)?;
    raw.send_to(message, (to, 0)).map(drop)
}
