use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use host::clock::Kept;
use host::dns::resolv_conf::Undone;
use host::nft::Own;
use host::nft::arrival::Fate;
use host::nft::nat::Others;
use host::tun::Driver;
use serde_json::json;
use vpn_core::lease::Subnet;

use super::all;
use crate::doctor::facts::{
    Answer, Asked, ClientEnd, Clock, Facts, Listen, Machine, Network, OnLink, Process, Runs, ServerEnd,
};
use crate::doctor::finding::{Finding, Level};
use crate::exit::Code;
use crate::privilege::TunProblem;

const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 98, 0, 0), prefix: 24 };

/// A machine on which nothing is wrong, before the first start.
fn sound() -> Facts {
    let process = || Process {
        runs: Runs::No,
        state_dir: PathBuf::from("/var/lib/cellframe-vpn/server"),
        state: Ok(false),
        owner: None,
        read_only: None,
        free: Some((10 << 30, 1 << 20)),
        store_is_taken: false,
        files: 65_536,
    };
    let link = || "eth0".to_owned();
    let network = Subnet { network: Ipv4Addr::new(203, 0, 113, 0), prefix: 24 };
    Facts {
        machine: Machine {
            is_root: true,
            has_net_admin: true,
            container: None,
            tun: Ok(Driver { has_queues: true, has_offload: true }),
            nf_tables: Ok(()),
            bbr: Ok(()),
            sysctls_are_read_only: false,
            clock: Clock { now: 2_000_000_000, passed: 1_900_000_000, kept: kept(true) },
            tables: Ok(Vec::new()),
            resolv_conf: Ok(Undone::Nothing),
        },
        network: Network {
            failed: None,
            addresses: vec![OnLink { address: Ipv4Addr::new(203, 0, 113, 7), network, link: link() }],
            routes: vec![(network, link())],
            defaults: vec![link()],
            has_ipv6_default: true,
            outward: Some(Ipv4Addr::new(203, 0, 113, 7).into()),
            outward_link: Some((link(), 1500)),
            strict: vec![link()],
            name_servers: vec![Ipv4Addr::new(9, 9, 9, 9).into()],
        },
        config: "built-in defaults".to_owned(),
        keys: Ok(Vec::new()),
        server: Some(ServerEnd {
            process: process(),
            subnet: Ok(SUBNET),
            device: "tun0".to_owned(),
            has_device: false,
            mtu: 1390,
            nat: "auto".to_owned(),
            others: Ok(Others::default()),
            forwards_all: Ok(false),
            forwards: vec![(link(), false)],
            listen: vec![Listen {
                address: "0.0.0.0:8079".parse().unwrap(),
                holders: Vec::new(),
                fate: Ok(Fate::Passes),
            }],
            outage: None,
            identity_age: None,
            answer: None,
        }),
        client: Some(ClientEnd { process: process(), ipv6: "block".to_owned(), status: None }),
        asked: None,
    }
}

fn kept(is_synchronised: bool) -> Option<Kept> {
    Some(Kept { is_synchronised, error_us: 0 })
}

fn server(facts: &mut Facts) -> &mut ServerEnd {
    facts.server.as_mut().unwrap()
}

/// The findings that are not "ok", after this change of a sound machine.
fn after(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = sound();
    change(&mut facts);
    all(&facts).into_iter().filter(|finding| finding.level != Level::Ok).collect()
}

/// Expects one finding, of this check and level, whose remedies contain this text.
fn one(change: impl FnOnce(&mut Facts), check: &str, level: Level, remedy: &str) {
    let found = after(change);
    let [finding] = found.as_slice() else { panic!("{check}: {found:#?}") };
    assert_eq!((finding.check, finding.level), (check, level), "{finding:#?}");
    assert!(finding.remedies.iter().any(|text| text.contains(remedy)), "{remedy:?} in {finding:#?}");
    assert!(level == Level::Unknown || !finding.follows.is_empty(), "{finding:#?}");
}

