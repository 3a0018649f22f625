//! The host's name servers while the tunnel is up, and afterwards, however the client ended. The file /etc/resolv.conf is
//! the test's own ([`in_namespace`]).

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::embedded::config::{self, Config};
use host::netlink::Netlink;
use host::nft::kill_switch;
use rustix::process::Signal;
use std::process::{Child, Command, Stdio};
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::{in_namespace, mount};
use testkit::program::{Running, code, send, stderr, stdout};
use testkit::skip;
use testkit::tunnel::{Client, GATEWAY, NETWORK};
use vpn_core::forward::Networks;

use crate::routes::hosts;

pub(crate) const FILE: &str = "/etc/resolv.conf";
/// What the client is told to do.
const ALL: [&str; 2] = ["--route", "0.0.0.0/0"];

/// The file with its inode, mode and target, and the names of those beside it.
pub(crate) type State = (Option<(u64, u32)>, Option<PathBuf>, Option<Vec<u8>>, Vec<String>);

pub(crate) fn state() -> State {
    let names = fs::read_dir("/etc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("resolv.conf")).collect();
    names.sort();
    let facts = fs::symlink_metadata(FILE).ok().map(|found| (found.ino(), found.mode()));
    (facts, fs::read_link(FILE).ok(), fs::read(FILE).ok(), names)
}

/// Returns the name servers that the C library reads.
fn servers() -> Vec<String> {
    let text = fs::read_to_string(FILE).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::to_owned).collect()
}

/// Starts a server that gives these name servers.
fn server(hosts: &Hosts, dns: &str) -> Running {
    hosts.server_with("server", &["--config", &config_file(hosts, &format!("{NETWORK}dns={dns}\n"))]).0
}

