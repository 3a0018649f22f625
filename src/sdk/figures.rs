//! What the SDK knows of itself, where it tells.

use vpn_core::times::BOUNDS;

/// The memory that peers make the process keep: output that waits, input that is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerMemory {
    /// The bytes in use.
    pub used: u64,
    /// The most that may be in use (`[server] max_memory`).
    pub most: u64,
    /// How often more was refused.
    pub refused: u64,
}

/// Returns the memory that peers use; `None` on a node, whose SDK counts none.
pub fn peer_memory() -> Option<PeerMemory> {
    #[cfg(feature = "embedded")]
    {
        let (used, most) = embedded::budget::used();
        Some(PeerMemory { used: used as u64, most: most as u64, refused: embedded::budget::refused() })
    }
    #[cfg(not(feature = "embedded"))]
    None
}

/// What the SDK's listener has done with connections, since the process began.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Those that were closed as soon as they were accepted, because a limit was reached.
    pub turned_away: u64,
    /// Those that ended before they were a stream.
    pub failed_handshakes: u64,
    /// The streams that were closed because they had no service for too long.
    pub idle: u64,
    /// How long the others took from accept to the open stream.
    pub opening: ([u64; BOUNDS.len() + 1], f64),
}

/// Returns them; `None` on a node, whose SDK does not tell.
pub fn connections() -> Option<Connections> {
    #[cfg(feature = "embedded")]
    {
        use embedded::stream::{COUNTERS, OPENING_TIMES};
        use std::sync::atomic::Ordering::Relaxed;
        Some(Connections {
            turned_away: COUNTERS.turned_away.load(Relaxed),
            failed_handshakes: COUNTERS.failed_handshakes.load(Relaxed),
            idle: COUNTERS.idle.load(Relaxed),
            opening: OPENING_TIMES.read(),
        })
    }
    #[cfg(not(feature = "embedded"))]
    None
}

/// Names the SDK that this library stands on.
pub const NAME: &str = if cfg!(feature = "embedded") { "embedded" } else { "node" };
