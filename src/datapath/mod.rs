//! How both ends of the tunnel handle a TUN queue: `drain` reads it, `writer` writes it, `shaper` holds back what is
//! written; and the way to the other end, `outlet`, with `bbr` for the congestion control of its stream and
//! `black_hole` for paths that lose full packets.

mod bbr;
mod black_hole;
mod drain;
mod outlet;
#[cfg(feature = "server")]
mod shaper;
mod writer;

pub(crate) use drain::{Sink, drain};
pub(crate) use outlet::{Outlet, Room, Shared};
#[cfg(feature = "server")]
pub(crate) use shaper::Shaper;
pub(crate) use writer::Writer;
