//! Networks for the demo and tests: network namespaces, and virtual Ethernet cables between them.
//!
//! A whole process enters a namespace ([`enter_new`], [`enter_beside`]), or a thread of this process holds one
//! ([`Namespace`]). A [`Cable`] joins two namespaces. The VPN itself uses none of this. The feature `lab` also adds
//! operations on links and routes to [`crate::netlink::Netlink`] that only a demo or a test needs.

mod cable;
mod files;
mod ipv6;
mod links;
mod namespace;

use std::io;

use crate::netlink::NetlinkError;

pub use cable::{Cable, Plug, add_loopback_address, plug_in, set_loopback_up};
pub use files::hide_directories;
pub use namespace::{Namespace, Privileges, enter_beside, enter_host_of, enter_network, enter_new};

/// Why a namespace or a cable could not be created.
#[derive(thiserror::Error, Debug)]
pub enum LabError {
    /// The kernel refused to create a namespace.
    #[error("{what} is not permitted here ({source})")]
    NotPermitted {
        /// The kind of namespace, as in "a network namespace".
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The process could not join another process's user namespace.
    #[error("the user namespace of process {pid} cannot be joined ({source})")]
    Join {
        /// The other process.
        pid: u32,
        /// The kernel's error.
        source: io::Error,
    },
    /// The thread that would hold a namespace could not be started.
    #[error("the thread of a network namespace cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The cable could not be created or configured.
    #[error("the network namespaces cannot be connected: {0}")]
    Cable(#[from] NetlinkError),
}
