//! Hashes as people, the configuration and the node's commands write them.

use std::fmt;

/// The hash of a key, an order or a transaction; displayed as `0x` and 64 hexadecimal digits in upper case.
///
/// ```
/// use vpn_core::wire::{HashText, parse_hash};
///
/// let text = HashText(&[0xAB; 32]).to_string();
/// assert_eq!(text, format!("0x{}", "AB".repeat(32)));
/// assert_eq!(parse_hash(&text[2..]), Some([0xAB; 32]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HashText<'a>(pub &'a [u8; 32]);

impl fmt::Display for HashText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// Reads a hash of 64 hexadecimal digits, which the SDK writes behind `0x`.
pub fn parse_hash(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        // Lossless: two digits are below 256.
        *byte = (value(pair[0])? * 16 + value(pair[1])?) as u8;
    }
    Some(hash)
}
