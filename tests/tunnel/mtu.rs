//! The MTU of a tunnel: a full inner packet is one full packet outside, and a client whose MTU is smaller than that of
//! the server's device reaches hosts that hear no ICMP.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use host::netlink::Netlink;
use testkit::hosts::{Hosts, forwards_packets};
use testkit::inner::{Seen, TCP};
use testkit::netns::in_namespace;
use testkit::sockets::{Fragments, every_packet, exchange, received, set_fragments, udp, udp_at};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY, NETWORK};
use testkit::{TEST_TIMEOUT, noise};

use crate::PROGRAM;

/// The host behind the server, on the cable of the second client.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 55, 1, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 55, 1, 1);

/// The server's port.
const PORT: u16 = 8079;

/// "MTU" in docs/wire.md: 110 bytes of headers. With one byte less of overhead this would be a packet of 1499 bytes,
/// with one more two packets.
#[test]
fn a_full_inner_packet_is_one_full_outer_packet() {
    in_namespace("mtu::a_full_inner_packet_is_one_full_outer_packet", || {
        let hosts = Hosts::new(PROGRAM);
        // Without offload each packet is complete, and goes without the header of a record.
        let config = hosts.config(&format!("{NETWORK}offload=false\n[vpn_client]\noffload=false\n"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &["--config", &config]);
        assert_eq!(client.mtu, 1390);
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        let watches = [every_packet(), hosts.at(0).run(every_packet)];
        for (from, to, watch, is_up) in [(&far, &near, &watches[1], true), (&near, &far, &watches[0], false)] {
            let payload = noise(1, client.mtu - 28);
            from.send_to(&payload, to.local_addr().unwrap()).unwrap();
            assert!(received(to, "a full packet").0 == payload);
            assert_eq!(outer_packets(watch, is_up), [1500], "up: {is_up}");
        }
    });
}

/// Returns the lengths of the stream's packets in one direction that carry more than keep-alives, so far.
fn outer_packets(watch: &UdpSocket, is_up: bool) -> Vec<usize> {
    watch.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut lengths = Vec::new();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while let Ok(length) = watch.recv(&mut buffer)
        && Instant::now() < deadline
    {
        if buffer[0] >> 4 != 4 {
            continue;
        }
        let seen = Seen::new(&buffer[..length]);
        if seen.protocol() == TCP {
            let (from, to) = seen.ports();
            if (if is_up { to } else { from }) == PORT && seen.payload().len() > 300 {
                lengths.push(length);
            }
        }
    }
    lengths
}

/// A client whose host announces the MSS of a larger MTU than it agreed to, as if it were the router of other hosts.
#[test]
fn a_client_downloads_from_a_host_that_hears_no_icmp() {
    const NAME: &str = "mtu::a_client_downloads_from_a_host_that_hears_no_icmp";
    in_namespace(NAME, || {
        if !forwards_packets(NAME) {
            return;
        }
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(&format!("{NETWORK}device_mtu=1500\n[vpn_client]\nallow_source={OUTSIDE}\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &["--config", &config]);
        assert_eq!(client.mtu, 1390);
        let devices = [tun_devices(), hosts.at(0).run(tun_devices)].concat();
        assert_eq!(devices.iter().map(|(device, _)| device.mtu).collect::<Vec<_>>(), [1500, 1390]);

        let device = client.device.clone();
        hosts.at(0).run(move || {
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link_index(&device).unwrap();
            netlink.set_mtu(index, 1500).unwrap();
            netlink.add_route(OUTSIDE, 32, None, Some(index)).unwrap();
        });
        let listener = hosts.at(1).run(|| {
            let clients = Ipv4Addr::new(10, 98, 0, 0);
            Netlink::open().unwrap().add_route_of_locked_mtu(clients, 24, ROUTER, 1500).unwrap();
            let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
            set_fragments(&listener, Fragments::Forbidden);
            listener
        });
        let target = listener.local_addr().unwrap();
        let connecting = hosts.at(0).run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap());
        exchange(&(connecting, listener.accept().unwrap().0), 3_000_000, 1);

        // Towards the client, too.
        let address = client.address;
        let listener = hosts.at(0).run(move || TcpListener::bind((address, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let connecting = hosts.at(1).run(move || {
            let stream = TcpStream::connect_timeout(&target, TEST_TIMEOUT).unwrap();
            set_fragments(&stream, Fragments::Forbidden);
            stream
        });
        exchange(&(connecting, listener.accept().unwrap().0), 3_000_000, 2);
        assert!(!server.log().contains(" ERROR "), "{}", server.log());
        let totals = hosts.stat("server");
        assert!(
            totals.contains("dropped") && !totals.contains("too_big"),
            "a packet was too big, so the MSS was not lowered:\n{totals}"
        );
    });
}
