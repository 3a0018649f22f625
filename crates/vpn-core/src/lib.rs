//! The VPN's core: what goes over the wire, who asks what and when, who has which inner address, and what becomes of a
//! packet.
//!
//! Nothing here makes a system call, takes a lock or reads a clock: time and random tokens are arguments.
#![forbid(unsafe_code)]

pub mod exchange;
pub mod forward;
pub mod lease;
pub mod wire;