fn config_file(hosts: &Hosts, text: &str) -> String {
    let path = hosts.path().join(format!("{}.cfg", fs::read_dir(hosts.path()).unwrap().count()));
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn connect(hosts: &Hosts, arguments: &[&str]) -> Client {
    Client::connect(hosts, 0, "client", &[&ALL[..], arguments].concat())
}

/// A command to the running client.
fn ask(hosts: &Hosts, command: &str) -> String {
    let output = hosts.near(&[command, "--state-dir", &hosts.state("client")]);
    assert_eq!(code(&output), 0, "{command}: {}", stderr(&output));
    stdout(&output)
}

fn repair(hosts: &Hosts) -> String {
    let output = hosts.repair_at(0);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

/// Interrupts the client, as Ctrl-C does, and waits for its end.
fn interrupt(mut client: Client) {
    send(&client.running.child, Signal::INT);
    assert_eq!(client.running.exit_code(), Some(0), "{}", client.running.log());
}

fn kill(mut client: Client) {
    send(&client.running.child, Signal::KILL);
    client.running.child.wait().unwrap();
}

#[test]
fn the_file_is_byte_for_byte_back_however_the_client_ends() {
    in_namespace("dns::the_file_is_byte_for_byte_back_however_the_client_ends", || {
        let hosts = hosts();
        let _server = server(&hosts, "[10.98.0.1,9.9.9.9]");
        let text = "search corp.test\nnameserver 192.0.2.53\noptions edns0 trust-ad\n";
        let managed = hosts.path().join("managed.conf");
        fs::write(&managed, text).unwrap();
        for kind in ["file", "link", "dangling", "missing", "mount"] {
            let _ = fs::remove_file(FILE);
            match kind {
                "file" => fs::write(FILE, text).unwrap(),
                "link" => symlink(&managed, FILE).unwrap(),
                "dangling" => symlink("../run/nowhere/resolv.conf", FILE).unwrap(),
                "missing" => {}
                _ => {
                    fs::write(FILE, "").unwrap();
                    mount(&["--bind", managed.to_str().unwrap(), FILE]);
                }
            }
            let before = state();
            for end in ["interrupt", "stop", "kill and repair", "kill and start"] {
                let is_repaired = end == "kill and repair";
                let client = connect(&hosts, if is_repaired { &["--kill-switch"] } else { &[] });
                assert_eq!(servers(), ["10.98.0.1", "9.9.9.9"], "{kind}, {end}");
                let ours = fs::read_to_string(FILE).unwrap();
                assert!(!ours.contains("corp.test") && !ours.contains("trust-ad"), "{ours}");
                assert!(ask(&hosts, "status").contains("\ndns:10.98.0.1, 9.9.9.9 by resolv.conf\n"), "{kind}");
                let said = repair(&hosts);
                assert!(said.contains("stays; it belongs to the client in process"), "{said}");
                match end {
                    "interrupt" => interrupt(client),
                    "stop" => {
                        ask(&hosts, "stop");
                        let mut client = client;
                        assert_eq!(client.running.exit_code(), Some(0));
                    }
                    "kill and repair" => {
                        kill(client);
                        assert_eq!(servers(), ["10.98.0.1", "9.9.9.9"], "nobody was there to undo it");
                        let said = repair(&hosts);
                        let expected = if kind == "missing" { "is removed; there was none" } else { "is what it was" };
                        assert!(said.contains(expected), "{kind}: {said}");
                        assert!(said.contains("removed the kill switch"), "{kind}: {said}");
                    }
                    _ => {
                        kill(client);
                        // Its own name servers are not set; those of the killed one are no obstacle.
                        interrupt(connect(&hosts, &["--dns", "off"]));
                    }
                }
                assert_eq!(state(), before, "{kind}, {end}");
            }
            assert_eq!(repair(&hosts), "nothing to repair\n");
        }
        assert_eq!(fs::read_to_string(managed).unwrap(), text);
    });
}

#[test]
fn what_something_else_writes_is_overwritten_and_put_back_at_the_end() {
    in_namespace("dns::what_something_else_writes_is_overwritten_and_put_back_at_the_end", || {
        let hosts = hosts();
        let _server = server(&hosts, "[10.98.0.1]");
        let client = connect(&hosts, &[]);
        let theirs = |last: u8| {
            fs::write("/etc/theirs", format!("nameserver 192.0.2.{last}\n")).unwrap();
            fs::rename("/etc/theirs", FILE).unwrap();
        };
        theirs(7);
        eventually("ours is on top again", || servers() == ["10.98.0.1"]);
        eventually("it is told", || client.running.log().contains("the tunnel are on top again"));
        interrupt(client);
        assert_eq!((servers(), state().3.len()), (vec!["192.0.2.7".to_owned()], 1));

        // One that never gives up wins.
        let client = connect(&hosts, &[]);
        for last in 10..16 {
            theirs(last);
            let gave_up = || client.running.log().contains("are in force no more");
            eventually("it is answered", || servers() == ["10.98.0.1"] || gave_up());
        }
        assert!(client.running.log().contains("written 6 times within a minute"), "{}", client.running.log());
        assert_eq!(servers(), ["192.0.2.15"]);
        assert!(ask(&hosts, "status").contains("\ndns:10.98.0.1 by nothing any more\n"));
        interrupt(client);
        assert_eq!((servers(), state().3.len()), (vec!["192.0.2.15".to_owned()], 1));
    });
}

#[test]
fn a_read_only_etc_leaves_the_tunnel_up_unless_the_user_names_servers() {
    in_namespace("dns::a_read_only_etc_leaves_the_tunnel_up_unless_the_user_names_servers", || {
        let hosts = hosts();
        let _server = server(&hosts, "[10.98.0.1]");
        let before = state();
        mount(&["-o", "remount,ro", "/etc"]);
        let client = connect(&hosts, &[]);
        assert!(
            client.running.log().contains("the host's name servers stay: /etc is read-only"),
            "{}",
            client.running.log()
        );
        assert!(!ask(&hosts, "status").contains("\ndns:"));
        interrupt(client);
        let mut client = hosts.client(&["--dns", "10.98.0.1"]);
        assert_eq!(client.exit_code(), Some(1), "{}", client.log());
        assert!(client.log().contains("the name servers cannot be set: /etc is read-only"), "{}", client.log());
        mount(&["-o", "remount,rw", "/etc"]);
        assert_eq!(state(), before);
    });
}

#[test]
fn only_servers_that_are_reached_through_the_tunnel_are_taken_from_a_lease() {
    in_namespace("dns::only_servers_that_are_reached_through_the_tunnel_are_taken_from_a_lease", || {
        let hosts = hosts();
        let before = state();
        // The last one is on the cable's network, outside of the tunnel.
        let hostile = "[127.0.0.1,0.0.0.0,224.0.0.1,255.255.255.255,10.55.0.1,10.55.0.2]";
        let running = server(&hosts, hostile);
        let client = connect(&hosts, &[]);
        let log = client.running.log();
        for says in [
            "127.0.0.1, which is this host's;",
            "0.0.0.0, which is no host's;",
            "224.0.0.1, which is a group of hosts;",
            "255.255.255.255, which is no host's;",
            "10.55.0.1, which is not reached through the tunnel;",
            "10.55.0.2, which is not reached through the tunnel;",
            "the lease names none, and 10.98.0.1 answers no query",
        ] {
            assert!(log.contains(says), "{says}: {log}");
        }
        assert_eq!(state(), before);
        interrupt(client);
        drop(running);

        let _server = server(&hosts, "[9.9.9.9]");
        // Without the Internet in the tunnel nothing changes, and with `off`.
        for arguments in [&["--route", "198.18.0.0/15"][..], &["--route", "0.0.0.0/0", "--dns", "off"]] {
            let client = Client::connect(&hosts, 0, "client", arguments);
            assert_eq!(state(), before, "{arguments:?}");
            interrupt(client);
        }
        // All that is public is the Internet, too.
        let public = Networks::parse(["0.0.0.0/0"]).unwrap();
        let public = public.without(&Networks::parse(["10.0.0.0/8", "192.168.0.0/16"]).unwrap());
        let routes: Vec<_> = public.blocks().iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        let key = config_file(&hosts, &format!("[vpn_client]\nroutes=[{}]\n", routes.join(",")));
        let client = Client::connect(&hosts, 0, "client", &["--config", &key]);
        assert_eq!(servers(), ["9.9.9.9"]);
        interrupt(client);
        // The user's word counts everywhere.
        let key = config_file(&hosts, "[vpn_client]\ndns=[10.98.0.1,10.55.0.1]\n");
        let client = Client::connect(&hosts, 0, "client", &["--config", &key]);
        assert_eq!(servers(), ["10.98.0.1", "10.55.0.1"]);
        assert!(client.running.log().contains("[vpn_client] dns = 10.55.0.1: it is asked outside"));
        interrupt(client);
        let client = Client::connect(&hosts, 0, "client", &["--config", &key, "--dns", "gateway"]);
        assert_eq!(servers(), ["10.98.0.1"]);
        interrupt(client);
        assert_eq!(state(), before);
        for value in ["fd00::1", "[auto,10.0.0.1]", "one.one"] {
            let mut client = hosts.client(&["--config", &config_file(&hosts, &format!("[vpn_client]\ndns={value}\n"))]);
            assert_eq!(client.exit_code(), Some(2), "{}", client.log());
            assert!(client.log().contains("expected auto, off, gateway, or a list of IPv4"), "{}", client.log());
        }
    });
}

/// The server tells its own host's name servers, where clients can reach them.
#[test]
fn clients_get_the_servers_own_name_servers() {
    in_namespace("dns::clients_get_the_servers_own_name_servers", || {
        let hosts = hosts();
        fs::write(FILE, "nameserver 127.0.0.53\nnameserver 198.18.7.53\nnameserver 10.55.0.1\n").unwrap();
        for (keys, expected) in [
            ("", &["198.18.7.53"][..]),
            ("dns=auto\n", &["198.18.7.53"]),
            ("dns=[auto,9.9.9.9]\ndeny=[198.18.0.0/15]\ndeny_host=true\n", &["9.9.9.9"]),
            ("dns=[9.9.9.9]\n", &["9.9.9.9"]),
        ] {
            let file = config_file(&hosts, &format!("{NETWORK}{keys}"));
            let running = hosts.server_with("server", &["--config", &file]).0;
            let client = connect(&hosts, &[]);
            assert_eq!(servers(), expected, "{keys:?}: {}", running.log());
            interrupt(client);
        }
    });
}

#[test]
fn the_gateway_is_asked_if_it_answers() {
    in_namespace("dns::the_gateway_is_asked_if_it_answers", || {
        let hosts = hosts();
        let before = state();
        // Off: no name servers at all.
        let running = server(&hosts, "[]");
        let answering = UdpSocket::bind((GATEWAY, 53)).unwrap();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = answering.recv_from(&mut query) {
                query[2] |= 0x80;
                answering.send_to(&query[..length], from).unwrap();
            }
        });
        let client = connect(&hosts, &["--retry"]);
        assert_eq!(servers(), ["10.98.0.1"]);
        // While the client connects again, and afterwards.
        let set = state();
        drop(running);
        eventually("the loss is seen", || client.running.log().contains("next attempt"));
        assert_eq!(state(), set);
        let _server = server(&hosts, "[]");
        let client = Client::connected(client.running, 2);
        assert_eq!(state(), set);
        interrupt(client);
        assert_eq!(state(), before);
    });
}

