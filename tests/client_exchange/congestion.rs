//! The congestion control of a client's stream, by `[vpn_client] congestion`.

use std::fs;

use dap_chain_net_srv_vpn::app;
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::sockets::{allows_congestion, congestion_of};

use crate::packets::configure;
use crate::server::Server;

const HOSTS: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// The client's end has what the key says; the server's end, which is not the client's, has the host's.
#[test]
fn the_key_sets_it_on_the_clients_stream() {
    in_namespace("congestion::the_key_sets_it_on_the_clients_stream", || {
        fs::write(HOSTS, "reno").unwrap();
        let server = Server::start("");
        let has_bbr = allows_congestion("bbr");
        for (key, expected, said) in [
            ("", "bbr", "INFO streams send with the congestion control bbr"),
            ("congestion=auto", "bbr", "INFO streams send with the congestion control bbr"),
            ("congestion=bbr", "bbr", "INFO streams send with the congestion control bbr"),
            ("congestion=host", "reno", "INFO streams send with the congestion control reno, the host's"),
            (
                "congestion=vegas",
                "bbr",
                "WARN [vpn_client] congestion = vegas: expected auto, bbr, cubic or host; using auto",
            ),
        ] {
            if expected == "bbr" && !has_bbr {
                println!("{key}: this host lets no process choose bbr");
                continue;
            }
            configure(&server, key);
            let said_before = count(said);
            assert_eq!(server.connect(), 0, "{key}: {:?}", app::client_last_error());
            assert_eq!(congestion_of(|_, peer| peer.port() == server.port), [expected], "{key}");
            assert_eq!(congestion_of(|own, _| own.port() == server.port), ["reno"], "{key}");
            assert_eq!(count(said), said_before + 1, "{key}: {said}");
            app::client_stop();
            eventually("closed", || congestion_of(|_, peer| peer.port() == server.port).is_empty());
        }
    });
}

/// Returns how often the log has a line.
fn count(line: &str) -> usize {
    log_lines(line).iter().filter(|logged| *logged == line).count()
}
