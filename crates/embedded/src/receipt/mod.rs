//! Keys, signatures and receipts of paid service.
//!
//! A signature has the Cellframe SDK's layout. Two kinds of keys sign: the node's own, an ECDSA key on P-256, whose
//! public key stands in a signature as SubjectPublicKeyInfo, so that the hash of the node's key is that of its
//! certificate; and a wallet's, an Ed25519 key of 32 bytes.

mod key;
mod signature;

use crate::config::{self, Config};
use crate::tls;
use parking_lot::Mutex;
use std::sync::Arc;

pub use key::{Key, KeyError};
pub(crate) use signature::length;
pub use signature::{SIGNATURE_LEN, WALLET_SIGNATURE_LEN, key_hash, verify};

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
    use vpn_core::wire::{Receipt, ReceiptInfo};

    #[test]
    fn receipts_have_the_sizes_of_the_sdk() {
        let (server, client, wallet) =
            (Key::generate().unwrap(), Key::generate().unwrap(), Key::generate_wallet().unwrap());
        let info = ReceiptInfo { srv_uid: 1, units_type: 2, version: 2, units: 20, ..ReceiptInfo::default() };
        let issued = server.issue(&info).unwrap();
        assert_eq!(issued.len(), 3419);
        for (client, len) in [(client, 6725), (wallet, 3529)] {
            let signed = client.add_to(&issued).unwrap();
            assert_eq!(signed.len(), len);
            let receipt = Receipt::parse(&signed).unwrap();
            assert_eq!((&receipt.info, receipt.signatures.len()), (&info, 2));
            for (signature, key) in receipt.signatures.iter().zip([&server, &client]) {
                assert!(verify(signature, receipt.signed));
                assert_eq!(key_hash(signature), Some(key.hash()));
            }
        }
    }
}
