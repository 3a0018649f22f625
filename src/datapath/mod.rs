//! How both ends of the tunnel handle a TUN queue: `drain` reads it, `writer` writes it; and the way to the other end,
//! `outlet`.

mod drain;
mod outlet;
mod writer;

pub(crate) use drain::{Budget, Sink, drain};
pub(crate) use outlet::{Outlet, Room, Shared};
pub(crate) use writer::Writer;
