//! The IPv4 pool of a server: which client has which address of the tunnel's subnet.
//!
//! No clock, no randomness, no lock: time and fresh tokens are arguments, and the owner of a [`Pool`] serialises its
//! use.

mod pool;
mod slots;
mod subnet;

pub use pool::{Lease, LeaseError, Origin, Pool};
pub use subnet::{Subnet, SubnetError};

/// What a client shows to get its address back. Drawn at random by the server, secret between the two.
pub type Token = [u8; 16];
