//! The client connects again by itself: after a loss, and at once when its host has moved to another network.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use host::lab::{Cable, Plug, plug_in};
use host::netlink::Netlink;
use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, send};
use testkit::sockets::{connect_from, echo, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// The server's address by the ways of [`another_way_to_the_server_is_taken`].
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A client that would notice a silent server after three minutes only: what it notices before, the host has told it.
const PATIENT: &str = "[vpn_client]\nkeep_alive=60\n";

fn connects(client: &Running) -> usize {
    client.stdout().matches("connected to ").count()
}

/// Changes the links, addresses or routes of the first client's host.
fn change(hosts: &Hosts, change: impl FnOnce(&mut Netlink, u32) + Send + 'static) -> Instant {
    hosts.at(0).run(move || {
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link_index("far0").unwrap();
        change(&mut netlink, link);
    });
    Instant::now()
}

/// Sends this byte over the connection in both directions.
fn talk((one, other): &(TcpStream, TcpStream), byte: u8) {
    for (mut from, mut to) in [(one, other), (other, one)] {
        from.write_all(&[byte]).unwrap();
        let mut got = [0];
        to.read_exact(&mut got).unwrap();
        assert_eq!(got, [byte]);
    }
}

/// The address is taken away, and the host gets another one: the client is back with its inner address before a person
/// has noticed, and the connections of the host's programs go on.
#[test]
fn connections_inside_survive_a_change_of_networks() {
    in_namespace("roaming::connections_inside_survive_a_change_of_networks", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}{PATIENT}"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let mut client = Client::connect(&hosts, 0, "client", &["--config", &config]).running;
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let inside = tcp(&listener, connect_from(hosts.at(0)));
        talk(&inside, 1);
        for (number, (old, new)) in [(2, 3), (3, 2)].into_iter().enumerate() {
            let moved = change(&hosts, move |netlink, link| {
                netlink.del_address(link, Ipv4Addr::new(10, 55, 0, old), 24).unwrap();
                netlink.add_address(link, Ipv4Addr::new(10, 55, 0, new), 24).unwrap();
            });
            client.wait_until("connected again", |client| connects(client) == number + 2);
            assert!(moved.elapsed() < Duration::from_secs(4), "{:?}: {}", moved.elapsed(), client.log());
            assert!(client.log().contains("this host has another address towards the server now"), "{}", client.log());
            talk(&inside, 2 + number as u8);
        }
    });
}

/// Between two attempts the client waits ever longer; a link that comes back ends the pause.
#[test]
fn a_link_that_comes_back_ends_the_pause() {
    in_namespace("roaming::a_link_that_comes_back_ends_the_pause", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}{PATIENT}"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let mut client = Client::connect(&hosts, 0, "client", &["--config", &config]).running;
        let down = change(&hosts, |netlink, link| netlink.set_down(link).unwrap());
        client.wait_for_log("was lost");
        assert!(down.elapsed() < Duration::from_secs(6), "{:?}: {}", down.elapsed(), client.log());
        client.wait_until("a long pause", |client| client.log().matches("next attempt in").count() == 4);
        let up = change(&hosts, |netlink, link| netlink.set_up(link).unwrap());
        client.wait_until("connected again", |client| connects(client) == 2);
        assert!(up.elapsed() < Duration::from_secs(2), "{:?}: {}", up.elapsed(), client.log());
        echo(&udp_at(hosts.at(0), Ipv4Addr::new(10, 98, 0, 2)), &udp(GATEWAY), b"back");
    });
}

/// The host has two ways to the server. The first one carries nothing any more, and the host takes the second: the client
/// asks at once, and connects over the second one. A way that still carries the connection is left alone.
#[test]
fn another_way_to_the_server_is_taken() {
    in_namespace("roaming::another_way_to_the_server_is_taken", || {
        let hosts = Hosts::new(PROGRAM);
        host::lab::add_loopback_address(SERVER).unwrap();
        let thread = hosts.at(0).run(|| rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        let plug = |link: &str, last| Plug { link: link.into(), address: Ipv4Addr::new(10, 56, 0, last), prefix: 24 };
        Cable { near: plug("second", 1), far: plug("other", 2) }.lay(thread).unwrap();
        hosts.at(0).run(|| {
            plug_in("other", Ipv4Addr::new(10, 56, 0, 2), 24).unwrap();
            let by = Some(Ipv4Addr::new(10, 55, 0, 1));
            Netlink::open().unwrap().add_route(Ipv4Addr::UNSPECIFIED, 0, by, None).unwrap();
        });
        let config = hosts.config(&format!("{NETWORK}{PATIENT}"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let arguments = ["client", "--connect", "192.0.2.1", "--config", &config];
        let mut client = Client::connected(hosts.start_at(0, "client", &arguments), 1).running;

        let to_second = |netlink: &mut Netlink, _| {
            netlink.add_route(SERVER, 32, Some(Ipv4Addr::new(10, 56, 0, 1)), None).unwrap();
        };
        change(&hosts, to_second);
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(connects(&client), 1, "the connection goes on: {}", client.log());
        change(&hosts, |netlink, _| {
            netlink.del_route(SERVER, 32, Some(Ipv4Addr::new(10, 56, 0, 1)), None).unwrap();
        });
        std::thread::sleep(Duration::from_secs(1));

        let mut near = Netlink::open().unwrap();
        let first = near.link_index("near0").unwrap();
        near.set_down(first).unwrap();
        let moved = change(&hosts, to_second);
        client.wait_until("connected again", |client| connects(client) == 2);
        assert!(moved.elapsed() < Duration::from_secs(8), "{:?}: {}", moved.elapsed(), client.log());
        echo(&udp_at(hosts.at(0), Ipv4Addr::new(10, 98, 0, 2)), &udp(GATEWAY), b"by the second");
    });
}

/// What time alone does not heal is not tried for ever: the client ends, and says why.
#[test]
fn another_identity_ends_the_attempts() {
    in_namespace("roaming::another_identity_ends_the_attempts", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, _) = hosts.server("server");
        let mut client = Client::connect(&hosts, 0, "client", &[]).running;
        send(&server.child, Signal::KILL);
        drop(server);
        let _other = hosts.server("other");
        assert_eq!(client.exit_code(), Some(5), "{}", client.log());
        assert!(client.log().contains("and not tried until the next start: cannot connect"), "{}", client.log());
    });
}
