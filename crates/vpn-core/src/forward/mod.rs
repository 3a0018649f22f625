//! Decides whether an inner packet may pass, and to which session it goes.
//!
//! The data path's work on each packet: the source check, the table from inner address to session, the counters, and
//! super-packets, which are cut for peers that do not accept them and merged for peers that do, and packets that exceed a
//! session's MTU. Nothing here allocates, locks or makes a system call for a packet.

mod bundle;
mod bundler;
mod checksum;
mod coalesce;
mod counters;
mod cut;
mod drops;
mod ecn;
mod fields;
mod mss;
mod networks;
mod offload;
mod path_error;
mod policy;
mod split;
mod table;
mod template;
#[cfg(test)]
mod test_packets;
mod too_big;
mod unreachable;

pub use bundle::Bundle;
pub use bundler::{Bundler, Peer};
pub use coalesce::Coalescer;
pub use counters::{Counters, Load, Totals};
pub use cut::{Piece, behead, cut};
pub use drops::DropCause;
pub use ecn::mark_congestion;
pub use mss::{MssClamp, clamp_mss};
pub use networks::{BadNetwork, Networks, UNROUTABLE, is_routable};
pub use offload::{Offload, Segments};
pub use path_error::{adopt, is_adoptable};
pub use policy::{Policy, check_downlink};
pub use split::split;
pub use table::{Route, Table};
pub use too_big::{MAX_ICMP_ERROR, fragmentation_needed, is_too_big};
pub use unreachable::{MAX_ICMPV6_ERROR, ipv6_unreachable};