#[test]
fn a_sound_machine_has_no_finding() {
    assert_eq!(after(|_| {}), []);
    let checks: Vec<_> = all(&sound()).iter().map(|finding| finding.check).collect();
    for check in ["tun", "clock", "way out", "state", "port", "firewall", "forwarding", "nat", "ipv6", "leftovers"] {
        assert!(checks.contains(&check), "{check} in {checks:?}");
    }
}

#[test]
fn rights_and_kernel() {
    use Level::{Fault, Warning};
    one(|facts| facts.machine.has_net_admin = false, "privilege", Fault, "AmbientCapabilities");
    let container = |facts: &mut Facts| {
        facts.machine.has_net_admin = false;
        facts.machine.container = Some("docker".into());
    };
    one(container, "privilege", Fault, "--cap-add NET_ADMIN");
    let user_of_container = |facts: &mut Facts| {
        container(facts);
        facts.machine.is_root = false;
    };
    one(user_of_container, "privilege", Warning, "sudo cellframe-vpn doctor");
    let user = |facts: &mut Facts| (facts.machine.is_root, facts.machine.has_net_admin) = (false, false);
    one(user, "privilege", Warning, "sudo cellframe-vpn doctor");
    for (problem, remedy) in [(TunProblem::Missing, "modprobe tun"), (TunProblem::NoDriver, "modprobe tun")] {
        one(|facts| facts.machine.tun = Err(problem), "tun", Fault, remedy);
    }
    let no_queues = Driver { has_queues: false, has_offload: false };
    one(|facts| facts.machine.tun = Ok(no_queues), "tun queues", Fault, "threads_cnt=1");
    one(|facts| facts.machine.bbr = Err("no such file".into()), "congestion", Warning, "modprobe tcp_bbr");
    one(|facts| facts.machine.clock.now = 1_800_000_000, "clock", Fault, "chrony");
    one(|facts| facts.machine.clock.kept = kept(false), "clock", Warning, "timedatectl");
    let no_tables = |facts: &mut Facts| {
        facts.machine.nf_tables = Err("not supported".into());
        facts.machine.tables = Err("not supported".into());
        server(facts).others = Err("not supported".into());
    };
    one(no_tables, "nf_tables", Fault, "modprobe nf_tables");
}

#[test]
fn what_ended_runs_have_left() {
    let own = |holder, is_kill_switch| Own { table: "inet x".into(), holder, is_kill_switch };
    one(|facts| facts.machine.tables = Ok(vec![own(None, true)]), "leftovers", Level::Fault, "repair");
    one(|facts| facts.machine.tables = Ok(vec![own(None, false)]), "leftovers", Level::Fault, "repair");
    assert_eq!(after(|facts| facts.machine.tables = Ok(vec![own(Some(1), true)])), [], "one that runs");
    one(|facts| facts.machine.resolv_conf = Ok(Undone::PutBack), "leftovers", Level::Fault, "repair");
    one(|facts| facts.machine.resolv_conf = Ok(Undone::Lost), "leftovers", Level::Fault, "nameserver");
}

#[test]
fn networks() {
    use Level::{Fault, Warning};
    one(|facts| facts.network.outward = None, "way out", Fault, "ip route add default");
    one(|facts| facts.network.name_servers.clear(), "name servers", Warning, "nameserver");
    one(|facts| facts.network.outward_link = Some(("ppp0".into(), 1200)), "mtu", Warning, "ip link set dev ppp0");
    one(|facts| facts.network.defaults.push("wlan0".into()), "rp_filter", Warning, "eth0.rp_filter=2");
    let of_subnet = |facts: &mut Facts| {
        let network = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 8 };
        let address = Ipv4Addr::new(10, 1, 2, 3);
        facts.network.addresses.push(OnLink { address, network, link: "eth1".into() });
    };
    one(of_subnet, "subnet", Fault, "network_address=");
    let only_client = |facts: &mut Facts| {
        of_subnet(facts);
        facts.server = None;
    };
    one(only_client, "subnet", Warning, "renumber");
    let routed = |facts: &mut Facts| facts.network.routes.push((SUBNET, "wg0".into()));
    one(routed, "subnet", Fault, "network_address=");
    // The device of the server itself.
    let own = |facts: &mut Facts| {
        facts.network.addresses.push(OnLink { address: SUBNET.gateway(), network: SUBNET, link: "tun0".into() });
        facts.network.routes.push((SUBNET, "tun0".into()));
        server(facts).has_device = true;
    };
    assert_eq!(after(own), []);
    one(|facts| facts.keys = Err("x: [srv_vpn] nat = 7".into()), "configuration", Fault, "--print-config");
    one(|facts| facts.keys = Ok(vec!["[srv_vpn] natt".into()]), "configuration", Warning, "spelling");
}

