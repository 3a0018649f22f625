//! The server's process ends, by a kill or by an exit without a stop, and another one goes on: its clients keep their
//! addresses, and their programs' connections go on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::embedded::config::{self, Config};
use dap_chain_net_srv_vpn::embedded::store;
use host::nft::Nft;
use rustix::process::Signal;
use testkit::TEST_TIMEOUT;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, send};
use testkit::sockets::{connect_from, exchange, tcp};
use testkit::tunnel::{Client, NETWORK};

use crate::PROGRAM;

/// The number of the clients. The host behind them is the Internet's.
const CLIENTS: usize = 3;
const INTERNET: Ipv4Addr = Ipv4Addr::new(10, 55, CLIENTS as u8, 2);
/// Where the server stores its leases.
const GROUP: &str = "local.vpn_server.leases";

/// The time in which the server stores leases that have changed, and some more.
fn wait_for_the_store() {
    thread::sleep(Duration::from_millis(1500));
}

fn kill(mut server: Running) {
    send(&server.child, Signal::KILL);
    assert_eq!(server.exit_code(), None);
}

/// Opens the store of the program with this state directory, which has ended.
fn with_store<T>(hosts: &Hosts, state: &str, work: impl FnOnce() -> T) -> T {
    config::set_current(Config::parse(&format!("[general]\nstate_dir={}", hosts.state(state)), "test").0);
    let result = work();
    store::close();
    result
}

fn say(mut end: &TcpStream, text: &[u8]) {
    end.write_all(text).unwrap();
}

fn hear(mut end: &TcpStream, text: &[u8]) {
    end.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut got = vec![0; text.len()];
    end.read_exact(&mut got).unwrap();
    assert_eq!(got, text);
}

/// The last client comes back first: without the stored leases it would get the first one's address.
#[test]
fn clients_keep_their_addresses_and_connections_when_the_server_is_killed() {
    in_namespace("restart::clients_keep_their_addresses_and_connections_when_the_server_is_killed", || {
        let hosts = Hosts::with_clients(PROGRAM, CLIENTS as u8 + 1);
        let (server, pin) = hosts.server("server");
        let route = format!("{INTERNET}/32");
        let connect = |number: usize| {
            Client::connect(&hosts, number, &format!("client{number}"), &["--pin", &pin, "--route", &route])
        };
        let clients: Vec<_> = (0..CLIENTS).map(connect).collect();
        let addresses: Vec<_> = clients.iter().map(|client| client.address).collect();
        assert_eq!(addresses, [2, 3, 4].map(|last| Ipv4Addr::new(10, 98, 0, last)));
        let listener = hosts.at(CLIENTS).run(|| TcpListener::bind((INTERNET, 0)).unwrap());
        let connections: Vec<_> = (0..CLIENTS).map(|number| tcp(&listener, connect_from(hosts.at(number)))).collect();
        for (here, there) in &connections {
            say(here, b"before");
            hear(there, b"before");
        }
        wait_for_the_store();

        kill(server);
        for client in &clients {
            send(&client.running.child, Signal::STOP);
        }
        connections.iter().for_each(|(here, _)| say(here, b"meanwhile"));
        let (server, again) = hosts.server("server");
        assert_eq!(again, pin);
        let log = server.log();
        assert!(log.contains("3 addresses are kept for the clients that had them before the start"), "{log}");
        let mut back = Vec::new();
        for (client, address) in clients.into_iter().zip(&addresses).rev() {
            send(&client.running.child, Signal::CONT);
            let client = Client::connected(client.running, 2);
            assert_eq!(client.address, *address);
            back.push(client);
        }
        for (number, (here, there)) in connections.iter().enumerate() {
            hear(there, b"meanwhile");
            exchange(&(here.try_clone().unwrap(), there.try_clone().unwrap()), 100_000, number as u64);
        }
        assert_eq!(server.log().matches(", resumed, ").count(), CLIENTS, "{}", server.log());
    });
}

