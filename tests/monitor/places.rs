//! Where the monitor listens, and what another place than the host itself demands.

use std::net::{SocketAddr, TcpListener, TcpStream};

use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::http::get;
use testkit::netns::in_namespace;
use testkit::program::{code, stderr};
use testkit::tunnel::NETWORK;

use crate::{PROGRAM, at, token};

#[test]
fn other_hosts_need_the_token_for_figures_too() {
    in_namespace("places::other_hosts_need_the_token_for_figures_too", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}monitor=10.55.0.1:9000\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let warning = "[srv_vpn] monitor = 10.55.0.1:9000: other hosts may reach it";
        assert!(server.log().contains(warning), "{}", server.log());
        assert!(TcpStream::connect(at()).is_err(), "nothing listens at the default");
        let token = token(&hosts, "server");
        let statuses = hosts.at(0).run(move || {
            let there: SocketAddr = "10.55.0.1:9000".parse().unwrap();
            let header = format!("Authorization: Bearer {token}\r\n");
            [get(there, "/metrics", ""), get(there, "/metrics", &header), get(there, "/status.json", &header)]
                .map(|reply| reply.status)
        });
        assert_eq!(statuses, [401, 200, 200]);
    });
}

#[test]
fn a_role_that_serves_nobody_is_told() {
    in_namespace("places::a_role_that_serves_nobody_is_told", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}[network_backbone]\nrole=full\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let warning = "the node's role in network backbone is below master: it serves nobody";
        assert!(server.log().contains(warning), "{}", server.log());
        let header = format!("Authorization: Bearer {}\r\n", token(&hosts, "server"));
        eventually("the finding", || {
            let body = get(at(), "/status.json", &header).body;
            body.contains("\"code\":\"role\",\"level\":\"error\"")
        });
    });
}

#[test]
fn a_port_in_use_is_a_warning_and_a_bad_value_the_end_of_the_start() {
    in_namespace("places::a_port_in_use_is_a_warning_and_a_bad_value_the_end_of_the_start", || {
        let hosts = Hosts::new(PROGRAM);
        let taken = TcpListener::bind(at()).unwrap();
        let (server, identity) = hosts.server("server");
        assert!(identity.starts_with("sha256:"), "it serves: {identity}");
        let warning = "[srv_vpn] monitor: cannot listen on 127.0.0.1:8078: Address already in use";
        assert!(server.log().contains(warning), "{}", server.log());
        drop((server, taken));

        let (server, _) = hosts.server_with("server", &["--config", &hosts.config(&format!("{NETWORK}monitor=off\n"))]);
        assert!(TcpStream::connect(at()).is_err(), "nothing listens");
        drop(server);
        for value in ["on", "8078", "localhost:8078"] {
            let config = hosts.config(&format!("{NETWORK}monitor={value}\n"));
            let output = hosts.near(&["server", "--config", &config, "--state-dir", &hosts.state("bad")]);
            let expected = format!("[srv_vpn] monitor = {value}: expected auto, off, or an address and a port");
            assert!(code(&output) == 2 && stderr(&output).contains(&expected), "{output:?}");
        }
    });
}
