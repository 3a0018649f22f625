//! Tables of nf_tables, as the kernel takes and lists them.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::lab::{add_loopback_address, set_loopback_up};
use host::netlink::Netlink;
use host::nft::kill_switch::{self, KillSwitch};
use host::nft::nat::{self, Nat};
use host::nft::{BaseChain, Batch, ChainHook, Family, Nft, Rule, repair};
use testkit::eventually;
use testkit::hosts::{Host, forwards_packets};
use testkit::netns::in_namespace;

const SUBNET: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 98, 0, 0), 24);

fn perform(add: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    add(&mut batch);
    Nft::open().unwrap().perform(batch).unwrap();
}

/// Puts up another program's table with one chain and its rules.
fn foreign(family: Family, table: &str, chain: BaseChain, rules: Vec<Rule>) {
    perform(|batch| {
        batch.put_table(family, table);
        batch.add_chain(family, table, &chain);
        for rule in rules {
            batch.add_rule(family, table, chain.name, rule);
        }
    });
}

fn ruleset() -> Vec<Vec<u8>> {
    Nft::open().unwrap().ruleset().unwrap()
}

const POSTROUTING: BaseChain =
    BaseChain { name: "post", kind: "nat", hook: ChainHook::Postrouting, priority: 100, accepts: true };
const FORWARD: BaseChain =
    BaseChain { name: "fwd", kind: "filter", hook: ChainHook::Forward, priority: 0, accepts: false };

/// Whether a connection from this host is accepted.
fn reaches(target: SocketAddr) -> bool {
    TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok()
}

#[test]
fn the_kill_switch_lets_only_the_servers_port_through() {
    in_namespace("the_kill_switch_lets_only_the_servers_port_through", || {
        let host = Host::new(0);
        add_loopback_address(Ipv4Addr::new(203, 0, 113, 7)).unwrap();
        let listen = |port| TcpListener::bind(("0.0.0.0", port)).unwrap();
        let _listeners = [listen(8079), listen(80), listen(53)];
        let server: SocketAddr = "10.55.0.1:8079".parse().unwrap();
        let others: [SocketAddr; 3] =
            ["10.55.0.1:80", "10.55.0.1:53", "203.0.113.7:80"].map(|text| text.parse().unwrap());
        host.run(move || {
            set_loopback_up().unwrap();
            let mut netlink = Netlink::open().unwrap();
            netlink.add_route(Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(10, 55, 0, 1)), None).unwrap();
            foreign(Family::Inet, "other", FORWARD, vec![Rule::new("other").in_by("eth7").drop()]);
            let before = ruleset();
            assert!(kill_switch::standing().unwrap().is_none());
            assert!(reaches(server) && others.iter().all(|other| reaches(*other)));

            let mut switch =
                KillSwitch { servers: vec![("vpn.test:8079".into(), server)], devices: vec![77], local: false };
            kill_switch::put_up(&switch).unwrap();
            assert!(reaches(server));
            let began = std::time::Instant::now();
            assert!(others.iter().all(|other| !reaches(*other)));
            assert!(began.elapsed() < Duration::from_millis(500), "refused at once: {:?}", began.elapsed());
            // The loopback device is open.
            let here = TcpListener::bind("127.0.0.1:0").unwrap();
            assert!(reaches(here.local_addr().unwrap()));
            let standing = kill_switch::standing().unwrap().unwrap();
            assert_eq!((standing.other_holder(), standing.address_of("vpn.test:8079")), (None, Some(server)));

            // Local networks, without their name servers.
            switch.local = true;
            kill_switch::put_up(&switch).unwrap();
            assert_eq!(others.map(reaches), [true, false, false]);
            assert_eq!(Nft::open().unwrap().tables().unwrap().len(), 2);

            kill_switch::take_down().unwrap();
            kill_switch::take_down().unwrap();
            assert_eq!(ruleset(), before, "the other table is as it was");
            assert!(others.iter().all(|other| reaches(*other)));
        });
    });
}

