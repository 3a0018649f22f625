//! The embedded SDK's C functions: they check what C passes and turn it into safe types.
#![allow(unsafe_code, non_camel_case_types, non_upper_case_globals)]

pub mod bank;
pub mod cert;
pub mod cli;
pub mod client;
pub mod config;
pub mod events;
pub mod hash;
pub mod http;
pub mod ledger;
pub mod log;
pub mod net;
pub mod payment;
pub mod receipt;
pub mod service;
pub mod store;
pub mod stream;
