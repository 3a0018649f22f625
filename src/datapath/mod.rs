//! How both ends of the tunnel handle a TUN queue: `drain` reads it, `writer` writes it.

mod drain;
mod writer;

pub(crate) use drain::{Budget, Sink, drain};
pub(crate) use writer::Writer;
