//! The hosts: a server and its clients, each client with a path of its own to the server.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path as FilePath, PathBuf};

use testkit::path::link::{Conditions, Counts};
use testkit::path::{End, Path};

use crate::common::failure::Failure;
use crate::common::host::Host;
use crate::common::{Ends, PREFIX};
use crate::paths::Congestion;

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// A server with clients. Dropping it ends all of them and their paths.
pub(crate) struct Site {
    pub(crate) server: Host,
    /// With the addresses of the server and the client on the path between them.
    pub(crate) clients: Vec<(Host, Ends<Ipv4Addr>)>,
    paths: Vec<Path>,
    pub(crate) directory: PathBuf,
}

impl Site {
    /// Creates new hosts, whose kernels remember no earlier connection, with one client for each of the paths.
    pub(crate) fn new(directory: &FilePath, paths: &[Conditions], congestion: Congestion) -> Result<Site, Failure> {
        const NAMES: [&str; 2] = ["client", "other client"];
        let server = Host::new("server", directory)?;
        set_congestion(&server, congestion)?;
        let mut site = Site { server, clients: Vec::new(), paths: Vec::new(), directory: directory.to_owned() };
        for (number, (conditions, name)) in (0..).zip(paths.iter().zip(NAMES)) {
            let outer = Ends { client: Ipv4Addr::new(10, 200, number, 2), server: Ipv4Addr::new(10, 200, number, 1) };
            let client = Host::new(name, directory)?;
            set_congestion(&client, congestion)?;
            let end = |host: &Host, device: String, address| End {
                namespace: host.namespace.clone(),
                device,
                address,
                prefix: PREFIX,
            };
            let near = end(&site.server, format!("path{number}"), outer.server);
            let far = end(&client, "path".into(), outer.client);
            site.paths.push(Path::lay(&near, &far, conditions).map_err(Failure::during("the path"))?);
            site.clients.push((client, outer));
        }
        Ok(site)
    }

    /// Returns the server and a client.
    pub(crate) fn ends(&self, client: usize) -> Ends<&Host> {
        Ends { client: &self.clients[client].0, server: &self.server }
    }

    /// Ends the path of the first client, and returns what became of the packets from the server and from the client.
    pub(crate) fn end(mut self) -> [Counts; 2] {
        self.paths.remove(0).end()
    }
}

fn set_congestion(host: &Host, congestion: Congestion) -> Result<(), Failure> {
    // The kernel shows each process the setting of its own namespace.
    let name = congestion.name();
    let set = host.run(move || fs::write(CONGESTION_CONTROL, name));
    set.map_err(|error| Failure::Missing(format!("this kernel has no congestion control {name}: {error}")))
}
