//! The embedded SDK: the parts of the Cellframe SDK that the VPN service needs, in Rust, behind the same C functions.
//!
//! It is a small SDK, not a mock: worker threads, TLS streams, a durable store, a CLI socket, HTTP.
//!
//! # Layers
//!
//! From bottom to top. A module uses what its row says, and no two modules use each other, parent and child apart. Pointers
//! from C become safe types in `cview` and `abi` alone, which are also the only modules with `unsafe` code.
//!
//! | module | what lives there | may use |
//! |---|---|---|
//! | `ctypes` | the structs that C sees | nothing |
//! | `process` | whether this is a fork's child | nothing |
//! | `panics` | the boundary of the C functions: no panic, no call in a fork's child | `process` |
//! | `threads` | the threads of this crate, known by a flag | nothing |
//! | `deadline` | blocking reads and writes that end at a point in time | nothing |
//! | `timeouts` | how long peers and callbacks are waited for | nothing |
//! | `rate` | a bound on events per second | nothing |
//! | `config` | the configuration | nothing |
//! | `logging` | the logger | nothing |
//! | `cview` | owners of C's structs, strings, and the calls out to C's callbacks | `ctypes`, `panics`, `process`, `rate`, `vpn-core` |
//! | `connection_threads` | a bounded pool with a thread for each connection | `deadline`, `panics`, `threads` |
//! | `store` | the durable key-value store | `config` |
//! | `net` | the networks of the node | `config`, `ctypes`, `cview` |
//! | `tls` | identity, pins, handshake, records | `config`, `store` |
//! | `receipt` | keys, signatures and receipts of paid service | `config`, `tls`, `vpn-core` |
//! | `ledger` | the ledgers of the networks: orders, conditional transactions, payments | `net`, `receipt`, `vpn-core` |
//! | `reactor` | workers: event loop, timers, queues, event sockets, and what is on which worker | `ctypes`, `cview`, `panics`, `threads` |
//! | `stream` | connections: handshake, hello, channels, sessions, limits | `config`, `ctypes`, `cview`, `reactor`, `tls` |
//! | `http` | HTTP requests to registered paths | `connection_threads`, `deadline`, `panics` |
//! | `cli` | commands, and the socket that takes them | `config`, `connection_threads`, `deadline`, `threads` |
//! | `service` | the server's side of channel 'R' | `ctypes`, `cview`, `ledger`, `net`, `reactor`, `stream`, `vpn-core` |
//! | `money` | plays the SDK's paid service on channel 'R', with its faults, for tests | `ctypes`, `cview`, `ledger`, `net`, `reactor`, `receipt`, `service`, `stream`, `vpn-core` |
//! | `client` | node clients | `ctypes`, `cview`, `reactor`, `stream` |
//! | `dial` | name look-up and TCP for a node client | `client`, `config`, `reactor`, `stream`, `threads`, `timeouts`, `tls` |
//! | `listener` | the listening sockets: accepted connections become streams or HTTP | `config`, `http`, `reactor`, `stream`, `timeouts`, `tls` |
//! | `lifecycle` | start and stop of everything above | `cli`, `client`, `config`, `cview`, `http`, `listener`, `logging`, `net`, `process`, `reactor`, `service`, `store`, `stream`, `threads`, `timeouts`, `tls` |
//! | `abi` | the exported C functions | `cli`, `client`, `config`, `ctypes`, `cview`, `dial`, `http`, `ledger`, `lifecycle`, `listener`, `logging`, `net`, `panics`, `reactor`, `receipt`, `service`, `store`, `stream`, `tls`, `vpn-core` |
#![deny(unsafe_code)]

pub mod abi;
pub mod cli;
pub(crate) mod client;
pub mod config;
mod connection_threads;
pub mod ctypes;
pub(crate) mod cview;
mod deadline;
pub mod dial;
pub mod http;
pub mod ledger;
pub mod lifecycle;
pub mod listener;
pub mod logging;
pub mod money;
pub mod net;
pub(crate) mod panics;
pub(crate) mod process;
pub(crate) mod rate;
mod reactor;
pub mod receipt;
pub mod service;
pub mod store;
pub mod stream;
pub(crate) mod threads;
pub mod timeouts;
pub mod tls;
