//! Signatures in the Cellframe SDK's layout, `dap_sign_t`: a header of 14 bytes, the public key, the signature itself.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use sha3::{Digest, Sha3_256};

/// The length of an ECDSA signature with its header and key: that of the SDK's usual ones, which tests that play the
/// SDK need.
pub const SIGNATURE_LEN: usize = 3306;
/// The length of an Ed25519 signature with its header and key.
pub const WALLET_SIGNATURE_LEN: usize = HEADER_LEN + 32 + RAW_LEN;
pub(super) const HEADER_LEN: usize = 14;
/// The SDK's number for ECDSA. Padding follows the signature itself.
pub(super) const ECDSA: u32 = 0x0105;
/// This project's number for Ed25519, which the SDK does not have. Nothing follows the signature itself.
pub(super) const ED25519_KIND: u32 = 0xed25;
/// A hash takes the key's place.
const HASHED_KEY: u8 = 0x80;
/// How SubjectPublicKeyInfo of a key on P-256 begins (RFC 5480); the uncompressed point follows.
const KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The length of an ECDSA key: the prefix and the point.
pub(super) const ECDSA_KEY_LEN: usize = KEY_PREFIX.len() + 65;
/// r and s, or R and S.
const RAW_LEN: usize = 64;

/// Lays out a signature of `len` bytes in all, with zeros behind.
pub(super) fn lay_out(kind: u32, key: &[u8], raw: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    // Lossless: both are far below 4 GiB.
    out.extend_from_slice(&((len - HEADER_LEN - key.len()) as u32).to_le_bytes());
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(raw);
    out.resize(len, 0);
    out
}

/// A signature's parts.
struct Parts<'a> {
    kind: u32,
    hash_type: u8,
    key: &'a [u8],
    raw: &'a [u8],
}

fn parts(signature: &[u8]) -> Option<Parts<'_>> {
    let (header, rest) = signature.split_first_chunk::<HEADER_LEN>()?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (raw_len, key_len) = (number(6) as usize, number(10) as usize);
    let (key, raw) = rest.split_at_checked(key_len)?;
    (raw.len() == raw_len).then_some(Parts { kind: number(0), hash_type: header[4], key, raw })
}

/// Returns the length of the signature that begins with this header; `None` if it is longer than memory can be.
pub(crate) fn length(header: &[u8; HEADER_LEN]) -> Option<usize> {
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    HEADER_LEN.checked_add(number(6))?.checked_add(number(10))
}

/// Returns whether a signature is of this message by the key in it.
pub fn verify(signature: &[u8], message: &[u8]) -> bool {
    let Some(parts) = parts(signature).filter(|parts| parts.hash_type & HASHED_KEY == 0) else { return false };
    let Some((raw, padding)) = parts.raw.split_at_checked(RAW_LEN) else { return false };
    match parts.kind {
        ECDSA if parts.key.len() == ECDSA_KEY_LEN && padding.iter().all(|byte| *byte == 0) => {
            let point = parts.key.strip_prefix(&KEY_PREFIX);
            point.is_some_and(|point| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, raw).is_ok()
            })
        }
        ED25519_KIND if signature.len() == WALLET_SIGNATURE_LEN => {
            UnparsedPublicKey::new(&ED25519, parts.key).verify(message, raw).is_ok()
        }
        _ => false,
    }
}

/// Returns the hash of the key in a signature. As with the SDK's signatures, a signer may put a hash in the key's
/// place, any hash, and then that is the result: [`verify`] refuses such a signature.
pub fn key_hash(signature: &[u8]) -> Option<[u8; 32]> {
    let parts = parts(signature)?;
    if parts.hash_type & HASHED_KEY != 0 {
        return parts.key.try_into().ok();
    }
    Some(Sha3_256::digest(parts.key).into())
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;

    const MESSAGE: &[u8] = b"a message";

    fn keys() -> [(Key, usize); 2] {
        [(Key::generate().unwrap(), SIGNATURE_LEN), (Key::generate_wallet().unwrap(), WALLET_SIGNATURE_LEN)]
    }

    #[test]
    fn a_signature_is_of_its_message_and_its_key() {
        for (key, len) in keys() {
            let good = key.sign(MESSAGE).unwrap();
            assert_eq!((good.len(), length(good.first_chunk().unwrap())), (len, Some(len)));
            assert!(verify(&good, MESSAGE) && !verify(&good, b"another one"));
            assert_eq!(key_hash(&good), Some(key.hash()));
            // Every part counts: kind, hash type, key, signature, padding.
            let raw = len.min(HEADER_LEN + ECDSA_KEY_LEN + RAW_LEN) - RAW_LEN;
            for at in [0, 4, 20, raw, raw + RAW_LEN / 2, len - 1] {
                let mut bad = good.clone();
                bad[at] ^= if at == 4 { HASHED_KEY } else { 1 };
                assert!(!verify(&bad, MESSAGE), "byte {at} of {len}");
            }
            for len in [0, HEADER_LEN - 1, HEADER_LEN, raw, len - 1] {
                assert!(!verify(&good[..len], MESSAGE) && key_hash(&good[..len]).is_none(), "{len} bytes");
            }
        }
    }

    #[test]
    fn a_wallets_signature_has_one_form() {
        let key = Key::generate_wallet().unwrap();
        let good = key.sign(MESSAGE).unwrap();
        assert_eq!(good[..14], [0x25, 0xed, 0, 0, 0, 0, 64, 0, 0, 0, 32, 0, 0, 0]);
        assert_eq!(key.sign(MESSAGE).unwrap(), good);
        // Neither padding behind, nor another split between key and signature.
        let padded = lay_out(ED25519_KIND, &good[14..46], &good[46..], WALLET_SIGNATURE_LEN + 1);
        let shifted = lay_out(ED25519_KIND, &good[14..45], &good[45..], WALLET_SIGNATURE_LEN);
        assert!(!verify(&padded, MESSAGE) && !verify(&shifted, MESSAGE));
        // The kinds are not exchanged.
        let renamed = lay_out(ECDSA, &good[14..46], &good[46..], WALLET_SIGNATURE_LEN);
        assert!(!verify(&renamed, MESSAGE));
    }

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn ed25519_is_that_of_the_standard() {
        let bytes = |text: &str| -> Vec<u8> {
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        };
        let key = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let raw = bytes(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert!(verify(&lay_out(ED25519_KIND, &key, &raw, WALLET_SIGNATURE_LEN), &[0x72]));
    }

    #[test]
    fn a_hash_in_the_keys_place_is_believed_but_verifies_nothing() {
        for kind in [ECDSA, ED25519_KIND] {
            let mut made_up = Vec::new();
            made_up.extend_from_slice(&kind.to_le_bytes());
            made_up.extend_from_slice(&[HASHED_KEY, 0, 0, 0, 0, 0, 32, 0, 0, 0]);
            made_up.extend_from_slice(&[7; 32]);
            assert_eq!(key_hash(&made_up), Some([7; 32]));
            assert!(!verify(&made_up, MESSAGE));
            made_up[6] = 64;
            made_up.extend_from_slice(&[0; 64]);
            assert!(!verify(&made_up, MESSAGE));
        }
    }
}
