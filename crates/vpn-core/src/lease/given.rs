//! What a pool gives, or why it does not.

use super::Token;
use crate::source::Network;
use std::net::Ipv4Addr;
use std::time::Duration;

/// An address that belongs to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub addr: Ipv4Addr,
    /// The token that resumes this address later: the new one, or the one that the client showed.
    pub token: Token,
    /// The number of this lease, unique among all leases of the pool.
    pub id: u64,
    /// How the pool chose the address.
    pub origin: Origin,
}

/// How the pool chose a leased address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client never held it, or another client has held it since.
    New,
    /// The client returned it earlier and resumes it.
    Resumed,
    /// It is reserved for the client.
    Static,
    /// The client still held it by a connection that it lost without the server's noticing. That connection's lease has
    /// ended (take-over).
    TakenOver,
}

/// The state of an address that is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A client has it.
    Leased {
        /// Whether it is this client's alone.
        is_reserved: bool,
    },
    /// It is kept for the client that has returned it.
    Kept {
        /// How long ago, on the pool's clock as of its last change.
        ago: Duration,
    },
    /// It is one client's alone, and that has not got it now.
    Reserved,
}

/// How the addresses of a pool are used, in numbers of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// All addresses for clients.
    pub capacity: u32,
    /// Those that clients have.
    pub leased: u32,
    /// Those that are kept for clients that have returned them.
    pub kept: u32,
    /// Those that wait for the client that they are reserved for.
    pub reserved: u32,
    /// Those that are nobody's.
    pub free: u32,
    /// All that are one client's alone, whether it has them now or not.
    pub all_reserved: u32,
}

/// Why the pool cannot lease an address.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// Every address is leased.
    #[error("no free address")]
    Exhausted,
    /// The client's source, or the network around it, has as many leases as it may.
    #[error("{network} has {leases} addresses, its share")]
    Share {
        /// The network.
        network: Network,
        /// How many it has.
        leases: u64,
    },
    /// The client's source, or the network around it, got too many new addresses in the last minute.
    #[error("{network} gets new addresses too fast")]
    Rate {
        /// The network.
        network: Network,
    },
}
