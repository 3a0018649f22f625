//! A server's host and its clients' hosts: network namespaces joined by cables, and the program that runs in them.
//!
//! Inside [`crate::netns::in_namespace`], the test's own namespace is the server's host. Each client's host is a
//! namespace that a thread of the test holds.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use host::lab::{Cable, Namespace, Plug};
use host::netlink::{Netlink, OUR_ROUTE};
use host::nft::Nft;

use crate::devices::tun_devices;
use crate::program::{Program, Running};
use crate::skip::skip;

/// A client's host, connected by a cable to the calling thread's host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The server's address on this cable.
    pub server: Ipv4Addr,
    namespace: Namespace,
}

impl Host {
    /// Creates the host of client `number`. Its cable is 10.55.`number`.0/24. The link `near<number>` on the server's
    /// host has address .1, the link `far<number>` on the client's host has address .2.
    pub fn new(number: u8) -> Host {
        let plug = |end: &str, last| Plug {
            link: format!("{end}{number}"),
            address: Ipv4Addr::new(10, 55, number, last),
            prefix: 24,
        };
        let (near, far) = (plug("near", 1), plug("far", 2));
        let host = Host { server: near.address, namespace: Namespace::new().unwrap() };
        Cable { near, far }.connect(&host.namespace).unwrap();
        host
    }

    /// Runs a job on this host. A socket that the job opens stays in this host's network on any thread.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.namespace.run(job)
    }

    /// The namespace that is this host, for cables to others.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn spawn(&self, mut command: Command) -> Child {
        self.run(move || command.spawn().unwrap())
    }
}

/// The hosts, the program that runs on them, and a directory for its files.
#[derive(Debug)]
pub struct Hosts {
    program: Program,
    directory: tempfile::TempDir,
    clients: Vec<Host>,
}

impl Hosts {
    /// Creates a server's host and one client's host.
    pub fn new(program: Program) -> Hosts {
        Hosts::with_clients(program, 1)
    }

    /// Creates a server's host and `count` clients' hosts, each on its own cable.
    pub fn with_clients(program: Program, count: u8) -> Hosts {
        Hosts { program, directory: tempfile::tempdir().unwrap(), clients: (0..count).map(Host::new).collect() }
    }

    /// The directory for files.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the path of the state directory `name`.
    pub fn state(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a configuration file with this text; returns its path.
    pub fn config(&self, text: &str) -> String {
        let path = self.path().join("test.cfg");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The host of this client.
    pub fn at(&self, client: usize) -> &Host {
        &self.clients[client]
    }

    /// Starts a server with the built-in configuration and waits until it is ready; returns it and its identity.
    pub fn server(&self, state: &str) -> (Running, String) {
        let (server, pin) = self.server_with(state, &[]);
        let said = server.stdout();
        let ready = "ready: listening on 0.0.0.0:8079, network 10.98.0.0/24 for backbone, identity sha256:";
        assert!(said.starts_with(ready), "{said}");
        (server, pin)
    }

    /// Starts a server and waits until it is ready; returns it and its identity.
    pub fn server_with(&self, state: &str, arguments: &[&str]) -> (Running, String) {
        let mut server = self.start_server(state, arguments);
        server.wait_until("ready", |server| server.stdout().ends_with('\n'));
        let said = server.stdout();
        let (_, pin) = said.trim().rsplit_once(' ').unwrap();
        (server, pin.to_owned())
    }

    /// Starts a server, and does not wait.
    pub fn start_server(&self, state: &str, arguments: &[&str]) -> Running {
        let mut command = self.program.command(self.path());
        command.arg("server").args(arguments).args(["--state-dir", &self.state(state)]);
        Running::start(self.path(), "server", command, |mut command| command.spawn().unwrap())
    }

    /// Returns the output of `stat` for the server with this state.
    pub fn stat(&self, state: &str) -> String {
        let output = self.near(&["stat", "--state-dir", &self.state(state)]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a client of the server on the first client's host.
    pub fn client(&self, arguments: &[&str]) -> Running {
        self.client_at(0, "client", arguments)
    }

    /// Starts a client of the server on the host of `client`.
    pub fn client_at(&self, client: usize, state: &str, arguments: &[&str]) -> Running {
        let target = self.at(client).server.to_string();
        let arguments = [&["client", "--connect", &target], arguments].concat();
        self.start_at(client, state, &arguments)
    }

    /// Starts the program with these arguments on the first client's host.
    pub fn start_far(&self, state: &str, arguments: &[&str]) -> Running {
        self.start_at(0, state, arguments)
    }

    /// Starts the program with these arguments on the host of `client`.
    pub fn start_at(&self, client: usize, state: &str, arguments: &[&str]) -> Running {
        let mut command = self.program.command(self.path());
        command.args(arguments).args(["--state-dir", &self.state(state)]);
        Running::start(self.path(), state, command, |command| self.at(client).spawn(command))
    }

    /// Runs the command `repair` on the host of `client`.
    pub fn repair_at(&self, client: usize) -> Output {
        let mut command = self.program.command(self.path());
        command.arg("repair");
        self.at(client).run(move || command.output().unwrap())
    }

    /// Runs the program on the server's host to its end.
    pub fn near(&self, arguments: &[&str]) -> Output {
        self.program.run(self.path(), arguments)
    }

    /// Runs the program on the first client's host to its end.
    pub fn far(&self, arguments: &[&str]) -> Output {
        self.far_with(&[arguments, &["--state-dir", &self.state("check")]].concat())
    }

    /// The same, with these arguments alone.
    pub fn far_with(&self, arguments: &[&str]) -> Output {
        let mut command = self.program.command(self.path());
        command.args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.at(0).spawn(command).wait_with_output().unwrap()
    }
}

/// Each test ends with this check: where the programs have ended and `repair` has run, nothing of theirs is left.
impl Drop for Hosts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let clients = (0..self.clients.len()).map(|client| (self.repair_at(client), self.at(client).run(left)));
        for (repair, left) in [(self.near(&["repair"]), left())].into_iter().chain(clients) {
            assert!(repair.status.success(), "{repair:?}");
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// Returns what a program has left on the calling thread's host.
fn left() -> Vec<String> {
    let mut netlink = Netlink::open().unwrap();
    let devices = tun_devices().into_iter().map(|(link, _)| format!("device {}", link.name));
    let routes = netlink.routes().unwrap().into_iter().filter(|route| route.protocol == OUR_ROUTE);
    let tables = Nft::open().and_then(|mut nft| nft.tables()).unwrap_or_default();
    let tables = tables.into_iter().filter(|(_, table)| table.starts_with("cellframe-vpn"));
    let files = fs::read_dir("/etc").unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let files = files.filter(|name| name.starts_with("resolv.conf.cellframe-vpn"));
    let mut left: Vec<_> = devices.chain(files).collect();
    left.extend(routes.map(|route| format!("{route:?}")));
    left.extend(tables.map(|table| format!("{table:?}")));
    left
}

/// Makes the calling thread's host forward packets. A server leaves that decision to the operator.
///
/// # Errors
/// If /proc/sys is read-only.
pub fn forward_packets() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")
}

/// Like [`forward_packets`]. If that fails, it skips the test and returns false.
pub fn forwards_packets(test: &str) -> bool {
    let result = forward_packets();
    if let Err(error) = &result {
        skip(test, &format!("net.ipv4.ip_forward cannot be set: {error}"));
    }
    result.is_ok()
}
