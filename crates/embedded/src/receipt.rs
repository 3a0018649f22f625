//! Keys, signatures and receipts of paid service.
//!
//! A signature has the Cellframe SDK's layout and, on the wire, the length of the SDK's usual ones. Its key is an ECDSA
//! key on P-256, as the node's own; the public key stands in it as SubjectPublicKeyInfo, so that the hash of the node's
//! key is that of its certificate.

use crate::config::{self, Config};
use crate::tls;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};
use std::sync::Arc;
use vpn_core::wire::{Receipt, ReceiptInfo};

/// The length of a signature with its header and key.
pub const SIGNATURE_LEN: usize = 3306;
const HEADER_LEN: usize = 14;
/// The SDK's number for ECDSA.
const KIND: u32 = 0x0105;
/// A hash takes the key's place.
const HASHED_KEY: u8 = 0x80;
/// How SubjectPublicKeyInfo of a key on P-256 begins (RFC 5480); the uncompressed point follows.
const KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const KEY_LEN: usize = KEY_PREFIX.len() + 65;
/// r and s.
const RAW_LEN: usize = 64;
/// Where a receipt's size stands in it.
const SIZE_AT: std::ops::Range<usize> = 97..105;

/// A key pair that signs receipts. A clone is the same key.
#[derive(Clone)]
pub struct Key {
    pair: Arc<EcdsaKeyPair>,
    public: Vec<u8>,
}

/// A key cannot be made or used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not a private key on P-256")]
pub struct KeyError;

impl Key {
    /// Makes a new key.
    pub fn generate() -> Result<Key, KeyError> {
        Self::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError)?)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Key, KeyError> {
        Self::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| KeyError)?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Key, KeyError> {
        let public = pair.public_key().as_der().map_err(|_| KeyError)?.as_ref().to_vec();
        if public.len() == KEY_LEN { Ok(Key { pair: Arc::new(pair), public }) } else { Err(KeyError) }
    }

    /// Returns the SHA3-256 of the public key.
    pub fn hash(&self) -> [u8; 32] {
        Sha3_256::digest(&self.public).into()
    }

    /// Signs a message. The result is [`SIGNATURE_LEN`] bytes long.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let raw = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError)?;
        let mut out = Vec::with_capacity(SIGNATURE_LEN);
        out.extend_from_slice(&KIND.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        // Lossless: both are far below 4 GiB.
        out.extend_from_slice(&((SIGNATURE_LEN - HEADER_LEN - KEY_LEN) as u32).to_le_bytes());
        out.extend_from_slice(&(KEY_LEN as u32).to_le_bytes());
        out.extend_from_slice(&self.public);
        out.extend_from_slice(raw.as_ref());
        out.resize(SIGNATURE_LEN, 0);
        Ok(out)
    }

    /// Adds this key's signature behind a receipt.
    pub fn add_to(&self, receipt: &[u8]) -> Result<Vec<u8>, KeyError> {
        let info = receipt.get(1..1 + ReceiptInfo::LEN).ok_or(KeyError)?;
        let mut out = receipt.to_vec();
        out.extend_from_slice(&self.sign(info)?);
        let size = out.len() as u64;
        out.get_mut(SIZE_AT).ok_or(KeyError)?.copy_from_slice(&size.to_le_bytes());
        Ok(out)
    }

    /// Returns a receipt that says `info`, signed by this key.
    pub fn issue(&self, info: &ReceiptInfo) -> Result<Vec<u8>, KeyError> {
        self.add_to(&Receipt::unsigned(info))
    }
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
    let Some(parts) = parts(signature) else { return false };
    if parts.kind != KIND || parts.hash_type & HASHED_KEY != 0 || parts.key.len() != KEY_LEN {
        return false;
    }
    let Some((raw, padding)) = parts.raw.split_at_checked(RAW_LEN) else { return false };
    let Some(point) = parts.key.strip_prefix(&KEY_PREFIX) else { return false };
    padding.iter().all(|byte| *byte == 0)
        && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, raw).is_ok()
}

/// Returns the hash of the key in a signature. As with the SDK's signatures, a signer may put a hash in the key's
/// place, any hash, and then that is the result.
pub fn key_hash(signature: &[u8]) -> Option<[u8; 32]> {
    let parts = parts(signature)?;
    if parts.hash_type & HASHED_KEY != 0 {
        return parts.key.try_into().ok();
    }
    Some(Sha3_256::digest(parts.key).into())
}

/// Returns the key that the node signs receipts with, that of its identity.
pub fn node_key() -> Option<Arc<Key>> {
    static KEY: Mutex<Option<(Arc<Config>, Arc<Key>)>> = Mutex::new(None);
    let config = config::current();
    let mut known = KEY.lock();
    if let Some((_, key)) = known.as_ref().filter(|(of, _)| Arc::ptr_eq(of, &config)) {
        return Some(Arc::clone(key));
    }
    let key = tls::identity_key(&config)
        .map_err(|error| error.to_string())
        .and_then(|key| Key::from_pkcs8(key.secret_der()).map_err(|error| error.to_string()))
        .inspect_err(|error| host::log_bounded!(Error, "the key that signs receipts: {error}"))
        .ok()?;
    let key = Arc::new(key);
    *known = Some((config, Arc::clone(&key)));
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"a message";

    #[test]
    fn a_signature_is_of_its_message_and_its_key() {
        let key = Key::generate().unwrap();
        let good = key.sign(MESSAGE).unwrap();
        assert_eq!((good.len(), length(good.first_chunk().unwrap())), (SIGNATURE_LEN, Some(SIGNATURE_LEN)));
        assert!(verify(&good, MESSAGE) && !verify(&good, b"another one"));
        assert_eq!(key_hash(&good), Some(key.hash()));
        // Every part counts: kind, hash type, key, signature, padding.
        for at in [0, 4, 20, HEADER_LEN + KEY_LEN, HEADER_LEN + KEY_LEN + RAW_LEN, SIGNATURE_LEN - 1] {
            let mut bad = good.clone();
            bad[at] ^= if at == 4 { HASHED_KEY } else { 1 };
            assert!(!verify(&bad, MESSAGE), "byte {at}");
        }
        for len in [0, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + KEY_LEN, SIGNATURE_LEN - 1] {
            assert!(!verify(&good[..len], MESSAGE) && key_hash(&good[..len]).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn a_hash_in_the_keys_place_is_believed_but_verifies_nothing() {
        let mut made_up = Vec::new();
        made_up.extend_from_slice(&KIND.to_le_bytes());
        made_up.extend_from_slice(&[HASHED_KEY, 0, 0, 0, 0, 0, 32, 0, 0, 0]);
        made_up.extend_from_slice(&[7; 32]);
        assert_eq!(key_hash(&made_up), Some([7; 32]));
        assert!(!verify(&made_up, MESSAGE));
    }

    #[test]
    fn receipts_have_the_sizes_of_the_sdk() {
        let (server, client) = (Key::generate().unwrap(), Key::generate().unwrap());
        let info = ReceiptInfo { srv_uid: 1, units_type: 2, version: 2, units: 20, ..ReceiptInfo::default() };
        let issued = server.issue(&info).unwrap();
        let signed = client.add_to(&issued).unwrap();
        assert_eq!((issued.len(), signed.len()), (3419, 6725));
        let receipt = Receipt::parse(&signed).unwrap();
        assert_eq!((&receipt.info, receipt.signatures.len()), (&info, 2));
        for (signature, key) in receipt.signatures.iter().zip([server, client]) {
            assert!(verify(signature, receipt.signed));
            assert_eq!(key_hash(signature), Some(key.hash()));
        }
    }
}
