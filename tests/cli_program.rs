//! The program `cellframe-vpn` from the point of view of a user and a script: help, exit codes, and the demo from end
//! to end.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use testkit::program::{Program, code, processes_of, send, stderr, stdout, wait};
use testkit::skip;

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// Exit code of a missing privilege.
const PRIVILEGE: i32 = 6;

#[test]
fn without_arguments_the_demo_is_named_first() {
    let directory = tempfile::tempdir().unwrap();
    let output = PROGRAM.run(directory.path(), &[]);
    assert_eq!(code(&output), 2);
    let text = stdout(&output);
    let position = |command: &str| text.find(command).unwrap_or_else(|| panic!("{command} in {text}"));
    assert!(position("cellframe-vpn demo") < position("cellframe-vpn server"), "{text}");
    assert!(text.lines().count() < 20, "too long: {text}");
}

#[test]
fn every_command_explains_itself() {
    let directory = tempfile::tempdir().unwrap();
    let table: [(&[&str], &[&str]); 10] = [
        (&["--help"], &["demo", "Exit codes:", "RUST_LOG", "cannot connect", "privilege"]),
        (
            &["demo", "--help"],
            &["--seconds", "--json", "--internet", "Examples:", "Exit codes:", "changes nothing on this machine"],
        ),
        (&["server", "--help"], &["--config", "--print-config", "--state-dir", "Examples:", "Exit codes:"]),
        (
            &["client", "--help"],
            &["--connect", "--net", "--pin", "--retry", "--state-dir", "8079", "Exit codes:", "7 a", "8 the", "9 it"],
        ),
        (&["check", "--help"], &["HOST[:PORT]", "--timeout", "Exit codes:", "7 the", "8 the", "9 it"]),
        (&["stat", "--help"], &["--socket", "--state-dir", "Examples:", "Exit codes:"]),
        (&["status", "--help"], &["--socket", "--state-dir", "Exit codes:"]),
        (&["stop", "--help"], &["--socket", "--state-dir", "Exit codes:"]),
        (&["wallet", "--help"], &["new", "fund", "balance", "history", "Keep a copy", "Examples:", "Exit codes:"]),
        (&["repair", "--help"], &["/etc/resolv.conf", "Exit codes:", "6 not root"]),
    ];
    for (arguments, parts) in table {
        let output = PROGRAM.run(directory.path(), arguments);
        assert_eq!(code(&output), 0, "{arguments:?}");
        let text = stdout(&output);
        for part in parts {
            assert!(text.contains(part), "{part:?} in {arguments:?}:\n{text}");
        }
        assert!(!text.contains("demo-end"), "an internal command in {arguments:?}:\n{text}");
    }
    let version = PROGRAM.run(directory.path(), &["--version"]);
    assert_eq!((code(&version), stdout(&version)), (0, format!("cellframe-vpn {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_2_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let table: [(&[&str], &str); 17] = [
        (&["fly"], "fly"),
        (&["demo", "--internet", "--seconds", "2"], "cannot be used with"),
        (&["demo", "--paid", "--internet"], "cannot be used with"),
        (&["demo", "--seconds", "0"], "1..=3600"),
        (&["demo", "--fast"], "--fast"),
        (&["client"], "--connect"),
        (&["client", "--connect", "host:99999"], "\"99999\" is not a port"),
        (&["client", "--connect", "a:b:c"], "[ADDRESS]:PORT"),
        (&["client", "--connect", "host", "--pin", "sha256:12"], "64 hexadecimal digits"),
        (&["check"], "HOST[:PORT]"),
        (&["check", ""], "the host is empty"),
        (&["check", "[::1"], "not closed"),
        (&["check", "[::1]x"], "[ADDRESS]:PORT"),
        (&["check", "host", "--timeout", "0"], "1..=600"),
        (&["check", "localhost", "--net", "nowhere"], "no such network"),
        (&["server", "--config", "/nonexistent/x.cfg"], "/nonexistent/x.cfg"),
        (&["stat", "--socket", "/x", "--state-dir", "/y"], "cannot be used with"),
    ];
    for (arguments, reason) in table {
        let output = PROGRAM.run(directory.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason:?} in {arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn the_example_configuration_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let output = PROGRAM.run(directory.path(), &["server", "--print-config"]);
    assert_eq!(code(&output), 0);
    for part in ["[server]", "[srv_vpn]", "network_address=10.98.0.0", "listen_address=[0.0.0.0:8079]"] {
        assert!(stdout(&output).contains(part), "{part}");
    }
}

#[test]
fn a_missing_socket_is_3() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let state = state.to_str().unwrap();
    for (command, expected_text) in [("stat", "no server runs here"), ("status", "no client"), ("stop", "no client")] {
        let output = PROGRAM.run(directory.path(), &[command, "--state-dir", state]);
        assert_eq!(code(&output), 3, "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected_text), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(state), "{command} names the socket: {}", stderr(&output));
    }
}

#[test]
fn another_program_at_the_socket_is_4() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let other = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"220 mail.example.com ESMTP\n").unwrap();
    });
    let output = PROGRAM.run(directory.path(), &["stat", "--socket", socket.to_str().unwrap()]);
    other.join().unwrap();
    assert_eq!(code(&output), 4, "{}", stderr(&output));
}