#[test]
fn state_and_limits() {
    use Level::{Fault, Warning};
    let process = |change: fn(&mut Process)| move |facts: &mut Facts| change(&mut server(facts).process);
    one(process(|process| process.state = Err("it belongs to another".into())), "state", Fault, "chown");
    one(process(|process| process.read_only = Some("/var: read-only".into())), "state", Fault, "state_dir=");
    one(process(|process| process.store_is_taken = true), "state", Fault, "fuser");
    one(process(|process| process.free = Some((0, 100))), "disk", Fault, "df -h");
    one(process(|process| process.free = Some((1 << 30, 3))), "disk", Fault, "df -h");
    one(process(|process| process.free = Some((50 << 20, 100))), "disk", Warning, "df -h");
    assert_eq!(after(process(|process| process.free = Some((1 << 40, 0)))), [], "a file system without a number");
    one(process(|process| process.files = 1024), "open files", Warning, "LimitNOFILE");
    one(process(|process| process.runs = Runs::Hidden), "server", Level::Unknown, "sudo");
}

fn refusal(table: &str, is_policy: bool, is_of_ufw: bool) -> host::nft::arrival::Refusal {
    let chain = host::nft::Chain::named(host::nft::Family::Inet, table, "input");
    host::nft::arrival::Refusal { chain, by: "input".into(), is_policy, is_of_ufw }
}

#[test]
fn the_port_and_its_packet_filter() {
    use Level::{Fault, Warning};
    let taken = |facts: &mut Facts| server(facts).listen[0].holders = vec![("nginx".into(), Some(7))];
    one(taken, "port", Fault, "listen_address=[0.0.0.0:8089]");
    let runs = |pid| {
        move |facts: &mut Facts| {
            let server = server(facts);
            server.process.runs = Runs::Yes(Some(7));
            (server.has_device, server.forwards_all) = (true, Ok(true));
            server.others = Ok(Others { translates: Some("ip nat".into()), ..Others::default() });
            server.listen[0].holders = vec![("cellframe-vpn".into(), Some(pid))];
        }
    };
    assert_eq!(after(runs(7)), []);
    one(runs(8), "port", Fault, "end that process");
    let nobody = |facts: &mut Facts| {
        runs(7)(facts);
        server(facts).listen[0].holders.clear();
    };
    one(nobody, "port", Fault, "restart");
    let fate = |fate: Fate| move |facts: &mut Facts| server(facts).listen[0].fate = Ok(fate);
    let rule = "nft insert rule inet filter input tcp dport 8079 accept";
    one(fate(Fate::Refused(refusal("filter", true, false))), "firewall", Fault, rule);
    one(fate(Fate::Perhaps(refusal("filter", false, false))), "firewall", Warning, rule);
    one(fate(Fate::Refused(refusal("filter", true, true))), "firewall", Fault, "ufw allow 8079/tcp");
    one(fate(Fate::Refused(refusal("firewalld", false, false))), "firewall", Fault, "--add-port=8079/tcp");
    // Nobody comes from elsewhere to this one.
    let local = |facts: &mut Facts| {
        fate(Fate::Refused(refusal("filter", true, false)))(facts);
        server(facts).listen[0].address = "127.0.0.1:8079".parse().unwrap();
    };
    assert_eq!(after(local), []);
}

