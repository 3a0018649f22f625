//! The messages on the wire: VPN packets of channel 'S', service messages of channel 'R', capabilities, and the IPv4
//! header of inner packets.
//!
//! Pure functions over byte slices. They trust no length: every parser takes bytes from a peer and returns either a
//! value or a [`WireError`]; none panics. docs/wire.md describes the exchange.

mod bundle;
mod caps;
mod check;
mod hash;
mod ipv4;
mod packet;
pub(crate) mod reader;
mod receipt;
mod service;
mod vnet;

#[cfg(test)]
pub(crate) use bundle::tests::{header_of, record};
pub use bundle::{BUNDLE_HEADROOM, MAX_BUNDLE, RECORD_HEADER_LEN, Record, records};
pub use caps::{CAPS_MAGIC, Capabilities, MAX_DNS};
pub use check::Check;
pub use hash::{HashText, parse_hash};
pub use ipv4::{Ipv4View, PacketError, inspect};
pub use packet::{
    AddrReply, FromClient, FromServer, HEADER_LEN, Header, encode_addr_request, encode_control, op, parse_from_client,
    parse_from_server, problem, write_header,
};
pub use receipt::{Receipt, ReceiptInfo, unit};
pub use service::{Request, ServiceError, Success, error_code, error_text, pkt};
pub use vnet::{VNET_LEN, VnetHeader};

use std::net::Ipv4Addr;

/// Why bytes from a peer are not the message they claim to be. The receiver drops and counts the packet; the session
/// continues.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Fewer bytes than the fixed part of the message has.
    #[error("too short: {len} bytes")]
    TooShort {
        /// The number of bytes present.
        len: usize,
    },
    /// The size field and the bytes present differ.
    #[error("the size field says {declared} bytes, {present} are present")]
    SizeMismatch {
        /// The size field's value.
        declared: usize,
        /// The number of bytes behind the header.
        present: usize,
    },
    /// An op code that this side never receives, known or not.
    #[error("op code {0:#x} is not accepted from this side")]
    UnexpectedOp(u32),
    /// A truncated capability, or a known one with a wrong length.
    #[error("capability {kind} is cut off or has a wrong length")]
    BadTlv {
        /// Its type byte; 0 if type and length are incomplete.
        kind: u8,
    },
    /// A truncated record of a bundle.
    #[error("a record of the bundle is cut off")]
    BadRecord,
    /// A receipt of a version without the hash of the transaction that it spends.
    #[error("receipt version {0}, expected 2")]
    ReceiptVersion(u8),
    /// A netmask in an address reply with non-contiguous ones.
    #[error("netmask {0} is not contiguous")]
    BadNetmask(Ipv4Addr),
}
