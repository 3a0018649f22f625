//! The account book of a server: an entry for each service that a session had, kept in a bounded number, and stored in
//! pages.
//!
//! Nothing here stores or reads a clock. A driver stores the pages that [`Book::due`] returns, in their order, and
//! passes them to [`Book::load`] at the next start.
//!
//! - [`Entry`]: what one session bought and used, or what it was given free.
//! - [`Book`]: all entries, on two shelves. What nobody has paid for stands on a shelf of its own: strangers can cause
//!   any number of these entries, and push only each other out.
//! - [`Sums`]: entries added up.

mod entry;
mod page;
mod shelves;
mod slots;
mod sums;

pub use entry::{Entry, EntryError, Kind, Ledger, RECEIPTS_KEPT, Receipt};
pub use page::{PAGE_ENTRIES, PageError};
pub use shelves::{Book, Limits, PageWrite, Shelf};
pub use sums::Sums;

#[cfg(test)]
mod tests;
