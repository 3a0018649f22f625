//! A running tunnel, whose CPU time is measured.

use std::net::Ipv4Addr;

use crate::failure::Failure;
use crate::running::Running;
use crate::types::Ends;

/// A path between the hosts. Dropping it ends the path.
pub(crate) struct Tunnel {
    /// The server's address on it.
    pub(crate) gateway: Ipv4Addr,
    /// The programs at its ends; a cable has none.
    pub(crate) ends: Option<Ends<Running>>,
}

impl Tunnel {
    /// Returns the CPU seconds of its processes so far; `None` without processes.
    pub(crate) fn cpu(&self) -> Result<Option<Ends<f64>>, Failure> {
        let Some(ends) = &self.ends else { return Ok(None) };
        Ok(Some(Ends { client: ends.client.cpu()?, server: ends.server.cpu()? }))
    }
}