/// A stop returns the addresses, and what is returned is stored as well.
#[test]
fn what_is_stored_has_no_token_and_may_be_damaged() {
    in_namespace("restart::what_is_stored_has_no_token_and_may_be_damaged", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let connect = |number: usize, config: &str| {
            let mut client =
                Client::connect(&hosts, number, &format!("client{number}"), &["--config", &hosts.config(config)]);
            send(&client.running.child, Signal::TERM);
            assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
            client.address.octets()[3]
        };
        let stop = |mut server: Running| {
            send(&server.child, Signal::TERM);
            assert_eq!(server.exit_code(), Some(0), "{}", server.log());
            server.log()
        };
        let (server, _) = hosts.server("server");
        assert_eq!((connect(0, ""), connect(1, "")), (2, 3));
        stop(server);
        let (server, _) = hosts.server("server");
        assert_eq!((connect(1, ""), connect(0, "")), (3, 2), "after a stop");
        stop(server);

        let token = with_store(&hosts, "client1", || store::list("local.vpn_client.leases").unwrap());
        let [(_, token)] = token.as_slice() else { panic!("{token:?}") };
        let stored = with_store(&hosts, "server", || store::list(GROUP).unwrap());
        let names: Vec<_> = stored.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["page-000", "secret"]);
        let page = &stored[0].1;
        assert!(token.len() >= 16 && page.len() > 88);
        assert!(token.windows(16).all(|part| !page.windows(16).any(|other| other == part)), "the token is stored");

        // A page that is none: its clients get addresses as if they were new.
        with_store(&hosts, "server", || store::set(GROUP, "page-000", b"VPNx and more").unwrap());
        let (server, _) = hosts.server("server");
        assert_eq!((connect(1, ""), connect(0, "")), (2, 3));
        let log = stop(server);
        assert!(
            log.contains("1 of 256 pages cannot be read; local.vpn_server.leases / page-000: it has 13 bytes"),
            "{log}"
        );
        let (server, _) = hosts.server("server");
        assert_eq!((connect(0, ""), connect(1, "")), (3, 2), "it was written anew");
        stop(server);

        // Another network has none of these addresses.
        let other = hosts.config(&NETWORK.replace("10.98", "10.97"));
        let (server, _) = hosts.server_with("server", &["--config", &other]);
        assert_eq!((connect(1, ""), connect(0, "")), (2, 3));
        let log = stop(server);
        assert!(
            log.contains(
                "2 stored leases are ignored, and their clients get other addresses: by [srv_vpn] network_address"
            ),
            "{log}"
        );

        // Without a store clients are known until the end alone.
        let off = hosts.config(&format!("{}store_leases=false\n", NETWORK.replace("10.98", "10.97")));
        let (server, _) = hosts.server_with("server", &["--config", &off]);
        assert_eq!((connect(0, ""), connect(1, "")), (2, 3));
        let log = stop(server);
        assert!(log.contains("store_leases = false: the stored leases are removed (1 pages)"), "{log}");
        let stored = with_store(&hosts, "server", || store::get(GROUP, "page-000").unwrap());
        assert_eq!(stored.unwrap().len(), 13, "an empty page");
    });
}

/// The configuration of a server in a process of its own.
const CONFIG: &str = "TEST_SERVER_CONFIG";

/// A program with the service, which exits without a stop when its input ends, as a node does on a signal.
#[test]
#[ignore = "the test an_exit_without_a_stop_puts_the_host_back starts it"]
fn a_server_that_never_stops() {
    config::set_current(Config::load(Path::new(&std::env::var(CONFIG).unwrap())).unwrap());
    app::server_start().unwrap();
    println!("\nserver is up");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    std::process::exit(0);
}

/// Returns the rules of the host, and which of its devices forward.
fn host() -> (Vec<Vec<u8>>, Vec<(String, String)>) {
    let devices = std::fs::read_dir("/proc/sys/net/ipv4/conf").unwrap().map(|entry| entry.unwrap().path());
    let forwarding = |path: std::path::PathBuf| {
        (path.display().to_string(), std::fs::read_to_string(path.join("forwarding")).unwrap())
    };
    let mut devices: Vec<_> = devices.map(forwarding).collect();
    devices.sort();
    (Nft::open().unwrap().ruleset().unwrap(), devices)
}

#[test]
fn an_exit_without_a_stop_puts_the_host_back() {
    in_namespace("restart::an_exit_without_a_stop_puts_the_host_back", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let before = host();
        let state = hosts.state("server");
        let text = format!("[general]\nstate_dir={state}\n[cli-server]\nenabled=false\n{NETWORK}nat=on\n");
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "restart::a_server_that_never_stops", "--include-ignored", "--nocapture"]);
        program.env(CONFIG, hosts.config(&text)).stdin(Stdio::piped());
        let mut server = Running::start(hosts.path(), "server", program, |mut program| program.spawn().unwrap());
        server.wait_for("server is up");
        let client = Client::connect(&hosts, 0, "client", &["--route", "10.55.1.0/24"]);
        let listener = hosts.at(1).run(|| TcpListener::bind((Ipv4Addr::new(10, 55, 1, 2), 0)).unwrap());
        let (here, there) = tcp(&listener, connect_from(hosts.at(0)));
        assert_eq!(here.peer_addr().unwrap(), listener.local_addr().unwrap());
        assert_ne!(host(), before);
        // Packets are on their way, and the lease has just been stored.
        there.set_nonblocking(true).unwrap();
        while (&there).write(&[0; 65_536]).is_ok() {}
        drop(server.child.stdin.take());
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
        assert_eq!(host(), before, "{}", server.log());

        let (_server, _) = hosts.server("server");
        assert_eq!(Client::connected(client.running, 2).address, client.address);
    });
}
