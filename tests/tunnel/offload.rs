//! Super-packets: whatever both ends merge or cut, applications receive what was sent. Each test exists for the four
//! combinations of `offload` in the server's and the client's configuration.

mod odd;
mod segments;

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use rustix::net::{AddressFamily, Protocol, SocketType, socket};
use testkit::hosts::{Host, Hosts, forwards_packets};
use testkit::inner::Seen;
use testkit::netns::in_namespace;
use testkit::program::Running;
use testkit::sockets::{connect_from, echo, every_packet, exchange, large_buffer, received, segment, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};
use testkit::{TEST_TIMEOUT, noise};

use crate::PROGRAM;

/// The largest UDP datagram: 65 535 less the headers of IP and UDP.
const LARGEST: usize = 65_507;

#[test]
fn both_ends() {
    in_tunnel("offload::both_ends", true, true, carries_everything);
}

#[test]
fn server_alone() {
    in_tunnel("offload::server_alone", true, false, carries_everything);
}

#[test]
fn client_alone() {
    in_tunnel("offload::client_alone", false, true, carries_everything);
}

#[test]
fn neither_end() {
    in_tunnel("offload::neither_end", false, false, carries_everything);
}

/// A client with super-packets, one without, and the server's host in between.
#[test]
fn a_forwarded_flow_is_cut_for_the_client_that_needs_it() {
    const NAME: &str = "offload::a_forwarded_flow_is_cut_for_the_client_that_needs_it";
    in_namespace(NAME, || {
        if !forwards_packets(NAME) {
            return;
        }
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let (server, _) = hosts.server("server");
        let without = hosts.path().join("without.cfg");
        fs::write(&without, "[vpn_client]\noffload=false\n").unwrap();
        let without = without.to_str().unwrap();
        let one = Client::connect(&hosts, 0, "client0", &[]);
        let other = Client::connect(&hosts, 1, "client1", &["--config", without]);
        let watches = [hosts.at(0).run(every_packet), hosts.at(1).run(every_packet)];
        let listeners = [(0, one.address), (1, other.address)]
            .map(|(number, address)| hosts.at(number).run(move || TcpListener::bind((address, 0)).unwrap()));
        let streams = [tcp(&listeners[0], connect_from(hosts.at(1))), tcp(&listeners[1], connect_from(hosts.at(0)))];
        exchange_all(&streams, 1_500_000);
        let largest = watches.map(|watch| largest_seen(&watch, one.address, other.address));
        assert!(largest[0] > one.mtu, "no super-packet on the host that has offload: {largest:?}");
        assert!(largest[1] <= other.mtu, "a super-packet on the host that has no offload: {largest:?}");
        let (here, there) = (udp_at(hosts.at(0), one.address), udp_at(hosts.at(1), other.address));
        for (from, to) in [(&here, &there), (&there, &here)] {
            for size in [0, 1, one.mtu - 28, one.mtu - 27, 9_000] {
                echo(from, to, &noise(size as u64, size));
            }
            send_in_one(from, to, 900, 40, 13, false);
        }
        for running in [&server, &one.running, &other.running] {
            assert!(!running.log().contains(" ERROR "), "{}", running.log());
        }
    });
}

/// A tunnel whose ends have offload or not.
struct Tunnel {
    server: Running,
    client: Client,
    /// Behind the programs, which end before it looks at what they have left.
    hosts: Hosts,
    server_offloads: bool,
    client_offloads: bool,
}

/// The two hosts, each as sender and receiver.
#[derive(Clone, Copy)]
struct Way<'a> {
    from: Option<&'a Host>,
    to: Option<&'a Host>,
    source: Ipv4Addr,
    target: Ipv4Addr,
    from_offloads: bool,
    to_offloads: bool,
}

