//! Networks for demonstrations and tests: network namespaces, and virtual Ethernet cables between them.
//!
//! A namespace is entered by a whole process ([`enter_new`], [`enter_beside`]) or held by a thread of this process
//! ([`Namespace`]). A [`Cable`] joins two of them. The VPN itself uses nothing of this; the feature `lab` also adds the
//! operations on links and routes that only a demonstration or a test needs to [`crate::netlink::Netlink`].

mod cable;
mod links;
mod namespace;

use std::io;

use crate::netlink::NetlinkError;

pub use cable::{Cable, Plug, plug_in, set_loopback_up};
pub use namespace::{Namespace, Privileges, enter_beside, enter_network, enter_new};

/// Why a namespace or a cable could not be made.
#[derive(thiserror::Error, Debug)]
pub enum LabError {
    /// The kernel refused a namespace.
    #[error("{what} is not permitted here ({source})")]
    NotPermitted {
        /// What was asked for, as in "a network namespace".
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The user namespace of another process could not be joined.
    #[error("the user namespace of process {pid} cannot be joined ({source})")]
    Join {
        /// The other process.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread that would hold a namespace could not be started.
    #[error("the thread of a network namespace cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The cable could not be laid or plugged in.
    #[error("the network namespaces cannot be connected: {0}")]
    Cable(#[from] NetlinkError),
}
