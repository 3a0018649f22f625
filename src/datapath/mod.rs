//! What both ends of the tunnel do with a TUN queue.

mod writer;

pub(crate) use writer::Writer;
