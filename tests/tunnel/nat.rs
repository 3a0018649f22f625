//! Clients reach other networks through the server's host, which was set up for nothing; and it is afterwards as it was.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use host::netlink::Netlink;
use host::nft::{BaseChain, Batch, ChainHook, Family, Nft, Rule, repair};
use rustix::process::Signal;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, send};
use testkit::skip;
use testkit::sockets::{echo, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// The host "Internet", which knows no way to the tunnel's network, and the server's address on the cable to it.
const INTERNET: Ipv4Addr = Ipv4Addr::new(10, 55, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 55, 1, 1);

/// Creates a client's host, the server's host between, and the host "Internet".
fn hosts() -> Hosts {
    Hosts::with_clients(PROGRAM, 2)
}

/// What the server's host has that the service may change.
fn state() -> (Vec<Vec<u8>>, Vec<(String, String)>) {
    let mut switches = Vec::new();
    for entry in fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
        for key in ["forwarding", "accept_redirects"] {
            let path = entry.as_ref().unwrap().path().join(key);
            switches.push((path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
    switches.sort();
    (Nft::open().unwrap().ruleset().unwrap(), switches)
}

fn forwarding(device: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{device}/forwarding")).unwrap().trim().to_owned()
}

fn put_up(family: Family, table: &str, chain: BaseChain, rules: Vec<Rule>) {
    let mut batch = Batch::new();
    batch.put_table(family, table);
    batch.add_chain(family, table, &chain);
    for rule in rules {
        batch.add_rule(family, table, chain.name, rule);
    }
    Nft::open().unwrap().perform(batch).unwrap();
}

const POSTROUTING: BaseChain =
    BaseChain { name: "post", kind: "nat", hook: ChainHook::Postrouting, priority: 100, accepts: true };
const FORWARD: BaseChain =
    BaseChain { name: "FORWARD", kind: "filter", hook: ChainHook::Forward, priority: 0, accepts: false };

fn connect(hosts: &Hosts) -> Client {
    Client::connect(hosts, 0, "client", &["--route", "10.55.1.0/24"])
}

/// Sends a datagram from the client to the Internet; returns its source there, after the answer has come back.
fn source_at_internet(hosts: &Hosts, client: &Client) -> Ipv4Addr {
    let there = udp_at(hosts.at(1), INTERNET);
    let here = udp_at(hosts.at(0), client.address);
    here.send_to(b"question", there.local_addr().unwrap()).unwrap();
    let (_, from) = there.recv_from(&mut [0; 64]).unwrap();
    there.send_to(b"answer", from).unwrap();
    here.recv_from(&mut [0; 64]).unwrap();
    let IpAddr::V4(source) = from.ip() else { panic!("{from}") };
    source
}

/// Whether a datagram from the client arrives at the Internet.
fn arrives(hosts: &Hosts, client: &Client) -> bool {
    let there = udp_at(hosts.at(1), INTERNET);
    there.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    udp_at(hosts.at(0), client.address).send_to(b"x", there.local_addr().unwrap()).unwrap();
    there.recv_from(&mut [0; 64]).is_ok()
}

fn server(hosts: &Hosts, nat: &str) -> Running {
    let config = hosts.config(&format!("{NETWORK}nat={nat}\n"));
    hosts.server_with("server", &["--config", &config]).0
}

fn end(mut server: Running, signal: Signal) {
    send(&server.child, signal);
    server.child.wait().unwrap();
    drop(server);
}

#[test]
fn the_internet_sees_the_servers_address_and_the_host_is_put_back() {
    in_namespace("nat::the_internet_sees_the_servers_address_and_the_host_is_put_back", || {
        let hosts = hosts();
        // The administrator wants this one to forward.
        fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", "1").unwrap();
        let before = state();
        for signal in [Signal::TERM, Signal::KILL] {
            let (server, _) = hosts.server("server");
            let client = connect(&hosts);
            assert_eq!(source_at_internet(&hosts, &client), SERVER, "{signal:?}");
            assert_eq!(["near0", "near1", "all"].map(forwarding), ["1", "1", "0"]);
            let log = server.log();
            assert!(log.contains("forwarding was enabled for near0, near1, tun0"), "{log}");
            assert!(log.contains("addresses from 10.98.0.0/24 are translated"), "{log}");
            // The tunnel itself is not translated.
            echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"the gateway");
            assert_eq!(repair().unwrap().len(), 1, "what a running server holds stays");
            drop(client);
            end(server, signal);
            if signal == Signal::KILL {
                eventually("the device is gone", || !Path::new("/proc/sys/net/ipv4/conf/tun0").exists());
                assert_ne!(state(), before);
                let said = repair().unwrap();
                assert_eq!(said.len(), 3, "{said:?}");
            }
            assert_eq!(state(), before, "{signal:?}");
        }
        // The next start's stop undoes it, too.
        end(hosts.server("server").0, Signal::KILL);
        let (server, _) = hosts.server("server");
        assert!(server.log().contains("after a server that has ended: disabled the forwarding"), "{}", server.log());
        end(server, Signal::TERM);
        assert_eq!(state(), before);
    });
}

/// Whatever step it has reached, the table says by itself what is to be undone.
#[test]
fn a_kill_at_any_time_can_be_repaired() {
    in_namespace("nat::a_kill_at_any_time_can_be_repaired", || {
        let hosts = hosts();
        let before = state();
        let mut was_up = 0;
        let mut check = |mut server: Running, when: &str| {
            send(&server.child, Signal::KILL);
            server.child.wait().unwrap();
            eventually("the device is gone", || !Path::new("/proc/sys/net/ipv4/conf/tun0").exists());
            was_up += usize::from(state() != before);
            repair().unwrap();
            assert_eq!(state(), before, "{when}");
        };
        for milliseconds in [5, 10, 20, 30, 40, 60, 80, 100, 120, 150, 200, 300] {
            let server = hosts.start_server("server", &[]);
            std::thread::sleep(Duration::from_millis(milliseconds));
            check(server, &format!("{milliseconds} ms after the start"));
        }
        for milliseconds in [0, 1, 2, 4, 8, 12, 20, 40] {
            let (server, _) = hosts.server("server");
            send(&server.child, Signal::TERM);
            std::thread::sleep(Duration::from_millis(milliseconds));
            check(server, &format!("{milliseconds} ms after the stop"));
        }
        assert!(was_up > 1, "the kills came too early or too late: {was_up}");
    });
}

#[test]
fn off_changes_nothing() {
    in_namespace("nat::off_changes_nothing", || {
        let hosts = hosts();
        let before = state();
        let server = server(&hosts, "off");
        let client = connect(&hosts);
        assert!(!arrives(&hosts, &client));
        assert_eq!(state().0, before.0);
        assert_eq!(["near0", "near1", "tun0"].map(forwarding), ["0"; 3]);
        assert!(server.log().contains("this host does not forward IPv4"), "{}", server.log());
    });
}

/// Docker, ufw and others may use the older ip_tables, which only its own program can list.
#[test]
fn rules_of_iptables_legacy_are_named() {
    const TEST: &str = "nat::rules_of_iptables_legacy_are_named";
    in_namespace(TEST, || {
        let hosts = hosts();
        let running = server(&hosts, "auto");
        assert!(!running.log().contains("iptables-legacy"), "{}", running.log());
        end(running, Signal::TERM);
        let iptables = |arguments: &[&str]| Command::new("iptables-legacy").args(arguments).status();
        match iptables(&["-P", "FORWARD", "DROP"]) {
            Ok(status) if status.success() => {}
            result => return skip(TEST, &format!("iptables-legacy -P FORWARD DROP: {result:?}")),
        }
        let running = server(&hosts, "auto");
        let log = running.log();
        assert!(log.contains("this host has tables of iptables-legacy (filter), which are not looked at"), "{log}");
        let client = connect(&hosts);
        assert!(!arrives(&hosts, &client));
        // What the line says is right.
        for side in ["-i", "-o"] {
            assert!(iptables(&["-I", "FORWARD", side, "tun0", "-j", "ACCEPT"]).unwrap().success());
        }
        assert_eq!(source_at_internet(&hosts, &client), SERVER);
    });
}

#[test]
fn a_host_that_is_set_up_stays_as_it_is() {
    in_namespace("nat::a_host_that_is_set_up_stays_as_it_is", || {
        let hosts = hosts();
        testkit::hosts::forward_packets().unwrap();
        // It translates to another address than ours would.
        let subnet = IpAddr::from([10, 98, 0, 0]);
        put_up(Family::Ip, "foreign", POSTROUTING, vec![Rule::new("").from(subnet, 24).masquerade()]);
        let before = state();
        let running = server(&hosts, "auto");
        assert!(running.log().contains("the table ip foreign translates clients' addresses"), "{}", running.log());
        assert_eq!(state().0, before.0);
        assert_eq!(source_at_internet(&hosts, &connect(&hosts)), SERVER);
        end(running, Signal::TERM);
        assert_eq!(state(), before);

        // One for another network alone is no reason to leave it.
        let other = IpAddr::from([172, 17, 0, 0]);
        put_up(Family::Ip, "foreign", POSTROUTING, vec![Rule::new("").from(other, 16).masquerade()]);
        let before = state();
        let running = server(&hosts, "auto");
        assert!(running.log().contains("the host forwards already"), "{}", running.log());
        assert_eq!(source_at_internet(&hosts, &connect(&hosts)), SERVER);
        end(running, Signal::TERM);
        assert_eq!(state(), before);
    });
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_named() {
    in_namespace("nat::a_firewall_that_drops_what_is_forwarded_is_named", || {
        let hosts = hosts();
        put_up(Family::Ip, "filter", FORWARD, vec![]);
        let running = server(&hosts, "auto");
        let log = running.log();
        assert!(log.contains("the chain FORWARD of the table ip filter drops what the host forwards"), "{log}");
        assert!(log.contains("`nft insert rule ip filter FORWARD iifname tun0 accept`"), "{log}");
        let client = connect(&hosts);
        assert!(!arrives(&hosts, &client));
        // With the rules that the line names it works, and the next start says nothing.
        let rules = || vec![Rule::new("").in_by("tun0").accept(), Rule::new("").out_by("tun0").accept()];
        put_up(Family::Ip, "filter", FORWARD, rules());
        assert_eq!(source_at_internet(&hosts, &client), SERVER);
        drop(client);
        end(running, Signal::TERM);
        let running = server(&hosts, "auto");
        assert!(!running.log().contains("drops what the host forwards"), "{}", running.log());
    });
}

#[test]
fn a_new_device_and_a_new_way_out_are_followed() {
    in_namespace("nat::a_new_device_and_a_new_way_out_are_followed", || {
        let hosts = Hosts::new(PROGRAM);
        let before = state();
        let (mut server, _) = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &["--route", "10.55.9.0/24", "--retry"]);
        let device = Netlink::open().unwrap().link_index("tun0").unwrap();
        Netlink::open().unwrap().del_link(device).unwrap();
        server.wait_until("made again", |server| {
            server.stdout().contains("up again") || server.log().contains("up again")
        });
        assert_eq!(forwarding("tun0"), "1");
        // A cable that is plugged in later.
        let internet = testkit::hosts::Host::new(9);
        eventually("forwarding of near9", || forwarding("near9") == "1");
        let there = udp_at(&internet, Ipv4Addr::new(10, 55, 9, 2));
        udp_at(hosts.at(0), client.address).send_to(b"x", there.local_addr().unwrap()).unwrap();
        let (_, from) = there.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from.ip(), IpAddr::from([10, 55, 9, 1]));
        drop(client);
        end(server, Signal::TERM);
        assert_eq!((state().0, forwarding("near9")), (before.0, "0".to_owned()));
    });
}

#[test]
fn a_read_only_proc_is_a_warning_or_with_on_an_end() {
    in_namespace("nat::a_read_only_proc_is_a_warning_or_with_on_an_end", || {
        let hosts = hosts();
        let before = state();
        for arguments in [&["--bind", "/proc/sys", "/proc/sys"][..], &["-o", "remount,bind,ro", "/proc/sys"]] {
            assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
        }
        let running = server(&hosts, "auto");
        let said = "the forwarding of near0 cannot be enabled: Read-only file system";
        assert!(running.log().contains(said), "{}", running.log());
        end(running, Signal::TERM);
        assert_eq!(state(), before);
        let config = hosts.config(&format!("{NETWORK}nat=on\n"));
        let output = hosts.near(&["server", "--config", &config, "--state-dir", &hosts.state("on")]);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("[srv_vpn] nat = on: ") && log.contains(said), "{log}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(state(), before);
    });
}