/// The link-local address of a link of the calling thread's host, once it can be used.
fn link_local(link: &'static str) -> Ipv6Addr {
    let mut found = None;
    eventually("a link-local address", || {
        let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        // Address, index, prefix, scope, flags (40 is tentative), link.
        let is_ready = |fields: &Vec<&str>| fields[5] == link && fields[0].starts_with("fe80") && fields[4] == "80";
        let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(is_ready);
        found = fields.map(|fields| Ipv6Addr::from(u128::from_str_radix(fields[0], 16).unwrap()));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn the_kill_switch_refuses_ipv6_but_the_server_and_neighbour_discovery() {
    in_namespace("the_kill_switch_refuses_ipv6_but_the_server_and_neighbour_discovery", || {
        let host = Host::new(0);
        let (server, _) = (link_local("near0"), host.run(|| link_local("far0")));
        let listen = |port| TcpListener::bind(("::", port)).unwrap();
        let _listeners = [listen(8079), listen(80)];
        host.run(move || {
            let index = Netlink::open().unwrap().link_index("far0").unwrap();
            let to = move |address, port| SocketAddr::from(SocketAddrV6::new(address, port, 0, index));
            let send = move || UdpSocket::bind("[::]:0").unwrap().send_to(b"x", to("ff02::1".parse().unwrap(), 9));
            assert!(send().is_ok() && reaches(to(server, 80)));
            let servers = vec![("vpn.test:8079".into(), SocketAddr::from((server, 8079)))];
            kill_switch::put_up(&KillSwitch { servers, ..KillSwitch::default() }).unwrap();
            assert!(send().is_err() && !reaches(to(server, 80)));
            // The host has to find its neighbour anew.
            std::fs::write("/proc/sys/net/ipv6/conf/far0/disable_ipv6", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/far0/disable_ipv6", "0").unwrap();
            link_local("far0");
            assert!(reaches(to(server, 8079)));
        });
    });
}

#[test]
fn the_kill_switch_forwards_for_others_by_the_tunnel_alone() {
    in_namespace("the_kill_switch_forwards_for_others_by_the_tunnel_alone", || {
        if !forwards_packets("the_kill_switch_forwards_for_others_by_the_tunnel_alone") {
            return;
        }
        let hosts = [0, 1, 2].map(Host::new);
        for (number, host) in hosts.iter().enumerate() {
            let gateway = Ipv4Addr::new(10, 55, number as u8, 1);
            host.run(move || {
                Netlink::open().unwrap().add_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), None).unwrap()
            });
        }
        let _listeners = [1, 2].map(|number: usize| hosts[number].run(|| TcpListener::bind("0.0.0.0:80").unwrap()));
        let reached = || {
            let targets = [1, 2].map(|number| SocketAddr::from(([10, 55, number, 2], 80)));
            hosts[0].run(move || targets.map(reaches))
        };
        eventually("the cables carry", || reached() == [true, true]);
        let tunnel = Netlink::open().unwrap().link_index("near1").unwrap();
        kill_switch::put_up(&KillSwitch { devices: vec![tunnel], ..KillSwitch::default() }).unwrap();
        assert_eq!(reached(), [true, false]);
    });
}

#[test]
fn repair_removes_what_ended_processes_have_left() {
    in_namespace("repair_removes_what_ended_processes_have_left", || {
        let before = ruleset();
        assert_eq!(repair().unwrap(), Vec::<String>::new());
        kill_switch::put_up(&KillSwitch::default()).unwrap();
        let said = repair().unwrap();
        assert!(said.len() == 1 && said[0].starts_with("removed the kill switch"), "{said:?}");
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn translation_and_forwarding_are_put_back() {
    in_namespace("translation_and_forwarding_are_put_back", || {
        let _host = Host::new(0);
        let before = ruleset();
        let device = "near0".to_owned();
        let nat = |tunnel: &str| Nat {
            device: tunnel.to_owned(),
            translate: Some(SUBNET),
            forwarding_was_off: vec![device.clone(), "gone0".into()],
        };
        assert!(!nat::forwards(&device).unwrap());
        nat::put_up(&nat("tun7"), None).unwrap();
        nat::put_up(&nat("tun8"), Some("tun7")).unwrap();
        nat::put_up(&nat("tun9"), None).unwrap();
        nat::set_forwarding(&device, true).unwrap();
        assert_eq!(nat::enabled_by_servers().unwrap(), [&device, "gone0", &device, "gone0"]);
        // This process holds them.
        assert_eq!(nat::repair().unwrap(), Vec::<String>::new());
        assert!(nat::take_down("tun7").unwrap().is_empty(), "it was replaced");
        nat::take_down("tun8").unwrap();
        assert!(nat::forwards(&device).unwrap(), "the other server needs it");
        let said = nat::take_down("tun9").unwrap();
        assert_eq!(said[0], "disabled the forwarding of near0, which was off");
        assert!(!nat::forwards(&device).unwrap());
        assert_eq!(ruleset(), before);

        // Another program has enabled forwarding for all devices meanwhile.
        nat::put_up(&nat("tun7"), None).unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        nat::take_down("tun7").unwrap();
        assert!(nat::forwards(&device).unwrap());
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn other_programs_rules_are_recognised() {
    in_namespace("other_programs_rules_are_recognised", || {
        let others = || nat::others("tun0", SUBNET).unwrap();
        let from = |address: [u8; 4], prefix| Rule::new("").from(Ipv4Addr::from(address).into(), prefix);
        assert_eq!(others(), nat::Others::default());
        for (rule, may) in [
            (Rule::new("").masquerade(), true),
            (Rule::new("").out_by("eth0").count().masquerade(), true),
            (from([10, 98, 0, 0], 24).masquerade(), true),
            (from([10, 0, 0, 0], 8).masquerade(), true),
            (from([10, 98, 0, 128], 25).masquerade(), true),
            (from([172, 17, 0, 0], 16).masquerade(), false),
            (from([10, 98, 1, 0], 24).masquerade(), false),
            (Rule::new("").accept(), false),
        ] {
            foreign(Family::Ip, "nat", POSTROUTING, vec![rule]);
            assert_eq!(others().translates, may.then(|| "ip nat".to_owned()));
        }
        perform(|batch| batch.delete_table(Family::Ip, "nat"));
        nat::put_up(&Nat { device: "tun0".into(), translate: Some(SUBNET), forwarding_was_off: vec![] }, None).unwrap();
        assert_eq!(others(), nat::Others::default(), "our own table");

        let refuses = || others().refuses.iter().map(|chain| chain.name.clone()).collect::<Vec<_>>();
        foreign(Family::Ip, "filter", FORWARD, vec![]);
        assert_eq!(refuses(), ["fwd"]);
        foreign(Family::Ip, "filter", FORWARD, vec![Rule::new("").in_by("tun0").accept()]);
        assert_eq!(refuses(), Vec::<String>::new());
        foreign(Family::Ip, "filter", FORWARD, vec![Rule::new("").in_by("tun1").accept()]);
        assert_eq!(refuses(), ["fwd"]);
        let open = BaseChain { accepts: true, ..FORWARD };
        foreign(Family::Ip, "filter", open, vec![Rule::new("").in_by("eth0").drop()]);
        assert_eq!(refuses(), Vec::<String>::new());
        foreign(
            Family::Inet,
            "filter",
            open,
            vec![Rule::new("").in_by("eth0").accept(), Rule::new("").count().reject()],
        );
        assert_eq!(refuses(), ["fwd"]);
    });
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_step() {
    in_namespace("a_refused_batch_changes_nothing_and_names_the_step", || {
        let before = ruleset();
        let mut batch = Batch::new();
        batch.put_table(Family::Ip, "one");
        batch.add_rule(Family::Ip, "one", "missing", Rule::new("a word").accept());
        let error = Nft::open().unwrap().perform(batch).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let said = error.to_string();
        assert!(
            said.starts_with("nf_tables: add a rule (a word) to the chain missing of the table one: No such"),
            "{said}"
        );
        assert_eq!(ruleset(), before);
    });
}