#[test]
fn a_check_of_a_closed_port_is_3() {
    let directory = tempfile::tempdir().unwrap();
    // A socket of another kind holds the port, so no other test's listener gets it meanwhile.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = taken.local_addr().unwrap().to_string();
    let state = directory.path().join("state");
    let output = PROGRAM.run(directory.path(), &["check", &target, "--state-dir", state.to_str().unwrap()]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains(&target), "{}", stderr(&output));
}

#[test]
fn a_check_of_a_silent_server_ends_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let state = directory.path().join("state");
    let started = Instant::now();
    let arguments = ["check", &target, "--timeout", "5", "--state-dir", state.to_str().unwrap()];
    let output = PROGRAM.run(directory.path(), &arguments);
    assert!(matches!(code(&output), 3 | 4), "{output:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

/// Returns what this machine lacks for the demo; `None` if the demo can run.
fn missing_for_the_demo(output: &Output) -> Option<String> {
    (output.status.code() == Some(PRIVILEGE)).then(|| stderr(output).trim().to_owned())
}

#[test]
fn the_demo_moves_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let output = PROGRAM.run(directory.path(), &["demo", "--seconds", "1", "--json"]);
    let result: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    if let Some(why) = missing_for_the_demo(&output) {
        assert_eq!((&result["ok"], &result["exit_code"]), (&false.into(), &PRIVILEGE.into()));
        return skip("the_demo_moves_traffic", &why);
    }
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert_eq!(result["ok"], true);
    assert_eq!(result["lease"]["address"], "10.98.0.2");
    assert_eq!(result["lease"]["gateway"], "10.98.0.1");
    assert_eq!(result["ping"]["received"], 10, "{result:#}");
    for direction in ["upload", "download"] {
        let transfer = &result[direction];
        assert!(transfer["bytes"].as_u64().unwrap() > 1_000_000, "{direction}: {transfer:#}");
        assert_eq!(transfer["verified"], true);
        assert!(transfer["mbit_per_second"].as_f64().unwrap() > 10.0, "{direction}: {transfer:#}");
    }
    for end in ["server", "client"] {
        for counter in ["up_packets", "down_packets"] {
            assert!(result[end][counter].as_u64().unwrap() > 100, "{end} {counter}: {result:#}");
        }
    }
    assert!(result["vpn_stat"].as_str().unwrap().contains("10.98.0.2"), "{}", result["vpn_stat"]);
    assert_nothing_left(directory.path());
}

