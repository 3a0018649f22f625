//! A process or a whole machine is stopped for longer than its keep-alive allows, and goes on: SIGSTOP and SIGCONT.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::hosts::Hosts;
use testkit::netns::in_namespace;
use testkit::program::{Running, send};
use testkit::sockets::{connect_from, echo, tcp, udp, udp_at};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// Longer than three times the keep-alive of 1 s, and than the time to dial.
const PAUSE: Duration = Duration::from_secs(9);
/// Long enough for questions after the pause, had they no answer.
const AFTER: Duration = Duration::from_secs(5);

/// Stops a program for a while, in which `work` is done.
fn pause(running: &Running, work: impl FnOnce()) {
    send(&running.child, Signal::STOP);
    sleep(Duration::from_millis(100));
    work();
    sleep(PAUSE);
    send(&running.child, Signal::CONT);
}

#[test]
fn a_client_that_was_stopped_goes_on() {
    in_namespace("pauses::a_client_that_was_stopped_goes_on", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}keep_alive=60\n[vpn_client]\nkeep_alive=1\n"));
        let _server = hosts.server_with("server", &["--config", &config]);
        let mut client = Client::connect(&hosts, 0, "client", &["--config", &config]);
        let (near, far) = (udp(GATEWAY), udp_at(hosts.at(0), client.address));
        echo(&far, &near, b"before");
        // The stopped client also leaves questions unanswered in its own memory: let it ask once before.
        sleep(Duration::from_millis(1_500));
        pause(&client.running, || {
            for number in 0..12_u8 {
                near.send_to(&[number; 1000], far.local_addr().unwrap()).unwrap();
            }
        });
        let mut packet = [0; 2000];
        for number in 0..12 {
            let (size, _) = far.recv_from(&mut packet).unwrap();
            assert_eq!((size, packet[0]), (1000, number), "what waited arrives");
        }
        sleep(AFTER);
        echo(&far, &near, b"after");
        assert!(client.running.child.try_wait().unwrap().is_none(), "{}", client.running.log());
        assert!(!client.running.log().contains("lost"), "{}", client.running.log());
    });
}

/// The window is full soon, and the kernel's own limit must not take the silence for death: its probes are answered.
#[test]
fn a_client_that_was_stopped_in_a_download_goes_on() {
    in_namespace("pauses::a_client_that_was_stopped_in_a_download_goes_on", || {
        let hosts = Hosts::new(PROGRAM);
        let _server = hosts.server("server");
        let client = Client::connect(&hosts, 0, "client", &[]);
        let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
        let (mut near, mut far) = tcp(&listener, connect_from(hosts.at(0)));
        // More than fits into all queues; the inner TCP repeats what the server drops meanwhile.
        const SIZE: usize = 64 << 20;
        let sender = thread::spawn(move || near.write_all(&vec![7; SIZE]).map(|()| near));
        far.read_exact(&mut vec![0; 1 << 20]).unwrap();
        send(&client.running.child, Signal::STOP);
        sleep(Duration::from_secs(26));
        send(&client.running.child, Signal::CONT);
        far.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        far.read_exact(&mut vec![0; SIZE - (1 << 20)]).unwrap();
        sender.join().unwrap().unwrap();
        assert!(!client.running.log().contains("lost"), "{}", client.running.log());
    });
}

#[test]
fn a_server_that_was_stopped_keeps_its_sessions() {
    in_namespace("pauses::a_server_that_was_stopped_keeps_its_sessions", || {
        let hosts = Hosts::with_clients(PROGRAM, 2);
        let config = hosts.config(&format!("{NETWORK}keep_alive=1\n[vpn_client]\nkeep_alive=60\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let clients =
            [0, 1].map(|number| Client::connect(&hosts, number, ["first", "second"][number], &["--config", &config]));
        let far = [0, 1].map(|number| udp_at(hosts.at(number), clients[number].address));
        let near = udp(GATEWAY);
        pause(&server, || {
            for socket in &far {
                socket.send_to(b"waits", near.local_addr().unwrap()).unwrap();
            }
        });
        let mut packet = [0; 100];
        for _ in &far {
            assert_eq!(near.recv_from(&mut packet).unwrap().0, 5, "what waited arrives");
        }
        sleep(AFTER);
        for (socket, client) in far.iter().zip(&clients) {
            echo(socket, &near, b"after");
            assert!(!client.running.log().contains("lost"), "{}", client.running.log());
        }
        assert!(!server.log().contains("silent for"), "{}", server.log());
    });
}

/// The server has given the silent client up. When the client goes on, it connects again at once, and has its address.
#[test]
fn a_client_whose_session_has_ended_meanwhile_is_back_at_once() {
    in_namespace("pauses::a_client_whose_session_has_ended_meanwhile_is_back_at_once", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}keep_alive=1\n[vpn_client]\nkeep_alive=60\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        let client = Client::connect(&hosts, 0, "client", &["--config", &config]);
        pause(&client.running, || {});
        let continued = Instant::now();
        assert!(server.log().contains("silent for"), "{}", server.log());
        let again = Client::connected(client.running, 2);
        assert!(continued.elapsed() < Duration::from_secs(2), "{:?}: {}", continued.elapsed(), again.running.log());
        assert_eq!(again.address, client.address);
        echo(&udp_at(hosts.at(0), again.address), &udp(GATEWAY), b"after");
    });
}

/// What was out of reach before the process was stopped may be there now: no pause between attempts goes on.
#[test]
fn a_pause_between_attempts_ends_with_the_pause_of_the_process() {
    in_namespace("pauses::a_pause_between_attempts_ends_with_the_pause_of_the_process", || {
        let hosts = Hosts::new(PROGRAM);
        let (server, _) = hosts.server("server");
        let mut client = Client::connect(&hosts, 0, "client", &[]).running;
        drop(server);
        client.wait_until("a pause of 8 s", |client| client.log().matches("next attempt in").count() == 5);
        send(&client.child, Signal::STOP);
        let _server = hosts.server("server");
        sleep(Duration::from_secs(2));
        send(&client.child, Signal::CONT);
        let continued = Instant::now();
        let again = Client::connected(client, 2).running;
        assert!(continued.elapsed() < Duration::from_secs(2), "{:?}: {}", continued.elapsed(), again.log());
    });
}

#[test]
fn a_start_survives_a_pause_longer_than_its_time_limit() {
    in_namespace("pauses::a_start_survives_a_pause_longer_than_its_time_limit", || {
        let hosts = Hosts::new(PROGRAM);
        let config = hosts.config(&format!("{NETWORK}[vpn_client]\nstart_timeout=3\n"));
        let (server, _) = hosts.server_with("server", &["--config", &config]);
        // The kernel accepts the connection; the server's answer waits until the client is stopped.
        send(&server.child, Signal::STOP);
        let client = hosts.client_at(0, "client", &["--config", &config]);
        let mut client = client;
        client.wait_for_log("connecting to");
        sleep(Duration::from_millis(500));
        pause(&client, || send(&server.child, Signal::CONT));
        let client = Client::connected(client, 1);
        echo(&udp_at(hosts.at(0), client.address), &udp(GATEWAY), b"after");
    });
}
