//! What the kernel makes of a path that it is told to be narrow.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use host::lab::{Cable, Namespace, Plug};
use host::narrow_path::{MTU, narrow};
use host::netlink::Netlink;
use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
use testkit::netns::in_namespace;
use testkit::sockets::every_packet;
use testkit::{TEST_TIMEOUT, eventually};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
const NEAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 66, 0, 0, 0, 0, 1);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 66, 0, 0, 0, 0, 2);

/// Connects this host with another one.
fn cable() -> Namespace {
    let far = Namespace::new().unwrap();
    let plug = |link: &str, address| Plug { link: link.to_owned(), address, prefix: 24 };
    Cable { near: plug("near", NEAR), far: plug("far", FAR) }.connect(&far).unwrap();
    let add = |link: &str, address: Ipv6Addr| {
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link_index(link).unwrap();
        netlink.add_address6(index, address, 64).unwrap();
    };
    add("near", NEAR6);
    far.run(move || add("far", FAR6));
    far
}

/// The MTU of the path to a host, as any socket sees it.
fn mtu_to(host: IpAddr) -> u32 {
    let any: SocketAddr =
        if host.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect((host, 9)).unwrap();
    if host.is_ipv4() { ip_mtu(&socket).unwrap() } else { ipv6_mtu(&socket).unwrap() }
}

/// Connects to a host, and returns the MSS that this host announces; Linux puts the option first.
fn announced(far: &Namespace, host: IpAddr) -> u16 {
    let watch = every_packet();
    watch.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let listener = far.run(move || TcpListener::bind((host, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let connecting = thread::spawn(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
    let (tcp, protocol) = if host.is_ipv4() { (20, 9) } else { (40, 6) };
    let mut packet = [0; 2048];
    loop {
        let len = watch.recv(&mut packet).unwrap();
        let is_tcp = packet[0] >> 4 == if host.is_ipv4() { 4 } else { 6 } && packet[protocol] == 6;
        let is_ours = len > tcp + 24 && packet[tcp + 2..tcp + 4] == target.port().to_be_bytes();
        if is_tcp && is_ours && packet[tcp + 20..tcp + 22] == [2, 4] {
            connecting.join().unwrap();
            return u16::from_be_bytes([packet[tcp + 22], packet[tcp + 23]]);
        }
    }
}

#[test]
fn a_narrow_path_holds_for_all_sockets_and_for_what_new_connections_announce() {
    in_namespace("a_narrow_path_holds_for_all_sockets_and_for_what_new_connections_announce", || {
        let far = cable();
        for (host, headers) in [(IpAddr::from(FAR), 40), (IpAddr::from(FAR6), 60)] {
            assert_eq!(mtu_to(host), 1500);
            assert_eq!(announced(&far, host), 1500 - headers, "{host}");
            narrow(host).unwrap();
            narrow(host).unwrap();
            assert_eq!(mtu_to(host), u32::from(MTU), "{host}");
            assert_eq!(announced(&far, host), MTU - headers, "{host}");
        }
        // The kernel takes a mapped address for what it is.
        narrow(IpAddr::from(FAR.to_ipv6_mapped())).unwrap();
        assert_eq!(far.run(|| mtu_to(NEAR.into())), 1500, "the other end knows nothing of it");
        assert!(narrow(Ipv4Addr::new(192, 0, 2, 1).into()).is_err(), "no route");
    });
}

/// The kernel forgets the path, and can be told again.
#[test]
fn a_forgotten_path_is_made_narrow_again() {
    in_namespace("a_forgotten_path_is_made_narrow_again", || {
        let _far = cable();
        fs::write("/proc/sys/net/ipv6/route/mtu_expires", "1").unwrap();
        // The kernel uses a new address a little later.
        eventually("the first time", || narrow(FAR6.into()).is_ok());
        for _ in 0..2 {
            narrow(FAR6.into()).unwrap();
            assert_eq!(mtu_to(FAR6.into()), u32::from(MTU));
            eventually("forgotten", || mtu_to(FAR6.into()) == 1500);
        }
    });
}
