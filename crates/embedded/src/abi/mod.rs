//! The embedded SDK's C functions: pointers from C are checked and turned into safe types here, and nowhere else.
#![allow(unsafe_code, non_camel_case_types, non_upper_case_globals)]

pub(crate) mod boundary;
pub mod cli;
pub mod client;
pub mod config;
pub mod events;
pub mod http;
pub mod ledger;
pub mod log;
pub mod net;
pub(crate) mod owned;
pub mod service;
pub mod store;
pub mod stream;