/// What a program does that uses the library, before it exits without a stop, as a node does on a signal.
const EXITS: &str = "TEST_CLIENT_DOES";
/// Its configuration.
const CONFIG: &str = "TEST_CLIENT_CONFIG";

/// A program that uses the library, in a process of its own.
#[test]
#[ignore = "the test what_a_program_leaves_that_never_stops starts it"]
fn a_program_that_never_stops() {
    let does = std::env::var(EXITS).unwrap();
    config::set_current(Config::load(Path::new(&std::env::var(CONFIG).unwrap())).unwrap());
    app::client_init().unwrap();
    if does == "stop" {
        app::client_stop();
    }
    if does.starts_with("start") {
        app::client_start("10.55.0.1", 8079, "backbone").unwrap();
        assert_eq!(servers(), ["10.98.0.1"]);
    }
    if does == "start, killed" {
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
    }
    std::process::exit(0);
}

#[test]
fn what_a_program_leaves_that_never_stops() {
    in_namespace("dns::what_a_program_leaves_that_never_stops", || {
        let hosts = hosts();
        let (_server, pin) =
            hosts.server_with("server", &["--config", &config_file(&hosts, &format!("{NETWORK}dns=10.98.0.1\n"))]);
        let client = format!(
            "[general]\nstate_dir={}\n[server]\nenabled=false\n[vpn_client]\nserver_pin={pin}\nkill_switch=true\n",
            hosts.state("library")
        );
        let client = config_file(&hosts, &client);
        let run = |does: &'static str| {
            let mut program = Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", "dns::a_program_that_never_stops", "--include-ignored", "--nocapture"]);
            program.env(CONFIG, &client).env(EXITS, does);
            hosts.at(0).run(move || program.output().unwrap())
        };
        let has_kill_switch = || hosts.at(0).run(|| kill_switch::standing().unwrap().is_some());
        let before = state();
        for does in ["start", "init", "stop"] {
            let output = run(does);
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            assert_eq!(state(), before, "{does}: the name servers are back");
            // Nobody has stopped the client until then.
            assert_eq!(has_kill_switch(), does != "stop", "{does}");
        }
        let killed = run("start, killed");
        assert_eq!(killed.status.code(), None, "{}", stderr(&killed));
        assert_eq!(servers(), ["10.98.0.1"], "nobody was there to undo it");
        assert_eq!(code(&run("init")), 0);
        assert_eq!(state(), before, "the next program's begin has undone it");
    });
}

