//! The two hosts: network namespaces joined by a veth pair; a thread of this process holds each.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use host::lab::{Cable, Namespace, Plug};

use crate::failure::Failure;
use crate::running::{Prepared, Running};

/// The addresses of server and client on the cable, whose MTU is 1500.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
const SERVER_LINK: &str = "veth-server";
const CLIENT_LINK: &str = "veth-client";

/// The addresses of server and client inside every tunnel, in a /24.
pub(crate) const INNER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
pub(crate) const INNER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
pub(crate) const PREFIX: u8 = 24;

/// Both hosts, and a directory for the files of their programs.
pub(crate) struct Hosts {
    pub(crate) server: Host,
    pub(crate) client: Host,
    pub(crate) directory: PathBuf,
}

impl Hosts {
    /// Creates the hosts; the namespaces end with their threads and the programs in them.
    pub(crate) fn new(directory: &Path) -> Result<Hosts, Failure> {
        let hosts = Hosts {
            server: Host::new("server", directory)?,
            client: Host::new("client", directory)?,
            directory: directory.to_owned(),
        };
        let plug = |link: &str, address| Plug { link: link.to_owned(), address, prefix: PREFIX };
        let cable = Cable { near: plug(SERVER_LINK, SERVER), far: plug(CLIENT_LINK, CLIENT) };
        let client = hosts.client.namespace.clone();
        let connected = hosts.server.run(move || cable.connect(&client));
        connected.map_err(Failure::during("the hosts cannot be connected"))?;
        Ok(hosts)
    }
}

/// One host.
pub(crate) struct Host {
    name: &'static str,
    directory: PathBuf,
    namespace: Namespace,
}

impl Host {
    fn new(name: &'static str, directory: &Path) -> Result<Host, Failure> {
        let namespace = Namespace::new().map_err(Failure::during("a network namespace cannot be made"))?;
        Ok(Host { name, directory: directory.to_owned(), namespace })
    }

    /// Runs a job on this host. A socket that the job opens stays in this host's network on any thread.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.namespace.run(job)
    }

    /// Starts a program on this host.
    pub(crate) fn start(&self, command: &Command) -> Result<Running, Failure> {
        // On the thread that holds the namespace: the child inherits the namespace from it, and ends with it.
        let prepared = Prepared::new(command, &self.directory, self.name)?;
        self.run(move || prepared.start())
    }
}
