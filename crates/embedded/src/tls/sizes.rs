//! The lengths of the parts of TLS 1.3's records, and how much of them this end accepts (RFC 8446, 5).

/// Content type, version, length.
pub(super) const HEADER_LEN: usize = 5;
/// The same for each cipher of TLS 1.3.
pub(super) const TAG_LEN: usize = 16;
/// Most bytes of plain text in a record.
pub(super) const PLAIN_MAX: usize = 16 * 1024;
/// Most bytes behind a record's header.
pub(super) const BODY_MAX: usize = PLAIN_MAX + 256;
/// The longest record that this end accepts.
pub(crate) const RECORD_MAX: usize = HEADER_LEN + BODY_MAX;
/// Most received bytes that may wait for the rest of a handshake message.
pub(super) const PENDING_MAX: usize = 4 * RECORD_MAX;
