//! The exchange between a client and a server as state machines without IO: what each side sends, when, and what
//! follows.
//!
//! Nothing here sends, waits or reads a clock. A driver passes in events with the time, and performs the resulting
//! actions. Tokens and the contents of a REQUEST are arguments.
//!
//! - [`Exchange`]: one connection of a client, from dialling to its end. [`Event`]s go in, [`Action`]s come out.
//! - [`Offer`]: the contents of a server's reply, validated before use.
//! - [`Agreement`]: what a client pays for; it signs no other receipt.
//! - [`Session`]: one client as the server sees it: whether it is allowed, alive, and using the service.
//! - [`Leases`]: which session has which address; decides address requests, with take-over.
//!
//! Times are monotonic, measured from any fixed origin of the driver. `tests/simulation` drives both machines against
//! each other over a simulated network.

mod action;
mod client;
mod leases;
mod liveness;
mod offer;
mod payment;
mod session;

pub use action::{Action, Event, Failure, Grant, Notice, State};
pub use client::{Exchange, REQUEST_TICK, Settings, TICK};
pub use leases::{AddressRequest, Answer, LeaseRules, Leases, MIN_MTU, Sessions, Terms, agreed_mtu};
pub use liveness::PAUSE;
pub use offer::{Offer, OfferError};
pub use payment::{Agreement, Refusal, TxHash};
pub use session::{Session, SessionAction, UsageChange};
