//! The bank channel 'B', by which a client of the embedded SDK asks a server's ledger: what it sells, what an account
//! holds, where a chain of payments ends. It also brings signed transactions there. docs/wire.md has the messages.
//!
//! Without a node there is no chain that carries transactions from one machine to another: the ledger of the server that
//! sells is the authority, and whoever pays asks it. A server does not ask a client anything.

pub(crate) mod server;
mod teller;

pub mod account;
pub mod purse;

/// The channel's letter.
pub const CHANNEL: u8 = b'B';
/// How many requests a stream may send in a second, and how many at once.
const PER_SECOND: u32 = 16;
