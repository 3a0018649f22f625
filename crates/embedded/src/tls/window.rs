//! The bytes of a connection that are being opened, where they were received.

/// Received bytes while they are opened: plain text, anything, cipher text.
///
/// Plain text is shorter than its cipher text, so it always finds room between the two.
pub(crate) struct Window<'a> {
    /// Up to the last byte received.
    pub(crate) bytes: &'a mut [u8],
    /// Where the plain text ends; more of it is put there.
    pub(crate) plain_end: usize,
    /// What has not been opened; not before `plain_end`.
    pub(crate) cipher_begin: usize,
}
