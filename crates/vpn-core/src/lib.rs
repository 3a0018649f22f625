//! The VPN's core: the wire format, the exchange between client and server, leases of inner addresses, forwarding, and
//! the metering of paid service and its transactions.
//!
//! Nothing here makes a system call, takes a lock or reads a clock: time and random tokens are arguments.
#![forbid(unsafe_code)]

pub mod book;
pub mod exchange;
pub mod forward;
pub mod gate;
pub mod lease;
pub mod meter;
pub mod money;
pub mod names;
pub mod queue;
pub mod rate;
pub mod source;
pub mod times;
pub mod wire;
