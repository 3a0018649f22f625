//! The received bytes of a connection while they are opened in place.

/// Received bytes while they are opened: plain text, then free space, then cipher text.
///
/// Plain text is shorter than its cipher text, so it always fits between the two.
pub(crate) struct Window<'a> {
    /// All bytes up to the last one received.
    pub(crate) bytes: &'a mut [u8],
    /// The end of the plain text, where more is appended.
    pub(crate) plain_end: usize,
    /// The start of the unopened bytes; at least `plain_end`.
    pub(crate) cipher_begin: usize,
}
