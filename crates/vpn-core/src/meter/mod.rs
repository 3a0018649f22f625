//! What is sold: the units of paid receipts, grace, and the rest that a client leaves behind.
//!
//! Nothing here sends, waits, stores or reads a clock. A driver passes in events with the time, and performs the
//! resulting actions.
//!
//! - [`Meter`]: one usage of one session. It counts what is served against what is paid. [`Event`]s go in, [`Action`]s
//!   come out.
//! - [`Carried`]: the bytes of a session, counted by the data path.
//! - [`Rests`]: the rests of all clients, each used by one session at a time.
//! - [`Grace`]: how much service without payment a source address, and all of them together, may have.
//!
//! # Keys
//!
//! Proposed names and defaults of what a server's configuration sets:
//!
//! | key | default | field |
//! |---|---|---|
//! | `grace_time` | 60 s | [`GraceLimits::time`], with the order's own grace period as a further bound |
//! | `grace_bytes` | 64 MiB | [`GraceLimits::bytes`] |
//! | `grace_per_address` | 1 | [`GraceLimits::source_at_once`] |
//! | `grace_time_per_address` | 180 s an hour | [`GraceLimits::source_time`] |
//! | `grace_bytes_per_address` | 192 MiB an hour | [`GraceLimits::source_bytes`] |
//! | `grace_clients` | 64 | [`GraceLimits::total_at_once`] |
//! | `grace_total_bytes` | 4 GiB an hour | [`GraceLimits::total_bytes`] |
//! | `confirm_within` | 600 s | [`Terms::confirm_within`] |
//! | `save_every` | 10 s | [`Terms::save_every`] |
//!
//! # Rounding
//!
//! A [`Meter`] counts bytes, or nanoseconds. A stored rest has whole units, as the legacy record has, so the end of a
//! session charges a started second in full ([`Books::rounded`]). A client that comes and goes all the time thus gains
//! nothing.

mod books;
mod carried;
mod grace;
mod rests;
mod terms;
mod usage;

pub use books::{Books, Holding, Left};
pub use carried::Carried;
pub use grace::{Grace, GraceLimit, GraceLimits, GraceRefusal};
pub use rests::{Client, Expired, MAX_PENDING, PaymentId, Pending, Rests, Taken, Urgency, Write};
pub use terms::{Action, Allowance, Event, RecordError, Rest, StopReason, Terms, Unit, Use};
pub use usage::Meter;

#[cfg(test)]
mod tests;
