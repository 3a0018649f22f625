//! Starts each system on a site.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::common::failure::Failure;
use crate::common::ours::Ours;
use crate::common::running::Running;
use crate::common::{Ends, INNER_SERVER, echo, wireguard};
use crate::options::Options;
use crate::site::Site;
use crate::types::System;

/// The MTU that wg-quick(8) gives a tunnel over a path of 1500 bytes.
const WIREGUARD_MTU: u16 = 1420;

/// A running tunnel, or the bare path. Dropping it ends its programs.
pub(crate) struct Tunnel {
    /// The server's address on it.
    pub(crate) gateway: Ipv4Addr,
    ends: Option<Ends<Running>>,
}

impl Tunnel {
    /// Returns the CPU seconds of its processes so far; `None` without processes.
    pub(crate) fn cpu(&self) -> Result<Option<f64>, Failure> {
        let Some(ends) = &self.ends else { return Ok(None) };
        Ok(Some(ends.client.cpu()? + ends.server.cpu()?))
    }
}

/// Starts a system for the site's first client, and waits until packets pass.
pub(crate) fn start(system: System, site: &Site, options: &Options) -> Result<Tunnel, Failure> {
    let (hosts, outer) = (site.ends(0), site.clients[0].1);
    let (gateway, ends) = match system {
        System::None => (outer.server, None),
        System::WireguardGo => {
            (INNER_SERVER, Some(wireguard::start(hosts, outer, WIREGUARD_MTU, &wireguard_go(options)?)?))
        }
        System::Ours | System::OursHost | System::OursBbr | System::OursCubic => {
            (INNER_SERVER, Some(ours(site, options).start(hosts, outer.server, system.configuration())?))
        }
    };
    let tunnel = Tunnel { gateway, ends };
    echo::wait_for(hosts, gateway).map_err(|failure| match &tunnel.ends {
        Some(ends) => ends.server.failure(&ends.client.failure(&failure.to_string()).to_string()),
        None => failure,
    })?;
    Ok(tunnel)
}

/// Returns the program that is measured.
pub(crate) fn ours(site: &Site, options: &Options) -> Ours {
    let program = options.program.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_cellframe-vpn").into());
    Ours { program, directory: site.directory.clone() }
}

fn wireguard_go(options: &Options) -> Result<PathBuf, Failure> {
    let given = options.wireguard_go.clone().or_else(|| std::env::var_os("WIREGUARD_GO").map(PathBuf::from));
    given.map_or_else(|| wireguard::find("wireguard-go"), Ok)
}
