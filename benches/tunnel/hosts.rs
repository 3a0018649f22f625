//! The two hosts, joined by a veth pair.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use host::lab::{Cable, Plug};

use crate::common::failure::Failure;
use crate::common::host::Host;
use crate::common::{Ends, PREFIX};

/// The addresses of server and client on the cable, whose MTU is 1500.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
const SERVER_LINK: &str = "veth-server";
const CLIENT_LINK: &str = "veth-client";

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

    /// Returns both.
    pub(crate) fn ends(&self) -> Ends<&Host> {
        Ends { client: &self.client, server: &self.server }
    }
}
