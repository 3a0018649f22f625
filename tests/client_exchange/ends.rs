//! The end of a connection, and its effect on the next one.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::abi::client::{dap_chain_net_vpn_client_get_stream_ch, dap_chain_net_vpn_client_stop};
use dap_chain_net_srv_vpn::app::{self, Status};
use dap_chain_net_srv_vpn::sdk::worker;
use embedded::timeouts::{self, Timeouts};
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use vpn_core::wire::{AddrReply, ServiceError, encode_control, op, pkt, problem};

use crate::server::{OUTER, Server, reply};

/// A server whose service stops drops all packets from then on: the client must report that to the user.
#[test]
fn the_end_of_the_service_is_the_loss_of_the_connection() {
    in_namespace("ends::the_end_of_the_service_is_the_loss_of_the_connection", || {
        let server = Server::start("");
        let error = ServiceError { srv_uid: 1, usage_id: 1, code: 0x402, ..ServiceError::default() };
        type End<'a> = (&'a str, &'a dyn Fn());
        let ends: [End<'_>; 3] = [
            ("the server has stopped the service", &|| server.send_service(pkt::NOTIFY_STOPPED, &[])),
            ("(code 0x402)", &|| server.send_service(pkt::ERROR, &error.encode())),
            ("its tunnel is down", &|| server.send(&encode_control(op::PROBLEM, 1, problem::TUNNEL_DOWN))),
        ];
        for (why, end) in ends {
            assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
            assert_eq!(app::client_status(), Status::Started);
            let before = log_lines("connection lost").len();
            end();
            eventually(why, || app::client_status() == Status::ConnectionLost);
            eventually("the stream is closed", || dap_chain_net_vpn_client_get_stream_ch().is_null());
            let lost = log_lines("connection lost");
            assert_eq!(lost.len(), before + 1, "{lost:?}");
            assert!(lost[before].starts_with("WARN ") && lost[before].contains(why), "{lost:?}");
        }
        assert_eq!(server.connect(), 0);
        assert_eq!(dap_chain_net_vpn_client_stop(), 0);
        assert_eq!(app::client_status(), Status::Stopped);
    });
}

/// What C sees of a client that connects again: CONN_LOST meanwhile, STARTED after; a stop ends it in each state.
#[test]
fn a_lost_connection_is_made_again() {
    in_namespace("ends::a_lost_connection_is_made_again", || {
        let server = Server::start("reconnect=true\nstart_timeout=60\n");
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        for round in 0..2 {
            let before = app::client_connects();
            server.close();
            eventually("the loss", || app::client_status() == Status::ConnectionLost);
            eventually("the next connection", || {
                let status = app::client_status();
                assert!(matches!(status, Status::ConnectionLost | Status::Started), "{status:?}");
                status == Status::Started
            });
            // The name servers of the lease are looked at before it counts.
            eventually("it counts", || app::client_connects() > before);
            assert_eq!(app::client_connects(), before + 1, "round {round}");
            assert!(!dap_chain_net_vpn_client_get_stream_ch().is_null());
            assert_eq!(server.connect(), 1, "already started");
        }
        assert_eq!(server.connect_by("10.55.0.77"), -2);
        let said = log_lines("already connected to 10.55.0.1:");
        assert!(said.len() == 1 && said[0].contains("stop the client before"), "{said:?}");
        assert_eq!(app::client_status(), Status::Started);

        // The stop comes in the pause before an attempt, or while the attempt waits for the server's address.
        for waits_for in ["next attempt in", "service granted"] {
            server.shared.answers.lock().clear();
            let before = log_lines(waits_for).len();
            server.close();
            eventually(waits_for, || log_lines(waits_for).len() > before);
            assert_eq!(app::client_status(), Status::ConnectionLost);
            let began = Instant::now();
            assert_eq!(dap_chain_net_vpn_client_stop(), 0);
            assert!(began.elapsed() < Duration::from_secs(1), "{waits_for}: {:?}", began.elapsed());
            assert_eq!(app::client_status(), Status::Stopped);
            assert!(!app::client_reconnects());
            server.will_answer(&reply(None));
            let connects = app::client_connects();
            assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
            assert_eq!(app::client_connects(), connects + 1);
        }

        // A server that refuses the client is not asked again.
        server.will_answer(&AddrReply { addr: Ipv4Addr::new(8, 8, 8, 8), ..reply(None) });
        server.close();
        eventually("the refusal", || !app::client_reconnects());
        assert_eq!(app::client_status(), Status::ConnectionLost);
        assert!(app::client_last_error().unwrap().to_string().contains("its address cannot be used"));
        assert_eq!(dap_chain_net_vpn_client_stop(), 0);
    });
}

/// The end has no errno, because nothing failed on the client's host.
#[test]
fn the_program_survives_a_server_that_closes_before_it_gives_an_address() {
    in_namespace("ends::the_program_survives_a_server_that_closes_before_it_gives_an_address", || {
        let server = Server::start("");
        server.shared.answers.lock().clear();
        let state = tempfile::tempdir().unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_cellframe-vpn"))
            .args(["client", "--connect", &format!("{OUTER}:{}", server.port), "--state-dir"])
            .arg(state.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("ADDR_REQUEST", || server.got(op::ADDR_REQUEST) > 0);
        server.close();
        let ended = program.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{log}");
        assert!(log.contains("the connection was closed"), "{log}");
    });
}

/// The first stream opens its channels while the second connection is in progress.
#[test]
fn a_late_stream_is_not_the_next_connection() {
    in_namespace("ends::a_late_stream_is_not_the_next_connection", || {
        // The stop waits this long for the worker that the test blocks.
        timeouts::set(Timeouts { callback: Duration::from_secs(1), ..Timeouts::DEFAULT });
        let server = Server::start("start_timeout=5\n");
        let (opening, is_opening) = sync_channel(1);
        let (open, may_open) = sync_channel(1);
        *server.shared.gate.lock() = Some((opening, may_open));
        thread::scope(|scope| {
            let first = scope.spawn(|| server.connect());
            // The client has sent its hello; it gets the answer when the gate opens.
            let servers = is_opening.recv().unwrap();
            let (release, released) = sync_channel::<()>(1);
            let (stand, stands) = sync_channel(1);
            assert!(worker::exec(1 - servers, move || {
                stand.send(()).unwrap();
                released.recv().unwrap();
            }));
            stands.recv().unwrap();
            open.send(()).unwrap();
            thread::sleep(Duration::from_millis(200));
            app::client_stop();
            assert_eq!(first.join().unwrap(), -2);
            let second = scope.spawn(|| server.connect());
            thread::sleep(Duration::from_millis(200));
            release.send(()).unwrap();
            assert_eq!(second.join().unwrap(), 0, "{:?}", app::client_last_error());
        });
        assert_eq!(app::client_status(), Status::Started);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(app::client_status(), Status::Started);
        app::client_stop();
    });
}
