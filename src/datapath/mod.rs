//! What both ends of the tunnel do with a TUN queue: `drain` reads it, `writer` writes it.

mod drain;
mod writer;

pub(crate) use drain::{Budget, Sink, drain};
pub(crate) use writer::Writer;
