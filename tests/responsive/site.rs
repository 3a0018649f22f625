//! A server and its clients, each client with a path of its own to the server.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path as FilePath;
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use embedded::config::{self, Config};
use host::lab::{Namespace, set_loopback_up};
use testkit::path::link::Conditions;
use testkit::path::{End, Path};
use testkit::program::{Running, stdout};
use testkit::tunnel::{Client, GATEWAY, NETWORK};

use crate::PROGRAM;

/// A line of 10 Mbit/s.
pub(crate) const LINE: u64 = 10_000_000;

/// The server's port.
pub(crate) const PORT: u16 = 8079;

/// The payload that the line's rate leaves to TCP in the tunnel: behind the framing, the headers and the TLS record of
/// each outer packet. A plain TCP connection has 0.94.
pub(crate) const USABLE: f64 = 0.90;

/// Returns a path of this rate in bit/s and this delay each way, whose buffer holds one bandwidth-delay product.
pub(crate) fn line(rate: u64, delay: Duration) -> Conditions {
    let product = (rate as f64 / 8.0 * 2.0 * delay.as_secs_f64()) as usize;
    // Twenty packets, as small routers have.
    Conditions { rate: Some(rate), delay, buffer: product.max(20 * 1538), seed: 7, ..Conditions::perfect() }
}

/// The hosts. Dropping it removes them.
pub(crate) struct Site {
    pub(crate) server: Namespace,
    clients: Vec<Namespace>,
    _paths: Vec<Path>,
    directory: tempfile::TempDir,
}

impl Site {
    /// Creates a host for the server, and for each of the paths a client's host. Their kernels use reno.
    pub(crate) fn new(paths: &[Conditions]) -> Site {
        let host = || {
            let host = Namespace::new().unwrap();
            host.run(|| {
                set_loopback_up().unwrap();
                fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
            });
            host
        };
        let directory = tempfile::tempdir().unwrap();
        let mut site = Site { server: host(), clients: Vec::new(), _paths: Vec::new(), directory };
        for (number, conditions) in (0..).zip(paths) {
            let client = host();
            let end = |namespace: &Namespace, device: String, last| End {
                namespace: namespace.clone(),
                device,
                address: Ipv4Addr::new(10, 200, number, last),
                prefix: 24,
            };
            let (near, far) = (end(&site.server, format!("path{number}"), 1), end(&client, "path".into(), 2));
            site._paths.push(Path::lay(&near, &far, conditions).unwrap());
            site.clients.push(client);
        }
        site
    }

    /// The host of this client.
    pub(crate) fn client(&self, number: usize) -> &Namespace {
        &self.clients[number]
    }

    /// The directory for files.
    pub(crate) fn directory(&self) -> &FilePath {
        self.directory.path()
    }

    /// Returns the server's address on the path to this client.
    pub(crate) fn server_for(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, number, 1)
    }

    /// Starts the server, with these keys of `[srv_vpn]`, and waits until it is ready.
    pub(crate) fn start_server(&self, keys: &str) -> Running {
        let mut server = self.start("server", &self.server, &[], &format!("{NETWORK}{keys}"));
        server.wait_for("ready");
        server
    }

    /// Starts a client, with these keys of `[vpn_client]`, and waits until its tunnel is up.
    pub(crate) fn start_client(&self, number: u8, keys: &str) -> Client {
        let server = Site::server_for(number).to_string();
        let host = self.client(number.into());
        let name = format!("client{number}");
        Client::connected(self.start(&name, host, &["--connect", &server], &format!("[vpn_client]\n{keys}")), 1)
    }

    /// Starts the client in this process, whose counters have what the program shows nowhere. The SDK's threads are on
    /// the host of their creator.
    pub(crate) fn start_client_here(&self, keys: &str) {
        let state = self.state("here");
        let text = format!("[general]\nstate_dir={state}\n[server]\nenabled=false\n[vpn_client]\n{keys}");
        self.client(0).run(move || {
            config::set_current(Config::parse(&text, "test").0);
            app::client_init().unwrap();
            app::client_start(&Site::server_for(0).to_string(), PORT, "backbone").unwrap();
        });
    }

    /// Returns the output of `stat`.
    pub(crate) fn stat(&self) -> String {
        let output = PROGRAM.run(self.directory(), &["stat", "--state-dir", &self.state("server")]);
        assert!(output.status.success(), "{output:?}");
        stdout(&output)
    }

    fn start(&self, name: &str, host: &Namespace, arguments: &[&str], text: &str) -> Running {
        let config = self.directory().join(format!("{name}.cfg"));
        fs::write(&config, text).unwrap();
        let mut command = PROGRAM.command(self.directory());
        command.arg(name.trim_end_matches(|last: char| last.is_ascii_digit())).args(arguments);
        command.arg("--config").arg(config).args(["--state-dir", &self.state(name)]);
        Running::start(self.directory(), name, command, |mut command| host.run(move || command.spawn().unwrap()))
    }

    fn state(&self, name: &str) -> String {
        self.directory().join(name).to_str().unwrap().to_owned()
    }
}

/// One of a tunnel's two directions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Down,
    Up,
}

impl Way {
    pub(crate) const BOTH: [Way; 2] = [Way::Down, Way::Up];

    /// Returns the sender's host, the receiver's host, and the receiver's address in the tunnel.
    pub(crate) fn ends(self, site: &Site, client: (usize, Ipv4Addr)) -> (Namespace, Namespace, Ipv4Addr) {
        let (number, address) = client;
        let (near, far) = (site.server.clone(), site.client(number).clone());
        match self {
            Way::Down => (near, far, address),
            Way::Up => (far, near, GATEWAY),
        }
    }
}
