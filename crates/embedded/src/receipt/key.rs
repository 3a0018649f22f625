//! The keys that sign receipts: the node's, on P-256, and those of wallets, Ed25519.

use super::signature::{ECDSA, ECDSA_KEY_LEN, ED25519_KIND, SIGNATURE_LEN, WALLET_SIGNATURE_LEN, lay_out};
use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use sha3::{Digest, Sha3_256};
use std::fmt;
use std::sync::Arc;
use vpn_core::wire::{Receipt, ReceiptInfo};

/// A key pair that signs receipts. A clone is the same key.
#[derive(Clone)]
pub struct Key {
    pair: Pair,
    /// The public key as it stands in signatures.
    public: Vec<u8>,
}

#[derive(Clone)]
enum Pair {
    Ecdsa(Arc<EcdsaKeyPair>),
    Ed25519(Arc<Ed25519KeyPair>),
}

/// A key cannot be made or used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not a private key of the expected kind")]
pub struct KeyError;

impl Key {
    /// Makes a new key of the kind that a node has.
    pub fn generate() -> Result<Key, KeyError> {
        Self::ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError)?)
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Key, KeyError> {
        Self::ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| KeyError)?)
    }

    fn ecdsa(pair: EcdsaKeyPair) -> Result<Key, KeyError> {
        let public = pair.public_key().as_der().map_err(|_| KeyError)?.as_ref().to_vec();
        let is_good = public.len() == ECDSA_KEY_LEN;
        is_good.then(|| Key { pair: Pair::Ecdsa(Arc::new(pair)), public }).ok_or(KeyError)
    }

    /// Makes a new key of the kind that a wallet has.
    pub fn generate_wallet() -> Result<Key, KeyError> {
        Ok(Self::ed25519(Ed25519KeyPair::generate().map_err(|_| KeyError)?))
    }

    /// Makes the private key of a new wallet (PKCS #8, RFC 8410).
    pub fn new_wallet_pkcs8() -> Result<Vec<u8>, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyError)?;
        Ok(document.as_ref().to_vec())
    }

    /// Makes a wallet's key out of its private key (PKCS #8, RFC 8410).
    pub fn wallet_from_pkcs8(der: &[u8]) -> Result<Key, KeyError> {
        Ok(Self::ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError)?))
    }

    fn ed25519(pair: Ed25519KeyPair) -> Key {
        let public = pair.public_key().as_ref().to_vec();
        Key { pair: Pair::Ed25519(Arc::new(pair)), public }
    }

    /// Returns the SHA3-256 of the public key: a wallet's address.
    pub fn hash(&self) -> [u8; 32] {
        Sha3_256::digest(&self.public).into()
    }

    /// Returns the SHA-256 of the public key, which a client pins: the authority that a wallet's instructions name.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.public).as_ref());
        hash
    }

    /// Signs a message. The result is [`SIGNATURE_LEN`] bytes long, that of a wallet [`WALLET_SIGNATURE_LEN`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(match &self.pair {
            Pair::Ecdsa(pair) => {
                let raw = pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError)?;
                lay_out(ECDSA, &self.public, raw.as_ref(), SIGNATURE_LEN)
            }
            Pair::Ed25519(pair) => {
                let raw = pair.try_sign(message).map_err(|_| KeyError)?;
                lay_out(ED25519_KIND, &self.public, raw.as_ref(), WALLET_SIGNATURE_LEN)
            }
        })
    }

    /// Adds this key's signature behind a receipt.
    pub fn add_to(&self, receipt: &[u8]) -> Result<Vec<u8>, KeyError> {
        let info = receipt.get(1..1 + ReceiptInfo::LEN).ok_or(KeyError)?;
        Ok(Receipt::append_signature(receipt, &self.sign(info)?))
    }

    /// Returns a receipt that says `info`, signed by this key.
    pub fn issue(&self, info: &ReceiptInfo) -> Result<Vec<u8>, KeyError> {
        self.add_to(&Receipt::unsigned(info))
    }
}

/// The private part stays out of logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}
