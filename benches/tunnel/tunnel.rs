//! A tunnel that runs, and whose CPU time counts.

use std::net::Ipv4Addr;

use crate::failure::Failure;
use crate::running::Running;
use crate::types::Ends;

/// A way that is there until it is dropped.
pub(crate) struct Tunnel {
    /// The server's address on it.
    pub(crate) gateway: Ipv4Addr,
    /// The programs at its ends; a cable has none.
    pub(crate) ends: Option<Ends<Running>>,
}

impl Tunnel {
    /// CPU seconds that its processes have used so far; None when it has none.
    pub(crate) fn cpu(&self) -> Result<Option<Ends<f64>>, Failure> {
        let Some(ends) = &self.ends else { return Ok(None) };
        Ok(Some(Ends { client: ends.client.cpu()?, server: ends.server.cpu()? }))
    }
}
