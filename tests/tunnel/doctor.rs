//! `doctor` finds what is wrong with a host, and what it says helps: the tests do it, and look again.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

use host::netlink::Netlink;
use rustix::process::Signal;
use serde_json::Value;
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::netns::{in_namespace, mount};
use testkit::program::{code, send, stderr, stdout};
use testkit::skip;
use testkit::tunnel::{Client, NETWORK};

use crate::PROGRAM;

/// Creates a client's host and the server's host, each with a way out by the cable between them.
fn hosts() -> Hosts {
    let hosts = Hosts::new(PROGRAM);
    let out_by = |last| {
        move || {
            let gateway = Some(Ipv4Addr::new(10, 55, 0, last));
            Netlink::open().unwrap().add_route(Ipv4Addr::UNSPECIFIED, 0, gateway, None).unwrap();
        }
    };
    out_by(2)();
    hosts.at(0).run(out_by(1));
    fs::write("/etc/resolv.conf", "nameserver 10.55.0.9\n").unwrap();
    hosts
}

/// What `doctor --json` says.
struct Said {
    code: i32,
    findings: Vec<Value>,
}

impl Said {
    fn of(output: &Output) -> Said {
        let value: Value = serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let faults = value["faults"].as_u64().unwrap();
        assert_eq!((code(output), value["ok"].as_bool()), (i32::from(faults > 0), Some(faults == 0)), "{output:?}");
        Said { code: code(output), findings: value["findings"].as_array().unwrap().clone() }
    }

    /// The server's host, with the state directory "server".
    fn server(hosts: &Hosts, arguments: &[&str]) -> Said {
        let state = hosts.state("server");
        Said::of(&hosts.near(&[&["doctor", "--json", "--server", "--state-dir", &state], arguments].concat()))
    }

    /// The client's host, with the state directory "client".
    fn client(hosts: &Hosts, arguments: &[&str]) -> Said {
        let state = hosts.state("client");
        Said::of(&hosts.far_with(&[&["doctor", "--json", "--client", "--state-dir", &state], arguments].concat()))
    }

    fn faults(&self) -> Vec<&str> {
        let faults = self.findings.iter().filter(|finding| finding["level"] == "fault");
        faults.map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    /// The finding of this check that is worst.
    fn finding(&self, check: &str) -> &Value {
        let of_check = self.findings.iter().filter(|finding| finding["check"] == check);
        let rank =
            |finding: &&Value| ["ok", "unknown", "warning", "fault"].iter().position(|one| finding["level"] == *one);
        of_check.max_by_key(rank).unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings))
    }

    /// The first remedy of the worst finding of this check.
    fn remedy(&self, check: &str) -> &str {
        self.finding(check)["remedies"][0].as_str().unwrap_or_else(|| panic!("{:#?}", self.finding(check)))
    }
}

