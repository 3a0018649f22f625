//! Tests that the programs in examples/ work as their headers say: a server on one host, the check and the client on
//! another.
//!
//! Cargo builds the examples when it builds all targets. To run this file alone:
//! `cargo build --examples && cargo nextest run --test examples`.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use testkit::TEST_TIMEOUT;
use testkit::hosts::{Host, Hosts};
use testkit::netns::in_namespace;
use testkit::program::{Program, code, stderr, stdout, wait};
use testkit::sockets::{echo, udp, udp_at};

#[test]
fn serve_check_and_connect_meet() {
    in_namespace("serve_check_and_connect_meet", || {
        let hosts = Hosts::new(Program(env!("CARGO_BIN_EXE_cellframe-vpn")));
        let (far, server_address) = (hosts.at(0), hosts.at(0).server.to_string());
        let mut serve = example("serve");
        serve.arg(config(&hosts, "server"));
        let mut server = Running::start(serve, None);
        let ready = server.line();
        let (address, identity) = ready.rsplit_once(", identity ").unwrap_or_else(|| panic!("{ready:?}"));
        assert_eq!(address, "listening on 0.0.0.0:8079");

        let check = |identity: &str| {
            let mut check = example("check");
            check.args([&server_address, "8079", identity]);
            far.run(move || check.output().unwrap())
        };
        let (good, bad) = (check(identity), check(&format!("sha256:{}", "00".repeat(32))));
        assert_eq!(code(&good), 0, "{}", stderr(&good));
        let line = stdout(&good);
        assert!(line.starts_with("connected in ") && line.contains("s, answered in "), "{line:?}");
        assert_eq!(code(&bad), 1, "{}", stdout(&bad));
        assert!(stderr(&bad).contains("the server's identity is not the pinned one"), "{}", stderr(&bad));

        let mut connect = example("connect");
        connect.arg(config(&hosts, "client")).args([&server_address, "8079"]);
        let mut client = Running::start(connect, Some(far));
        let up = client.line();
        assert!(up.starts_with("address 10.98.0.2, gateway 10.98.0.1, device tun"), "{up:?}");
        let server_end = udp(Ipv4Addr::new(10, 98, 0, 1));
        let client_end = udp_at(far, Ipv4Addr::new(10, 98, 0, 2));
        echo(&client_end, &server_end, b"through the tunnel");

        assert_eq!(client.end(), Some(0));
        let traffic = client.line();
        assert!(traffic.contains(" packets up, ") && !traffic.starts_with("0 "), "{traffic:?}");
        assert_eq!(server.end(), Some(0));
    });
}

#[test]
fn without_arguments_they_print_their_usage() {
    for name in ["serve", "check", "connect"] {
        let output = example(name).output().unwrap();
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).contains(&format!("usage: {name} ")), "{}", stderr(&output));
    }
}

/// Returns the command of an example's executable, which cargo builds next to the directory of the tests.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    command.env_remove("RUST_LOG");
    command
}

/// Returns the examples' configuration file, changed to keep its state in a directory of the test.
fn config(hosts: &Hosts, name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).with_extension("cfg");
    let text = fs::read_to_string(file).unwrap();
    let (theirs, ours) = (format!("state_dir=/var/lib/vpn-example/{name}"), format!("state_dir={}", hosts.state(name)));
    assert!(text.contains(&theirs), "{text}");
    let path = hosts.path().join(name).with_extension("cfg");
    fs::write(&path, text.replace(&theirs, &ours)).unwrap();
    path
}

/// An example that runs until its standard input ends. Dropping it kills the example.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts an example on a client's host, or on the server's. Its log goes to the test's stderr.
    fn start(mut command: Command, host: Option<&Host>) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match host {
            Some(host) => host.run(move || command.spawn().unwrap()),
            None => command.spawn().unwrap(),
        };
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// Returns the next printed line, without its line end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Closes its standard input; returns its exit code.
    fn end(&mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        wait(&mut self.child, TEST_TIMEOUT)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
