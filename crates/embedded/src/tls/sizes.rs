//! How long the parts of TLS 1.3's records are, and how much of them this end takes (RFC 8446, 5).

/// Content type, version, length.
pub(super) const HEADER_LEN: usize = 5;
/// Of each cipher that TLS 1.3 has.
pub(super) const TAG_LEN: usize = 16;
/// Most plain text in a record, bytes.
pub(super) const PLAIN_MAX: usize = 16 * 1024;
/// Most bytes that may follow a record's header.
pub(super) const BODY_MAX: usize = PLAIN_MAX + 256;
/// The longest record that is taken from a peer.
pub(crate) const RECORD_MAX: usize = HEADER_LEN + BODY_MAX;
/// Most received bytes that may wait for the rest of a handshake message.
pub(super) const PENDING_MAX: usize = 4 * RECORD_MAX;
