//! The server's IPv4 pool: which client holds which address of the tunnel's subnet.
//!
//! No clock, no randomness, no lock: time and new tokens are arguments, and the owner of a [`Pool`] serialises access
//! to it.

mod given;
mod key;
mod pool;
mod record;
mod shares;
mod slots;
mod subnet;

pub use given::{Entry, Lease, LeaseError, Occupancy, Origin};
pub use key::{KEY_SESSIONS, KeyTokens};
pub use pool::{Pool, Reserved, Restored};
pub use record::{PAGES, PageError, empty_page};
pub use shares::{Applicant, Limits};
pub use subnet::{Subnet, SubnetError, dotted};

/// The secret with which a client gets its address back. The server draws it at random, or makes it of the key hash that
/// the client named ([`KeyTokens`]); only these two know it.
pub type Token = [u8; 16];
