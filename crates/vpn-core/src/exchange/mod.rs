//! The exchange between a client and a server as state machines without IO: who asks what and when, and what follows.
//!
//! Nothing here sends, waits or reads a clock. A driver hands over what has happened together with the time, and does
//! what the machine answers. Tokens and the contents of a REQUEST are arguments.
//!
//! - [`Exchange`]: one connection of a client, from the dialling to its end. [`Event`]s go in, [`Action`]s come out.
//! - [`Offer`]: what a server gives in its reply, judged before it is used.
//! - [`Session`]: one client as the server sees it: whether it is allowed, alive, and of use.
//! - [`Leases`]: which session has which address; decides a request for one, with take-over.
//!
//! Times are monotonic, since any origin that the driver keeps. Both machines are driven against each other over a
//! simulated network by `tests/simulation`.

mod action;
mod client;
mod leases;
mod offer;
mod session;

pub use action::{Action, Event, Failure, Grant, Notice, State};
pub use client::{Exchange, Settings, TICK};
pub use leases::{AddressRequest, Answer, Leases, Terms};
pub use offer::{Offer, OfferError, guess_prefix};
pub use session::{Care, Session, UsageChange};