/// A mistake in the price list must not become a server that gives its service away.
#[test]
fn a_price_that_cannot_be_read_is_2_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("prices.cfg");
    let state = directory.path().join("state");
    let text = format!(
        "[general]\nstate_dir={}\n[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n\
         prices=[1 h for 1 CELL, 1 KB for 1 CELL]\n",
        state.display()
    );
    fs::write(&file, text).unwrap();
    let output = PROGRAM.run(directory.path(), &["server", "--config", file.to_str().unwrap()]);
    if code(&output) == PRIVILEGE {
        return skip("a_price_that_cannot_be_read_is_2_with_its_place", stderr(&output).trim());
    }
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("[srv_vpn] prices = [1 h for 1 CELL,1 KB for 1 CELL]: expected entry 2 (\"1 KB"), "{said}");
}

/// The demo has compared the sums by itself.
#[test]
fn the_demo_pays_until_the_money_ends() {
    let directory = tempfile::tempdir().unwrap();
    let output = PROGRAM.run(directory.path(), &["demo", "--paid", "--json"]);
    if let Some(why) = missing_for_the_demo(&output) {
        return skip("the_demo_pays_until_the_money_ends", &why);
    }
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let result: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&result["client"]["receipts"], &result["ledger"]["payments"]), (&5.into(), &5.into()));
    for amount in
        [&result["funded"], &result["client"]["cost"], &result["ledger"]["debited"], &result["ledger"]["earned"]]
    {
        assert_eq!(amount, "1.25");
    }
    for part in
        ["receipt 3 signed", "the service has ended", "the operator funds the wallet once more", "receipt 5 signed"]
    {
        assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
    }
    assert_nothing_left(directory.path());
}