/// What systemd-resolved is told, by one that notes it. It answers on a bus of the test's own.
mod resolved {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::net::Ipv4Addr;

    use zbus::connection::Builder;
    use zbus::interface;

    /// Where the calls are noted, a line for each.
    pub(super) const CALLS: &str = "/run/calls";

    struct Manager;

    fn note(line: &str) {
        let mut calls = OpenOptions::new().create(true).append(true).open(CALLS).unwrap();
        writeln!(calls, "{line}").unwrap();
    }

    #[interface(name = "org.freedesktop.resolve1.Manager")]
    impl Manager {
        #[zbus(name = "SetLinkDNS")]
        fn set_link_dns(&self, link: i32, servers: Vec<(i32, Vec<u8>)>) {
            let address = |(family, bytes): (i32, Vec<u8>)| {
                assert_eq!(family, libc::AF_INET);
                Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap())
            };
            note(&format!("dns {link} {:?}", servers.into_iter().map(address).collect::<Vec<_>>()));
        }

        fn set_link_domains(&self, link: i32, domains: Vec<(String, bool)>) {
            note(&format!("domains {link} {domains:?}"));
        }

        fn set_link_default_route(&self, link: i32, is_default: bool) {
            note(&format!("default {link} {is_default}"));
        }

        #[zbus(name = "SetLinkLLMNR")]
        fn set_link_llmnr(&self, link: i32, mode: String) {
            note(&format!("llmnr {link} {mode}"));
        }

        #[zbus(name = "SetLinkMulticastDNS")]
        fn set_link_multicast_dns(&self, link: i32, mode: String) {
            note(&format!("mdns {link} {mode}"));
        }

