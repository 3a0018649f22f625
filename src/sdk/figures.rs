//! What the SDK knows of itself, where it tells.

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

/// Names the SDK that this library stands on.
pub const NAME: &str = if cfg!(feature = "embedded") { "embedded" } else { "node" };