impl Tunnel {
    fn ways(&self) -> [Way<'_>; 2] {
        let client = self.hosts.at(0);
        let up = Way {
            from: Some(client),
            to: None,
            source: self.client.address,
            target: GATEWAY,
            from_offloads: self.client_offloads,
            to_offloads: self.server_offloads,
        };
        let down = Way {
            from: None,
            to: Some(client),
            source: GATEWAY,
            target: self.client.address,
            from_offloads: self.server_offloads,
            to_offloads: self.client_offloads,
        };
        [up, down]
    }
}

/// Runs a job on a client's host, or on the server's, which is this thread's.
fn on<T: Send + 'static>(host: Option<&Host>, job: impl FnOnce() -> T + Send + 'static) -> T {
    match host {
        Some(host) => host.run(job),
        None => job(),
    }
}

fn in_tunnel(test: &str, server_offloads: bool, client_offloads: bool, body: impl FnOnce(&Tunnel)) {
    in_namespace(test, || {
        let hosts = Hosts::new(PROGRAM);
        // With address translation the kernel's connection tracking collects fragments, also lone ones.
        let text = format!("{NETWORK}nat=off\noffload={server_offloads}\n[vpn_client]\noffload={client_offloads}\n");
        let config = hosts.config(&text);
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &["--config", &config]);
        let tunnel = Tunnel { hosts, server, client, server_offloads, client_offloads };
        body(&tunnel);
        for running in [&tunnel.server, &tunnel.client.running] {
            assert!(!running.log().contains(" ERROR "), "{}", running.log());
        }
    });
}

fn carries_everything(tunnel: &Tunnel) {
    let (hosts, client) = (&tunnel.hosts, &tunnel.client);
    let watches = [(every_packet(), tunnel.server_offloads), (hosts.at(0).run(every_packet), tunnel.client_offloads)];
    let address = client.address;
    let near = TcpListener::bind((GATEWAY, 0)).unwrap();
    let far = hosts.at(0).run(move || TcpListener::bind((address, 0)).unwrap());
    // Two connections from the client's host and two from the server's, all busy in both directions at once.
    let streams: Vec<_> =
        (0..2).flat_map(|_| [tcp(&near, connect_from(hosts.at(0))), tcp(&far, TcpStream::connect)]).collect();
    exchange_all(&streams, 1_000_000);
    // The devices' packets show whether the configuration is respected; without offload no other sign is visible.
    for (number, (watch, offloads)) in watches.iter().enumerate() {
        let largest = largest_seen(watch, GATEWAY, address);
        assert!(largest > 1000, "host {number}: the watch saw nothing");
        assert_eq!(largest > client.mtu, *offloads, "host {number}: the largest packet had {largest} bytes");
    }

    let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), address));
    let whole = client.mtu - 28;
    for (from, to, offloads) in [(&far, &near, tunnel.client_offloads), (&near, &far, tunnel.server_offloads)] {
        for size in [0, 1, whole - 1, whole, whole + 1, 2 * whole, 3_000, 9_000, LARGEST] {
            echo(from, to, &noise(size as u64, size));
        }
        for (size, last) in [(1000, 10), (whole, 1), (100, 99), (1, 1), (33, 0)] {
            send_one_by_one(from, to, size, 100, last);
        }
        for (size, last) in [(1000, 10), (whole, 1), (100, 99), (33, 32), (1, 1)] {
            send_in_one(from, to, size, 40, last, offloads);
        }
    }
    let others = [udp(GATEWAY), udp_at(hosts.at(0), address)];
    alternate([&far, &others[1]], [&near, &others[0]]);
    alternate([&near, &others[0]], [&far, &others[1]]);
}

fn exchange_all(streams: &[(TcpStream, TcpStream)], size: usize) {
    thread::scope(|scope| {
        for (streams, seed) in streams.iter().zip(1..) {
            scope.spawn(move || exchange(streams, size, seed));
        }
    });
}