        fn revert_link(&self, link: i32) {
            note(&format!("revert {link}"));
        }

        fn flush_caches(&self) {
            note("flush");
        }
    }

    /// The stand-in, in a process of its own until it is killed.
    #[test]
    #[ignore = "the test by_resolved starts it"]
    fn stand_in() {
        let bus = Builder::system().name("org.freedesktop.resolve1").serve_at("/org/freedesktop/resolve1", Manager);
        zbus::block_on(async {
            let _bus = bus.build().await.unwrap();
            note("up");
            std::future::pending::<()>().await;
        });
    }
}

/// A process that ends with the test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a system bus.
fn bus(hosts: &Hosts) -> std::io::Result<Beside> {
    let allow = "<allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/><allow user='*'/>";
    let policy = format!("<policy context='default'>{allow}</policy>");
    let listen = "<listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>";
    let file = config_file(hosts, &format!("<busconfig><type>system</type>{listen}{policy}</busconfig>"));
    fs::create_dir("/run/dbus").unwrap();
    let mut daemon = Command::new("dbus-daemon");
    daemon.args(["--nofork", "--nopidfile", "--config-file", &file]).stdin(Stdio::null());
    let daemon = Beside(daemon.spawn()?);
    eventually("the bus listens", || fs::metadata("/run/dbus/system_bus_socket").is_ok());
    Ok(daemon)
}

/// Starts the stand-in for systemd-resolved in the network of the calling thread.
fn resolved() -> Beside {
    let _ = fs::remove_file(resolved::CALLS);
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "dns::resolved::stand_in", "--include-ignored", "--nocapture"]);
    let running = Beside(program.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    eventually("systemd-resolved is up", || calls() == ["up"]);
    running
}

fn calls() -> Vec<String> {
    fs::read_to_string(resolved::CALLS).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn by_resolved() {
    in_namespace("dns::by_resolved", || {
        let hosts = hosts();
        let _server = server(&hosts, "[10.98.0.1,9.9.9.9]");
        mount(&["-t", "tmpfs", "tmpfs", "/run"]);
        fs::write(FILE, "nameserver 127.0.0.53\noptions edns0\n").unwrap();
        let before = state();
        // Without one the stub answers nobody: the file is replaced.
        let _bus = match bus(&hosts) {
            Ok(bus) => bus,
            Err(error) => return skip("dns::by_resolved", &format!("dbus-daemon cannot be run: {error}")),
        };
        let client = connect(&hosts, &[]);
        assert_eq!(servers(), ["10.98.0.1", "9.9.9.9"]);
        interrupt(client);
        assert_eq!(state(), before);

        let running = hosts.at(0).run(resolved);
        let client = connect(&hosts, &["--retry"]);
        let device = client.device.clone();
        let index = hosts.at(0).run(move || Netlink::open().unwrap().link_index(&device).unwrap());
        let set = [
            "up".to_owned(),
            format!("dns {index} [10.98.0.1, 9.9.9.9]"),
            format!("domains {index} [(\".\", true)]"),
            format!("default {index} true"),
            format!("llmnr {index} no"),
            format!("mdns {index} no"),
            "flush".to_owned(),
        ];
        assert_eq!(calls(), set);
        assert_eq!(state(), before, "the C library asks systemd-resolved already");
        assert!(ask(&hosts, "status").contains("\ndns:10.98.0.1, 9.9.9.9 by systemd-resolved\n"));
        interrupt(client);
        assert_eq!(calls()[7..], [format!("revert {index}"), "flush".to_owned()]);

        // The C library asks another one: both are told.
        fs::write(FILE, "nameserver 192.0.2.53\n").unwrap();
        let client = connect(&hosts, &[]);
        assert_eq!((servers().len(), calls().len()), (2, 15));
        assert!(ask(&hosts, "status").contains(" by systemd-resolved and resolv.conf\n"));
        interrupt(client);
        assert_eq!(servers(), ["192.0.2.53"]);
        drop(running);

        // In another network the number of the link is another link's.
        let _elsewhere = resolved();
        let client = connect(&hosts, &[]);
        assert_eq!((servers().len(), calls()), (2, vec!["up".to_owned()]));
        assert!(client.running.log().contains("it is in another network namespace"), "{}", client.running.log());
        interrupt(client);
        assert_eq!((servers(), calls().len()), (vec!["192.0.2.53".to_owned()], 1));
    });
}