/// Runs a command that `doctor` has named.
fn shell(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

fn nft(rules: &str) -> bool {
    match Command::new("nft").arg(rules).output() {
        Ok(output) => {
            assert!(output.status.success(), "{rules}: {output:?}");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn before_and_while_a_server_runs() {
    in_namespace("doctor::before_and_while_a_server_runs", || {
        let hosts = hosts();
        let before = Said::server(&hosts, &[]);
        assert_eq!(before.faults(), Vec::<&str>::new(), "{:#?}", before.findings);
        assert!(!fs::exists(hosts.state("server")).unwrap(), "it has made a state directory");

        // The port is another program's.
        let taken = TcpListener::bind("0.0.0.0:8079").unwrap();
        let said = Said::server(&hosts, &[]);
        assert_eq!((said.code, said.faults()), (1, vec!["port"]));
        let found = said.finding("port")["found"].as_str().unwrap();
        assert!(found.contains(&format!("(process {}) listens on 0.0.0.0:8079", std::process::id())), "{found}");
        drop(taken);

        let (server, pin) = hosts.server("server");
        let said = Said::server(&hosts, &[]);
        assert_eq!(said.faults(), Vec::<&str>::new(), "{:#?}", said.findings);
        let found = |check: &str| said.finding(check)["found"].as_str().unwrap().to_owned();
        assert!(found("server").ends_with(&format!("process {}", server.child.id())), "{}", found("server"));
        assert!(found("answer").contains("127.0.0.1:8079 answers"), "{}", found("answer"));
        assert!(found("nat").contains("cellframe-vpn-server-tun0"), "{}", found("nat"));

        // As with the package, whose service has a user of its own.
        let state = hosts.state("server");
        shell(&format!("chown -R 65534 {state}"));
        let found = Said::server(&hosts, &[]);
        assert_eq!(found.faults(), Vec::<&str>::new(), "{:#?}", found.findings);
        assert!(found.finding("state")["found"].as_str().unwrap().contains("that of"), "{:#?}", found.findings);
        shell(&format!("chown -R 0 {state}"));

        // The client's host asks it.
        let target = hosts.at(0).server.to_string();
        let said = Said::client(&hosts, &["--connect", &target, "--pin", &pin]);
        assert_eq!(said.faults(), Vec::<&str>::new(), "{:#?}", said.findings);
        assert_eq!(said.finding("path mtu")["level"], "ok");
        let wrong = format!("sha256:{}", "00".repeat(32));
        let said = Said::client(&hosts, &["--connect", &target, "--pin", &wrong]);
        assert_eq!(said.faults(), ["server reached"]);
        let said = Said::client(&hosts, &["--connect", &format!("{target}:8080")]);
        assert_eq!(said.faults(), ["server reached"]);
        assert!(!fs::exists(hosts.state("client")).unwrap(), "it has made a state directory");

        // Somebody has set the tunnel down; the first remedy sets it up.
        shell("ip link set dev tun0 down");
        eventually("the outage is noticed", || Said::server(&hosts, &[]).faults().contains(&"tunnel"));
        shell(Said::server(&hosts, &[]).remedy("tunnel"));
        eventually("the tunnel is up", || Said::server(&hosts, &[]).faults().is_empty());

        let text = hosts.near(&["doctor", "--server", "--state-dir", &hosts.state("server")]);
        assert!(stdout(&text).contains("\nok      port           the server listens on 0.0.0.0:8079\n"), "{text:?}");
        assert!(!stdout(&text).contains('\x1b'), "colours in a file");
    });
}

#[test]
fn the_remedies_of_a_packet_filter_and_of_forwarding_help() {
    const TEST: &str = "doctor::the_remedies_of_a_packet_filter_and_of_forwarding_help";
    in_namespace(TEST, || {
        let hosts = hosts();
        // As on a host that an administrator has closed, with sets, jumps and states.
        let rules = "table inet filter {
            chain input { type filter hook input priority 0; policy drop;
                ct state established,related accept
                ct status dnat accept
                iifname lo accept
                iifname near7 goto zone
                ct state vmap { invalid : drop, new : jump fresh }
                icmp type echo-request accept
            }
            chain fresh { tcp dport { 22, 80, 443 } accept
                tcp dport 9000-9100 accept
                meta l4proto udp return
            }
            chain zone { icmp type echo-request accept
            }
            chain passing { type filter hook forward priority 0; policy drop; }
        }";
        if !nft(rules) {
            return skip(TEST, "nft (of nftables) cannot be run");
        }
        let config = hosts.config(&format!("{NETWORK}nat=off\n"));
        let look = || Said::server(&hosts, &["--config", &config]);
        let said = look();
        assert_eq!(said.faults(), ["firewall", "forwarding", "firewall"], "{:#?}", said.findings);
        let reaches = |hosts: &Hosts| code(&hosts.far(&["check", "10.55.0.1", "--timeout", "1"])) == 0;
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        assert!(!reaches(&hosts), "the filter refuses it");
        shell(look().remedy("forwarding"));
        for _ in 0..2 {
            let said = look();
            let firewall = said.findings.iter().find(|one| one["check"] == "firewall" && one["level"] == "fault");
            let remedies = firewall.unwrap_or_else(|| panic!("{:#?}", said.findings))["remedies"].as_array().unwrap();
            let commands = remedies.iter().filter_map(Value::as_str).filter(|text| text.starts_with("nft "));
            commands.for_each(shell);
        }
        let said = look();
        assert_eq!(said.faults(), Vec::<&str>::new(), "{:#?}", said.findings);
        assert!(reaches(&hosts), "what doctor has named helps");
        assert_eq!(said.finding("nat")["level"], "warning", "{:#?}", said.findings);
        drop(server);

        // A port of the set, one of the range, and one for some sources alone.
        let listen = |port: u16| {
            let text = format!("[server]\nlisten_address=[0.0.0.0:{port}]\n{NETWORK}");
            Said::server(&hosts, &["--config", &hosts.config(&text)]).finding("firewall")["level"].clone()
        };
        assert_eq!([443, 9050, 9101].map(&listen), ["ok", "ok", "fault"]);
        assert!(nft("add rule inet filter fresh ip saddr 192.0.2.0/24 tcp dport 9101 accept"));
        assert_eq!(listen(9101), "warning");
        assert!(nft("insert rule inet filter input tcp dport 443 reject"));
        assert_eq!(listen(443), "fault");
        assert!(nft("table inet other { chain open { type filter hook input priority 5; policy accept;
                iifname near7 return
                tcp dport 9050 drop
            }
        }"));
        assert_eq!([9050, 8079].map(&listen), ["warning", "ok"]);
    });
}

/// iptables writes rules of its own kind into the same tables.
#[test]
fn rules_of_iptables_are_understood() {
    const TEST: &str = "doctor::rules_of_iptables_are_understood";
    in_namespace(TEST, || {
        let hosts = hosts();
        let iptables = |line: &str| {
            let output = Command::new("iptables-nft").args(line.split(' ')).output();
            match output {
                Ok(output) => assert!(output.status.success(), "{line}: {output:?}"),
                Err(_) => return false,
            }
            true
        };
        if !iptables("-P INPUT DROP") {
            return skip(TEST, "iptables-nft (of iptables) cannot be run");
        }
        let level = || Said::server(&hosts, &[]).finding("firewall")["level"].clone();
        assert!(iptables("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        assert!(iptables("-A INPUT -p tcp --dport 22 -j ACCEPT"));
        assert!(iptables("-A INPUT -p udp --dport 8079 -j ACCEPT"));
        assert_eq!(level(), "fault");
        assert!(iptables("-N ufw-user-input"));
        assert!(iptables("-A INPUT -j ufw-user-input"));
        assert_eq!(Said::server(&hosts, &[]).remedy("firewall"), "ufw allow 8079/tcp");
        assert!(iptables("-A ufw-user-input -p tcp -m tcp --dport 9000:9100 -j ACCEPT"));
        assert!(iptables("-A ufw-user-input -p tcp -m multiport --dports 22,8080:8100 -j ACCEPT"));
        assert_eq!(level(), "fault");
        assert!(iptables("-A ufw-user-input -p tcp -m multiport --dports 22,8000:8100 -j ACCEPT"));
        assert_eq!(level(), "ok");
        // What nobody can say here does not make a fault: ufw drops what is for another host.
        assert!(iptables("-N ufw-not-local"));
        assert!(iptables("-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN"));
        assert!(iptables("-A ufw-not-local -j DROP"));
        assert!(iptables("-I INPUT 1 -j ufw-not-local"));
        assert_eq!(level(), "ok");
        assert!(iptables("-D ufw-user-input 3"));
        assert_eq!(level(), "fault");
    });
}

#[test]
fn what_killed_runs_have_left_is_named_and_repaired() {
    in_namespace("doctor::what_killed_runs_have_left_is_named_and_repaired", || {
        let hosts = hosts();
        let (mut server, _) = hosts.server("server");
        let mut client = Client::connect(&hosts, 0, "client", &["--kill-switch", "--no-routes"]);
        let said = Said::client(&hosts, &[]);
        assert_eq!(said.faults(), Vec::<&str>::new(), "{:#?}", said.findings);
        assert!(said.finding("connection")["found"].as_str().unwrap().contains("10.98.0.2"), "{:#?}", said.findings);
        for process in [&mut client.running, &mut server] {
            send(&process.child, Signal::KILL);
            process.child.wait().unwrap();
        }
        eventually("the device is gone", || testkit::tun_devices().is_empty());
        let at_server = Said::server(&hosts, &[]);
        assert_eq!(at_server.faults(), ["leftovers"], "{:#?}", at_server.findings);
        let at_client = Said::client(&hosts, &[]);
        assert_eq!(at_client.faults(), ["leftovers"], "{:#?}", at_client.findings);
        assert!(at_client.finding("leftovers")["found"].as_str().unwrap().starts_with("the kill switch"));
        assert_eq!(code(&hosts.repair_at(0)), 0);
        assert_eq!(code(&hosts.near(&["repair"])), 0);
        assert_eq!(Said::server(&hosts, &[]).finding("leftovers")["level"], "ok");
        assert_eq!(Said::client(&hosts, &[]).finding("leftovers")["level"], "ok");
    });
}

#[test]
fn a_host_without_tun_and_with_a_colliding_network() {
    in_namespace("doctor::a_host_without_tun_and_with_a_colliding_network", || {
        let hosts = hosts();
        mount(&["-t", "tmpfs", "tmpfs", "/dev/net"]);
        let said = Said::server(&hosts, &[]);
        assert_eq!(said.faults(), ["tun"], "{:#?}", said.findings);
        mount(&["-t", "tmpfs", "tmpfs", "/dev/net"]);
        let text = "[srv_vpn]\nnetwork_address=10.55.0.0\nnetwork_mask=255.255.0.0\nfrobnicate=1\n";
        let said = Said::server(&hosts, &["--config", &hosts.config(text)]);
        assert_eq!(said.faults(), ["tun", "subnet"], "{:#?}", said.findings);
        assert!(said.finding("configuration")["found"].as_str().unwrap().contains("[srv_vpn] frobnicate"));
        let said = Said::server(&hosts, &["--config", &hosts.config("[srv_vpn]\nclient_isolation=perhaps\n")]);
        let found = said.finding("configuration")["found"].as_str().unwrap().to_owned();
        assert!(said.faults().contains(&"configuration") && found.contains("client_isolation"), "{found}");
        let missing = hosts.near(&["doctor", "--config", "/nonexistent/x.cfg"]);
        assert_eq!(code(&missing), 2, "{}", stderr(&missing));
        for _ in 0..2 {
            shell("umount /dev/net");
        }
    });
}
