//! The congestion control of the clients' streams, by `[srv_vpn] congestion`.

use std::fs;

use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::sockets::{allows_congestion, congestion_of};

use crate::lab::Server;
use crate::peer::Peer;

#[test]
fn the_key_sets_it_on_the_servers_end() {
    in_namespace("congestion::the_key_sets_it_on_the_servers_end", || {
        let hosts = "/proc/sys/net/ipv4/tcp_congestion_control";
        fs::write(hosts, "reno").unwrap();
        let server = Server::start("congestion=host\n");
        let port = server.port;
        let peer = Peer::connect(port);
        assert_eq!(congestion_of(|own, _| own.port() == port), ["reno"]);
        let said = "INFO streams send with the congestion control reno, the host's";
        assert_eq!(log_lines("congestion"), [said]);
        if !allows_congestion("bbr") {
            return println!("this host lets no process choose bbr");
        }
        drop(peer);
        drop(server);
        for key in ["", "congestion=auto\n", "congestion=bbr\n"] {
            let before = log_lines("congestion").len();
            let server = Server::start(key);
            let _peer = Peer::connect(server.port);
            assert_eq!(congestion_of(|own, _| own.port() == server.port), ["bbr"], "{key}");
            assert_eq!(congestion_of(|_, peer| peer.port() == server.port), ["reno"], "{key}");
            let said = "INFO streams send with the congestion control bbr";
            assert_eq!(log_lines("congestion")[before..], [said], "{key}");
        }
    });
}
