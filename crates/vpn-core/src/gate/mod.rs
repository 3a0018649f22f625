//! The gate in front of the service channel 'R' of a server: what a client may ask of the SDK's billing.
//!
//! The billing reads packets past their end, keeps timers on what it has freed, and follows pointers that a client can
//! leave empty. The gate passes on only what the billing handles well, and refuses the rest with the code that the
//! billing would have used.
//!
//! - [`judge`]: a REQUEST against order, ledger and network.
//! - [`check_signed`]: a SIGN_RESPONSE against the receipt that was issued.
//! - [`answer_check`]: a CHECK_REQUEST, which the gate answers by itself.

mod check;
mod receipt;
mod request;

pub use check::{CheckAnswer, answer_check};
pub use receipt::{Signed, check_signed};
pub use request::{Facts, Network, Order, Paid, Transaction, Verdict, judge};

/// The uid of the VPN service.
pub const VPN_UID: u64 = 1;
