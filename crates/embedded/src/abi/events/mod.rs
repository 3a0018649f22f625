//! Workers, event sockets, timers and pointer queues, as C calls them.

mod lifecycle;
mod queues;
mod sockets;
mod timers;
mod workers;

pub use lifecycle::*;
pub use queues::*;
pub use sockets::*;
pub use timers::*;
pub use workers::*;
