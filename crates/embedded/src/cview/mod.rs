//! The C side as Rust sees it: owners of the structs that C looks into, and calls out to the callbacks that C gave.
//!
//! Pointers become safe types here and in `abi`, which is the way in. This is the way out: it knows the structs and
//! nothing of who uses them.
#![allow(unsafe_code)]

pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod net;
pub(crate) mod owned;
pub(crate) mod packets;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod strings;
