//! Data that one side sends arrives unchanged on the other.

use std::net::{TcpListener, TcpStream};
use std::thread;

use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::sockets::{connect_from, echo, exchange, tcp, udp, udp_at};
use testkit::tun_devices;
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// The largest UDP datagram: 65 535 less the headers of IP and UDP.
const LARGEST: usize = 65_507;

#[test]
fn streams_arrive_byte_for_byte() {
    in_namespace("traffic::streams_arrive_byte_for_byte", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, _) = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &[]);
        let address = client.address;
        let near = TcpListener::bind((GATEWAY, 0)).unwrap();
        let far = hosts.at(0).run(move || TcpListener::bind((address, 0)).unwrap());
        // One connection from the client's host and one from the server's, both busy in both directions at once.
        let streams = [tcp(&near, connect_from(hosts.at(0))), tcp(&far, TcpStream::connect)];
        thread::scope(|scope| {
            for (streams, seed) in streams.iter().zip(1..) {
                scope.spawn(move || exchange(streams, 6_000_000, seed));
            }
        });
        assert!(!server.log().contains(" ERROR "), "{}", server.log());
        assert!(!client.running.log().contains(" ERROR "), "{}", client.running.log());
    });
}

#[test]
fn datagrams_of_all_sizes_arrive() {
    in_namespace("traffic::datagrams_of_all_sizes_arrive", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &[]);
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        // One that fills a packet, one byte less, one more: the last is the smallest that arrives in fragments.
        let whole = client.mtu - 28;
        for size in [0, 1, whole - 1, whole, whole + 1, 2 * whole, 3_000, 9_000, LARGEST] {
            echo(&far, &near, &noise(size as u64, size));
            echo(&near, &far, &noise(size as u64 + 1, size));
        }
    });
}

/// Both devices get the operator's MTU, and full packets of that size pass.
#[test]
fn a_configured_mtu_holds_on_both_sides() {
    in_namespace("traffic::a_configured_mtu_holds_on_both_sides", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}mtu=900\n"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &[]);
        assert_eq!(client.mtu, 900);
        let devices = [tun_devices(), hosts.at(0).run(tun_devices)];
        assert!(devices.iter().flatten().all(|(device, _)| device.mtu == 900), "{devices:?}");
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        for size in [872, 873, 5_000] {
            echo(&far, &near, &noise(size as u64, size));
            echo(&near, &far, &noise(size as u64 + 1, size));
        }
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        exchange(&tcp(&listener, connect_from(hosts.at(0))), 1_000_000, 3);
    });
}

#[test]
fn one_worker_serves_all() {
    in_namespace("traffic::one_worker_serves_all", || serve_four_with(1));
}

#[test]
fn more_workers_than_processors_serve_all() {
    in_namespace("traffic::more_workers_than_processors_serve_all", || serve_four_with(5));
}

/// Clients get the same number of workers, so their side is tested with it too.
fn serve_four_with(workers: u32) {
    const CLIENTS: u8 = 4;
    let hosts = Hosts::with_clients(PROGRAM, CLIENTS);
    let config = hosts.config(&format!("[resources]\nthreads_cnt={workers}\n"));
    let (server, _) = hosts.server_with("server", &["--config", &config]);
    assert!(server.log().contains(&format!(", {workers} queues")), "{}", server.log());
    let connect = |number| Client::connect(&hosts, number, &format!("client{number}"), &["--config", &config]);
    let clients: Vec<_> = (0..usize::from(CLIENTS)).map(connect).collect();
    let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
    let streams: Vec<_> = (0..clients.len()).map(|number| tcp(&listener, connect_from(hosts.at(number)))).collect();
    thread::scope(|scope| {
        for (streams, seed) in streams.iter().zip(1..) {
            scope.spawn(move || exchange(streams, 1_000_000, seed));
        }
    });
    let near = udp(GATEWAY);
    for (number, client) in clients.iter().enumerate() {
        echo(&near, &udp_at(hosts.at(number), client.address), &noise(number as u64, 1_000));
    }
    let stat = hosts.stat("server");
    assert_eq!(stat.matches("client addr").count(), clients.len(), "{stat}");
}
