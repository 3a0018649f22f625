//! Captive portals: at first a network's sign-in page answers every connection and every name, then the network opens.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use host::lab::add_loopback_address;
use host::netlink::Netlink;
use parking_lot::Mutex;
use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, send, stdout};
use testkit::sockets::{echo, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// The server on the client's cable, where the redirected connections come out as well.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 1);
/// The sign-in page's own address.
const PAGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// How soon a client that was connected is back when the network opens: its longest pause, and an attempt.
const SOON: Duration = Duration::from_secs(8);

/// The network's sign-in page, in the place of the server. Dropping it opens the network.
struct Portal {
    is_open: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Portal {
    fn close_network() -> Portal {
        let is_open = Arc::new(AtomicBool::new(false));
        let listeners = [SERVER, PAGE].map(|address| TcpListener::bind((address, 8079)).unwrap());
        let threads = listeners.map(|listener| {
            listener.set_nonblocking(true).unwrap();
            let is_open = Arc::clone(&is_open);
            thread::spawn(move || {
                while !is_open.load(Ordering::Acquire) {
                    match listener.accept() {
                        Ok((mut connection, _)) => {
                            connection.set_nonblocking(false).unwrap();
                            let _ = connection.read(&mut [0; 4096]);
                            let _ = connection.write_all(
                                b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\nContent-Length: 0\r\n\r\n",
                            );
                        }
                        Err(_) => thread::sleep(Duration::from_millis(5)),
                    }
                }
            })
        });
        Portal { is_open, threads: threads.into() }
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.is_open.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// A name server that answers every query for an address with this one (RFC 1035, 4), or not at all.
fn name_server(address: &Arc<Mutex<Option<Ipv4Addr>>>) {
    let (socket, address) = (UdpSocket::bind((SERVER, 53)).unwrap(), Arc::clone(address));
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut query) {
            let Some(address) = *address.lock() else { continue };
            socket.send_to(&answer(&query[..size], address), from).unwrap();
        }
    });
}

fn answer(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let name = query[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
    let (question, is_a) = (&query[12..name + 4], query[name..name + 2] == [0, 1]);
    let mut answer = [&query[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0], question].concat();
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

fn connects(client: &Running) -> usize {
    client.stdout().matches("connected to ").count()
}

fn status(hosts: &Hosts) -> String {
    stdout(&hosts.near(&["status", "--state-dir", &hosts.state("client")]))
}

/// The client is connected, and its host comes into a network with a portal, which opens after some attempts.
fn the_network_opens(test: &str, target: &str, arguments: &[&str]) {
    in_namespace(test, || {
        let hosts = Hosts::new(PROGRAM);
        add_loopback_address(PAGE).unwrap();
        hosts.at(0).run(|| {
            let mut netlink = Netlink::open().unwrap();
            netlink.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(SERVER), None).unwrap();
        });
        let name_is = Arc::new(Mutex::new(Some(SERVER)));
        name_server(&name_is);
        fs::write("/etc/resolv.conf", format!("nameserver {SERVER}\n")).unwrap();
        let config = hosts.config(&format!("{NETWORK}dns=[]\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let arguments = [&["client", "--connect", target, "--config", &config], arguments].concat();
        let mut client = Client::connected(hosts.start_at(0, "client", &arguments), 1).running;

        send(&server.child, Signal::KILL);
        drop(server);
        let portal = Portal::close_network();
        *name_is.lock() = Some(PAGE);
        let told = "(a captive portal)";
        client.wait_until("attempts", |client| client.log().matches(told).count() >= 3);
        let said = status(&hosts);
        assert!(said.contains("lost connection") && said.contains(told) && said.contains("reconnects:yes"), "{said}");

        // The network's name server is slow to come back: the address that the server had counts, not the page's.
        *name_is.lock() = None;
        drop(portal);
        let opened = Instant::now();
        let _server = hosts.server_with("server", &["--config", &config]);
        client.wait_until("connected again", |client| connects(client) == 2);
        assert!(opened.elapsed() < SOON, "{:?}: {}", opened.elapsed(), client.log());
        // The page was never taken for a server with another identity.
        assert!(!client.log().contains("unexpected identity"), "{}", client.log());
        echo(&udp_at(hosts.at(0), Ipv4Addr::new(10, 98, 0, 2)), &udp(GATEWAY), b"open");
    });
}

#[test]
fn a_server_given_by_address_is_found_when_the_network_opens() {
    the_network_opens("captive::a_server_given_by_address_is_found_when_the_network_opens", "10.55.0.1", &[]);
}

#[test]
fn a_server_given_by_name_is_found_when_the_network_opens() {
    let test = "captive::a_server_given_by_name_is_found_when_the_network_opens";
    the_network_opens(test, "vpn.test", &["--no-routes"]);
}

/// No name server is asked.
#[test]
fn a_kill_switch_holds_and_the_server_is_found_when_the_network_opens() {
    let test = "captive::a_kill_switch_holds_and_the_server_is_found_when_the_network_opens";
    the_network_opens(test, "vpn.test", &["--kill-switch"]);
}

/// The first start is in the network with the portal.
#[test]
fn a_first_start_says_what_is_the_matter_and_retries() {
    in_namespace("captive::a_first_start_says_what_is_the_matter_and_retries", || {
        let hosts = Hosts::new(PROGRAM);
        add_loopback_address(PAGE).unwrap();
        let portal = Portal::close_network();
        let mut once = hosts.client(&[]);
        assert_eq!(once.exit_code(), Some(9), "{}", once.log());
        assert!(once.log().contains("(a captive portal)"), "{}", once.log());
        let mut client = hosts.client(&["--retry"]);
        client.wait_for_log("(a captive portal)");
        drop(portal);
        let _server = hosts.server("server");
        client.wait_for("connected to ");
    });
}
