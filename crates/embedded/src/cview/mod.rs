//! C's side as Rust sees it: owners of the structs that C reads, and calls to the callbacks that C registered.
//!
//! Pointers become safe types here and in `abi`. `abi` handles calls from C; this module handles calls to C, and knows
//! the structs but not their users.
#![allow(unsafe_code)]

pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod fork;
pub(crate) mod heap;
pub(crate) mod kernel;
pub(crate) mod net;
pub(crate) mod owned;
pub(crate) mod packets;
pub(crate) mod service;
pub(crate) mod service_session;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod strings;
pub(crate) mod usage;
