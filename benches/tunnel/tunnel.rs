//! A running tunnel, whose CPU time is measured.

use std::net::Ipv4Addr;

use crate::common::Ends;
use crate::common::failure::Failure;
use crate::common::running::Running;

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
