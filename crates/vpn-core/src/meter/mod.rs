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
