//! The C structs of the embedded SDK, as C programs and the C half of the seam see them.
//!
//! cbindgen turns the files of this folder and of `abi/` into `include/embedded/dap_embedded_sdk.h`. The names of
//! structs and fields follow the Cellframe SDK (facts: the prototypes and member names that the VPN module relies on);
//! the order and the number of fields are this crate's own. Only C compiled against this header may access them.
//!
//! A field that C code or the event loop changes while Rust holds a reference is a `Cell`: the struct belongs to one
//! worker thread at a time, and a `Cell` makes the change through a shared reference well defined.
#![allow(non_camel_case_types, missing_docs)]

mod bank;
mod base;
mod cert;
mod client;
mod events;
mod ledger;
mod log_level;
mod net;
mod node;
mod receipt;
mod service;
mod stream;

pub use bank::*;
pub use base::*;
pub use cert::*;
pub use client::*;
pub use events::*;
pub use ledger::*;
pub use log_level::*;
pub use net::*;
pub use node::*;
pub use receipt::*;
pub use service::*;
pub use stream::*;
