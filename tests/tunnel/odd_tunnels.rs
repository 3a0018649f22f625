//! Honest hosts whose packets resemble those that a receiver refuses.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use dap_chain_net_srv_vpn::app;
use embedded::config::{self, Config};
use host::netlink::Netlink;
use testkit::hosts::Hosts;
use testkit::inner::{Seen, TCP};
use testkit::netns::in_namespace;
use testkit::sockets::{connect_from, echo, every_packet, exchange, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY};
use testkit::{noise, skip};
use vpn_core::forward::DropCause;

use crate::PROGRAM;

/// The drops of both directions at the server of this process.
fn drops() -> Vec<(DropCause, u64)> {
    let drops = app::server_totals().unwrap().drops;
    // Both hosts announce IPv6, and their own multicast groups.
    drops.into_iter().filter(|(cause, count)| *count > 0 && *cause != DropCause::NotIpv4).collect()
}

/// Hosts whose segments are so small that their super-packets exceed the bound: the sender cuts them.
#[test]
fn a_tiny_mss_passes() {
    in_namespace("odd_tunnels::a_tiny_mss_passes", || {
        let hosts = Hosts::new(PROGRAM);
        let text = format!("[general]\nstate_dir={}\n", hosts.state("server"));
        config::set_current(Config::parse(&text, "test").0);
        app::server_start().unwrap();
        let client = Client::connect(&hosts, 0, "client", &[]);
        let address = client.address;
        let watches = [every_packet(), hosts.at(0).run(every_packet)];
        let near = TcpListener::bind((GATEWAY, 0)).unwrap();
        let far = hosts.at(0).run(move || TcpListener::bind((address, 0)).unwrap());
        for listener in [&near, &far] {
            max_segment(listener, 88);
        }
        let streams = [tcp(&near, connect_from(hosts.at(0))), tcp(&far, TcpStream::connect)];
        for stream in &streams {
            exchange(stream, 200_000, 3);
        }
        // The hosts did send super-packets of segments that are too small, or the test shows nothing.
        for watch in watches {
            watch.set_nonblocking(true).unwrap();
            let mut buffer = vec![0; 65_536];
            let mut largest = 0;
            while let Ok(length) = watch.recv(&mut buffer) {
                let is_ours = buffer[0] >> 4 == 4 && buffer[12..14] == [10, 98];
                if is_ours && Seen::new(&buffer[..length]).protocol() == TCP {
                    largest = largest.max(length);
                }
            }
            assert!(largest > 1000, "no super-packet: {largest}");
        }
        assert_eq!(drops(), []);
        drop(client);
        app::server_stop();
    });
}

/// TCP_MAXSEG of tcp(7): accepted connections announce it, so that the other end's segments are small.
#[allow(unsafe_code)]
fn max_segment(socket: &TcpListener, size: libc::c_int) {
    use std::os::fd::AsRawFd;
    let length = size_of_val(&size) as libc::socklen_t;
    // SAFETY: an open socket; the value lives through the call, and its length is passed.
    let code = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, (&raw const size).cast(), length)
    };
    assert_eq!(code, 0, "TCP_MAXSEG: {}", std::io::Error::last_os_error());
}

/// A tunnel of the two hosts' kernels inside the VPN's, with and without checksums of its own.
#[test]
fn a_vxlan_passes() {
    const NAME: &str = "odd_tunnels::a_vxlan_passes";
    in_namespace(NAME, || {
        let hosts = Hosts::new(PROGRAM);
        let text = format!("[general]\nstate_dir={}\n", hosts.state("server"));
        config::set_current(Config::parse(&text, "test").0);
        app::server_start().unwrap();
        let client = Client::connect(&hosts, 0, "client", &[]);
        for (number, checksum) in [(0, true), (1, false)] {
            let [one, other] = [1, 2].map(|host| Ipv4Addr::new(10, 77, number, host));
            let (address, device) = (client.address, format!("inner{number}"));
            let end = move |device: String, local, remote, inner| {
                let mut netlink = Netlink::open().unwrap();
                netlink.add_vxlan(&device, local, remote, checksum)?;
                let index = netlink.link_index(&device)?;
                netlink.set_mtu(index, 1300)?;
                netlink.add_address(index, inner, 24)?;
                netlink.set_up(index).map(|()| index)
            };
            let near = match end(device.clone(), GATEWAY, address, one) {
                Ok(index) => index,
                Err(error) => return skip(NAME, &format!("this kernel makes no VXLAN: {error}")),
            };
            let far = hosts.at(0).run(move || end(device, address, GATEWAY, other).unwrap());
            let listener = TcpListener::bind((one, 0)).unwrap();
            exchange(&tcp(&listener, connect_from(hosts.at(0))), 1_000_000, 5);
            let listener = hosts.at(0).run(move || TcpListener::bind((other, 0)).unwrap());
            exchange(&tcp(&listener, TcpStream::connect), 1_000_000, 6);
            let (here, there) = (udp(one), udp_at(hosts.at(0), other));
            for size in [1, 1000, 1272, 5000] {
                echo(&here, &there, &noise(7, size));
                echo(&there, &here, &noise(8, size));
            }
            // One at a time may use the port.
            Netlink::open().unwrap().del_link(near).unwrap();
            hosts.at(0).run(move || Netlink::open().unwrap().del_link(far).unwrap());
        }
        assert_eq!(drops(), []);
        drop(client);
        app::server_stop();
    });
}