/// Sends many equal datagrams and a last one of another size: each must arrive unchanged and in order.
fn send_one_by_one(from: &UdpSocket, to: &UdpSocket, size: usize, count: usize, last: usize) {
    large_buffer(to);
    let payloads: Vec<_> = (0..count).map(|at| noise(at as u64, if at + 1 == count { last } else { size })).collect();
    for payload in &payloads {
        assert_eq!(from.send_to(payload, to.local_addr().unwrap()).unwrap(), payload.len());
    }
    for (at, payload) in payloads.iter().enumerate() {
        let what = format!("datagram {at} of {count} with {size} bytes, sent one by one");
        let (got, source) = received(to, &what);
        assert!(got == *payload, "{what}: {} bytes came, {} are right", got.len(), payload.len());
        assert_eq!(source, from.local_addr().unwrap(), "{what}");
    }
}

/// Sends the same in one call (UDP_SEGMENT of udp(7)): a super-packet if the device accepts any. A kernel before 6.11
/// refuses that if the device leaves checksums to it; with `must`, it has to work.
fn send_in_one(from: &UdpSocket, to: &UdpSocket, size: usize, count: usize, last: usize, must: bool) {
    large_buffer(to);
    let bytes = noise(size as u64, size * (count - 1) + last);
    segment(from, size);
    let sent = from.send_to(&bytes, to.local_addr().unwrap());
    segment(from, 0);
    match sent {
        Err(error) if error.raw_os_error() == Some(libc::EIO) && !must => return,
        sent => assert_eq!(sent.unwrap(), bytes.len()),
    }
    for (at, payload) in bytes.chunks(size).enumerate() {
        let what = format!("datagram {at} of {count} with {size} bytes, sent in one");
        let (got, source) = received(to, &what);
        assert!(got == payload, "{what}: {} bytes came, {} are right", got.len(), payload.len());
        assert_eq!(source, from.local_addr().unwrap(), "{what}");
    }
}

/// Sends datagrams of two flows in turn: packets of one flow are not consecutive.
fn alternate(from: [&UdpSocket; 2], to: [&UdpSocket; 2]) {
    let payload = |flow: usize, at: usize| noise((1000 * flow + at) as u64, 500 + 300 * flow);
    to.into_iter().for_each(large_buffer);
    for at in 0..100 {
        for flow in 0..2 {
            from[flow].send_to(&payload(flow, at), to[flow].local_addr().unwrap()).unwrap();
        }
    }
    for (flow, to) in to.into_iter().enumerate() {
        for at in 0..100 {
            let what = format!("datagram {at} of the flow {flow} of two");
            assert!(received(to, &what).0 == payload(flow, at), "{what} is not what was sent");
        }
    }
}

/// Returns the size of the largest inner packet so far between the two addresses, in bytes.
fn largest_seen(watch: &UdpSocket, one: Ipv4Addr, other: Ipv4Addr) -> usize {
    watch.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut largest = 0;
    loop {
        match watch.recv(&mut buffer) {
            // A cable may carry any packet, also IPv6.
            Ok(size) if size >= 20 && buffer[0] >> 4 == 4 => {
                let seen = Seen { whole: &buffer[..size] };
                if [(one, other), (other, one)].contains(&(seen.source(), seen.target())) {
                    largest = largest.max(size);
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return largest,
            Err(error) => panic!("packet socket: {error}"),
        }
    }
}

/// Opens a socket on the calling thread's host that receives the packets of one protocol between two addresses with
/// their IP header, as the kernel delivers them: whole, also super-packets, and before UDP or TCP processes them.
fn raw_receiver(protocol: Protocol, address: Ipv4Addr, peer: Ipv4Addr) -> UdpSocket {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(protocol)).unwrap();
    rustix::net::bind(&raw, &std::net::SocketAddrV4::new(address, 0)).unwrap();
    let raw = UdpSocket::from(raw);
    raw.connect((peer, 0)).unwrap();
    raw.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    large_buffer(&raw);
    raw
}
