//! A server's host and its clients' hosts: network namespaces joined by veth pairs, with the program running in them.
//!
//! Use from an integration test, inside `netns::in_namespace`: `#[path = "support/hosts.rs"] mod hosts;` beside
//! `mod program;`, which must be at the crate's root.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use host::netlink::Netlink;
use rustix::thread::{UnshareFlags, gettid};

use crate::program::{program, run, wait};

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The test thread's namespace is the server's host; each client's host is a thread in a namespace of its own.
pub(crate) struct Hosts {
    directory: tempfile::TempDir,
    clients: Vec<Host>,
}

impl Hosts {
    /// A server's host, and one for a client.
    pub(crate) fn new() -> Hosts {
        Hosts::with_clients(1)
    }

    /// A server's host, and one for each of so many clients, each on a cable of its own.
    pub(crate) fn with_clients(count: u8) -> Hosts {
        Hosts { directory: tempfile::tempdir().unwrap(), clients: (0..count).map(Host::new).collect() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// A configuration file with this text.
    pub(crate) fn config(&self, text: &str) -> String {
        let path = self.path().join("test.cfg");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The host of one client.
    pub(crate) fn at(&self, client: usize) -> &Host {
        &self.clients[client]
    }

    /// A server with the built-in configuration that is ready, and its identity.
    pub(crate) fn server(&self, state: &str) -> (Running, String) {
        let (server, pin) = self.server_with(state, &[]);
        let said = server.said();
        let ready = "ready: listening on 0.0.0.0:8079, network 10.98.0.0/24 for backbone, identity sha256:";
        assert!(said.starts_with(ready), "{said}");
        (server, pin)
    }

    /// A server that is ready, and its identity.
    pub(crate) fn server_with(&self, state: &str, arguments: &[&str]) -> (Running, String) {
        let mut command = program(self.path());
        command.arg("server").args(arguments).args(["--state-dir", &self.state(state)]);
        let mut server = Running::start(self.path(), "server", command, |mut command| command.spawn().unwrap());
        server.wait_until("ready", |server| server.said().ends_with('\n'));
        let said = server.said();
        let (_, pin) = said.trim().rsplit_once(' ').unwrap();
        (server, pin.to_owned())
    }

    /// What `stat` says of the server with this state.
    pub(crate) fn stat(&self, state: &str) -> String {
        let output = run(self.path(), &["stat", "--state-dir", &self.state(state)]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A client of the server, on the first client's host.
    pub(crate) fn client(&self, arguments: &[&str]) -> Running {
        self.client_at(0, "client", arguments)
    }

    /// A client of the server, on the host of that client.
    pub(crate) fn client_at(&self, client: usize, state: &str, arguments: &[&str]) -> Running {
        let target = self.at(client).server.to_string();
        let arguments = [&["client", "--connect", &target], arguments].concat();
        self.start_at(client, state, &arguments)
    }

    pub(crate) fn start_far(&self, state: &str, arguments: &[&str]) -> Running {
        self.start_at(0, state, arguments)
    }

    pub(crate) fn start_at(&self, client: usize, state: &str, arguments: &[&str]) -> Running {
        let mut command = program(self.path());
        command.args(arguments).args(["--state-dir", &self.state(state)]);
        Running::start(self.path(), state, command, |command| self.at(client).spawn(command))
    }

    /// Runs the program on the first client's host to its end.
    pub(crate) fn far(&self, arguments: &[&str]) -> Output {
        let mut command = program(self.path());
        command.args(arguments).args(["--state-dir", &self.state("check")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.at(0).spawn(command).wait_with_output().unwrap()
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A client's host.
pub(crate) struct Host {
    /// The server's address on the cable between the two.
    pub(crate) server: Ipv4Addr,
    jobs: Sender<Job>,
}

impl Host {
    fn new(number: u8) -> Host {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (moved, far_thread) = mpsc::channel();
        thread::spawn(move || {
            leave_network();
            moved.send(gettid().as_raw_nonzero().get()).unwrap();
            to_do.into_iter().for_each(|job| job());
        });
        let (near, far) = (format!("near{number}"), format!("far{number}"));
        let mut netlink = Netlink::open().unwrap();
        netlink.add_veth(&near, &far).unwrap();
        let index = netlink.link_index(&far).unwrap();
        netlink.set_netns_by_pid(index, far_thread.recv().unwrap().try_into().unwrap()).unwrap();
        let host = Host { server: Ipv4Addr::new(10, 55, number, 1), jobs };
        plug_in(&near, host.server);
        host.run(move || plug_in(&far, Ipv4Addr::new(10, 55, number, 2)));
        host
    }

    /// Does something on this host. A socket that it makes stays in this host's network wherever it is used.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || done.send(job()).unwrap())).unwrap();
        result.recv().expect("the job on the client's host has panicked")
    }

    fn spawn(&self, mut command: Command) -> Child {
        self.run(move || command.spawn().unwrap())
    }
}

/// Only this thread moves; what it starts moves with it.
#[allow(deprecated)]
fn leave_network() {
    rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
}

fn plug_in(link: &str, address: Ipv4Addr) {
    let mut netlink = Netlink::open().unwrap();
    let loopback = netlink.link_index("lo").unwrap();
    netlink.set_up(loopback).unwrap();
    let index = netlink.link_index(link).unwrap();
    netlink.add_address(index, address, 24).unwrap();
    netlink.set_up(index).unwrap();
}

/// A program that goes on running, and what it says. Killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    fn start(directory: &Path, name: &str, mut command: Command, spawn: impl FnOnce(Command) -> Child) -> Running {
        let number = fs::read_dir(directory).unwrap().count();
        let file = |kind: &str| directory.join(format!("{name}-{number}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        Running { child: spawn(command), out, err }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    pub(crate) fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |running| running.said().contains(text));
    }

    pub(crate) fn wait_for_log(&mut self, text: &str) {
        self.wait_until(text, |running| running.log().contains(text));
    }

    pub(crate) fn wait_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let ended = self.child.try_wait().unwrap();
            let alive = ended.is_none() && Instant::now() < deadline;
            assert!(alive || done(self), "no {what:?}, {ended:?}:\n{}\n{}", self.said(), self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        wait(&mut self.child, PATIENCE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