#[test]
fn the_way_of_the_clients_packets() {
    use Level::{Fault, Warning};
    let off = |facts: &mut Facts| {
        server(facts).nat = "off".into();
        server(facts).others = Ok(Others { translates: Some("ip nat".into()), ..Others::default() });
    };
    one(off, "forwarding", Fault, "sysctl -w net.ipv4.ip_forward=1");
    one(|facts| facts.machine.sysctls_are_read_only = true, "forwarding", Fault, "--sysctl net.ipv4.ip_forward=1");
    let untranslated = |facts: &mut Facts| {
        server(facts).nat = "off".into();
        server(facts).forwards_all = Ok(true);
    };
    one(untranslated, "nat", Warning, "masquerade");
    let chain = host::nft::Chain::named(host::nft::Family::Ip, "filter", "FORWARD");
    let drops = |facts: &mut Facts| server(facts).others = Ok(Others { refuses: vec![chain], ..Others::default() });
    one(drops, "firewall", Fault, "nft insert rule ip filter FORWARD iifname tun0 accept");
    let legacy =
        |facts: &mut Facts| server(facts).others = Ok(Others { legacy: vec!["filter".into()], ..Others::default() });
    one(legacy, "firewall", Warning, "iptables-legacy -S");
    let private = |facts: &mut Facts| facts.network.outward = Some(IpAddr::from([100, 64, 0, 9]));
    one(private, "public address", Warning, "TCP port 8079");
    one(|facts| server(facts).outage = Some("it is gone".into()), "tunnel", Fault, "ip link set dev tun0 up");
    let silent = Answer { code: Code::NoAnswer, text: "no answer".into() };
    one(|facts| server(facts).answer = Some(silent), "answer", Fault, "stat");
}

#[test]
fn a_client() {
    use Level::{Fault, Warning};
    let says = |value: serde_json::Value| move |facts: &mut Facts| facts.client.as_mut().unwrap().status = Some(value);
    let up = json!({"state": "started", "address": "10.98.0.2", "server": "vpn.test:8079", "ipv6": "blocked"});
    assert_eq!(after(says(up.clone())), []);
    let mut left = up;
    left["ipv6"] = "left".into();
    one(says(left), "ipv6", Warning, "ipv6=block");
    one(|facts| facts.client.as_mut().unwrap().ipv6 = "leave".into(), "ipv6", Warning, "ipv6=block");
    let lost = json!({"state": "lost connection", "reason": "it was closed", "reconnects": true});
    one(says(lost), "connection", Fault, "doctor --client --connect");
}

#[test]
fn a_server_that_was_asked() {
    use Level::{Fault, Warning};
    let good = || Answer { code: Code::Success, text: "vpn.test:8079 answers".into() };
    let asked = |answer: Answer, full: Option<Answer>, is_pinned| {
        let target = "vpn.test:8079".to_owned();
        move |facts: &mut Facts| {
            facts.asked = Some(Asked { target, answer, full, narrow: None, path_mtu: Some(1500), is_pinned })
        }
    };
    assert_eq!(after(asked(good(), Some(good()), true)), []);
    one(asked(good(), Some(good()), false), "pin", Warning, "--pin");
    let bad = |code| Answer { code, text: "cannot connect".into() };
    one(asked(bad(Code::CannotConnect), None, true), "server reached", Fault, "doctor --server");
    one(asked(bad(Code::Refused), None, true), "server reached", Fault, "--pin");
    one(asked(good(), Some(bad(Code::NoAnswer)), true), "path mtu", Fault, "ip link set dev eth0 mtu 1280");
    let silent_unless_narrow = |facts: &mut Facts| {
        asked(bad(Code::NoAnswer), None, true)(facts);
        facts.asked.as_mut().unwrap().narrow = Some(good());
    };
    one(silent_unless_narrow, "path mtu", Fault, "ip link set dev eth0 mtu 1280");
    let silent_anyway = |facts: &mut Facts| {
        asked(bad(Code::NoAnswer), None, true)(facts);
        facts.asked.as_mut().unwrap().narrow = Some(bad(Code::NoAnswer));
    };
    one(silent_anyway, "server reached", Fault, "doctor --server");
}