/// The demo has judged by itself what it has seen: a leak would have been its failure.
#[test]
fn the_demo_shows_the_internet_through_the_tunnel_alone() {
    const TEST: &str = "the_demo_shows_the_internet_through_the_tunnel_alone";
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = || fs::read("/etc/resolv.conf").ok();
    let before = resolv_conf();
    let output = PROGRAM.run(directory.path(), &["demo", "--internet", "--json"]);
    if let Some(why) = missing_for_the_demo(&output) {
        return skip(TEST, &why);
    }
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let result: Value = serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(result["lease"]["address"], "10.98.0.2");
    let outcomes = |phase: &str| -> Vec<String> {
        let attempts = result[phase]["attempts"].as_array().unwrap().iter();
        attempts.map(|attempt| attempt["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let (ways, others) = (outcomes("without_vpn").len(), |phase: &str| result[phase]["wire"]["other"].clone());
    assert!(ways >= 3, "{result:#}");
    for phase in ["without_vpn", "client_stopped"] {
        assert_eq!(outcomes(phase), vec!["answered"; ways], "{phase}: {result:#}");
    }
    assert!(others("without_vpn").as_object().unwrap().len() >= ways, "{result:#}");
    for phase in ["tunnel", "server_killed"] {
        assert_eq!(outcomes(phase), vec!["refused"; ways], "{phase}: {result:#}");
        // Without a wait: a program turns to another way, or tells its user.
        let times =
            result[phase]["attempts"].as_array().unwrap().iter().map(|one| one["milliseconds"].as_f64().unwrap());
        assert!(times.fold(0.0, f64::max) < 900.0, "{phase}: {result:#}");
    }
    for phase in ["tunnel", "server_killed", "server_restarted"] {
        assert_eq!(others(phase), serde_json::json!({}), "{phase}: {result:#}");
    }
    for phase in ["tunnel", "server_restarted"] {
        assert_eq!(result[phase]["page"]["seen_as"], "198.51.100.2", "{phase}: {result:#}");
        if result["name_servers_left_out"].is_null() {
            assert_eq!(result[phase]["page"]["host"], "www.demo.example");
            assert_eq!(result[phase]["page"]["name_servers"], serde_json::json!(["203.0.113.53"]));
        }
    }
    let restarted = &result["server_restarted"];
    assert_eq!((&restarted["same_connection"], &restarted["requests"]), (&true.into(), &2.into()));
    assert_eq!(result["client_stopped"]["restored"], true);
    assert!(before == resolv_conf(), "this machine's name servers");
    assert_nothing_left(directory.path());
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // Interrupts it while it sets up, and in the middle of the traffic; one with an Internet while it has no server.
        for (wait_for, arguments) in [
            ("", &["--seconds", "60"][..]),
            ("pings answered", &["--seconds", "60"]),
            ("", &["--internet"]),
            ("server killed", &["--internet"]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let mut demo = start_demo(directory.path(), arguments);
            if !wait_until_said(&mut demo, directory.path(), wait_for) {
                let output = demo.wait_with_output().unwrap();
                let said = fs::read_to_string(directory.path().join("said")).unwrap();
                assert_eq!(code(&output), PRIVILEGE, "{said}");
                return skip("an_interrupted_demo_leaves_nothing", said.trim());
            }
            send(&demo, signal);
            let status = wait(&mut demo, Duration::from_secs(10));
            assert_eq!(status, Some(expected), "{signal:?} of {arguments:?} at {wait_for:?}");
            fs::remove_file(directory.path().join("said")).unwrap();
            assert_nothing_left(directory.path());
        }
    }
}

#[test]
fn a_killed_demo_ends_with_its_children_and_the_next_one_cleans_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = start_demo(directory.path(), &["--seconds", "60"]);
    if !wait_until_said(&mut demo, directory.path(), "server started") {
        let said = fs::read_to_string(directory.path().join("said")).unwrap();
        demo.wait().unwrap();
        return skip("a_killed_demo_ends_with_its_children_and_the_next_one_cleans_up", said.trim());
    }
    send(&demo, Signal::KILL);
    demo.wait().unwrap();
    fs::remove_file(directory.path().join("said")).unwrap();
    assert_no_process_of(directory.path());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the killed demo's directory");

    let mut next = start_demo(directory.path(), &["--seconds", "1"]);
    assert!(wait_until_said(&mut next, directory.path(), "server started"));
    send(&next, Signal::TERM);
    assert_eq!(wait(&mut next, Duration::from_secs(10)), Some(143));
    fs::remove_file(directory.path().join("said")).unwrap();
    assert_nothing_left(directory.path());
}

#[test]
fn the_demo_leaves_the_hosts_links_alone() {
    let links = || {
        let mut names: Vec<_> =
            fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let directory = tempfile::tempdir().unwrap();
    let before = links();
    let mut demo = start_demo(directory.path(), &["--seconds", "60"]);
    let runs = wait_until_said(&mut demo, directory.path(), "client connected");
    let during = links();
    if runs {
        send(&demo, Signal::INT);
    }
    wait(&mut demo, Duration::from_secs(10));
    if !runs {
        return skip("the_demo_leaves_the_hosts_links_alone", "the demo cannot run here");
    }
    assert_eq!(before, during);
}

/// Starts a demo whose stderr goes to the file `said`.
fn start_demo(directory: &Path, arguments: &[&str]) -> Child {
    let said = fs::File::create(directory.join("said")).unwrap();
    PROGRAM.command(directory).arg("demo").args(arguments).stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

/// Waits for a text on the demo's stderr; without a text, for its first process. Returns false if the demo ends first.
fn wait_until_said(demo: &mut Child, directory: &Path, text: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let said = fs::read_to_string(directory.join("said")).unwrap();
        if if text.is_empty() { processes_of(directory).len() > 1 } else { said.contains(text) } {
            return true;
        }
        if demo.try_wait().unwrap().is_some() {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    demo.kill().unwrap();
    panic!("the demo does not reach {text:?}");
}

/// The kernel kills both ends when their parent dies, which takes a moment.
fn assert_no_process_of(directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_of(directory).is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", processes_of(directory));
        sleep(Duration::from_millis(5));
    }
}

fn assert_nothing_left(directory: &Path) {
    assert_no_process_of(directory);
    let left: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
