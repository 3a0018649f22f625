//! Workers, event sockets, timers and pointer queues: the exported C functions.

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
