//! Which server the client accepts: the one with the configured key (`[vpn_client] server_pin`), else the first one
//! seen at that address (trust on first use, kept in the store).

use super::identity::{certificate_spki, fingerprint, fingerprint_text};
use crate::config::Config;
use crate::store::{self, StoreError};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};
use std::sync::Arc;
use vpn_core::names;

/// The store's group of known servers: key "host:port", value the 32 bytes of the fingerprint.
pub const PINS: &str = "local.vpn_client.pins";

/// Why the expected key cannot be determined.
#[derive(thiserror::Error, Debug)]
pub enum PinError {
    /// Invalid pin.
    #[error("[vpn_client] server_pin={0}: expected sha256: and 64 hexadecimal digits")]
    Syntax(String),
    /// The store of known servers cannot be read.
    #[error("the known servers cannot be read: {0}")]
    Store(#[from] StoreError),
}

/// The server key that the client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The configuration names the key.
    Configured([u8; 32]),
    /// The store has the key from the first connection to this address.
    Known([u8; 32]),
    /// No key is known yet: any is accepted.
    Anyone,
}

impl Expected {
    fn accepts(&self, seen: &[u8; 32]) -> bool {
        match self {
            Expected::Configured(wanted) | Expected::Known(wanted) => wanted == seen,
            Expected::Anyone => true,
        }
    }
}

/// Reads `[vpn_client] server_pin`; None if it is not set.
pub fn configured(config: &Config) -> Result<Option<[u8; 32]>, PinError> {
    match config.get_str("vpn_client", "server_pin") {
        Some(text) => parse(&text).map(Some).ok_or(PinError::Syntax(text)),
        // A list is no text, and is there.
        None if config.kind("vpn_client", "server_pin").is_some() => Err(PinError::Syntax("[...]".into())),
        None => Ok(None),
    }
}

/// The expected key of the server at `address` ("host:port").
pub fn expected(config: &Config, address: &str) -> Result<Expected, PinError> {
    if let Some(pin) = configured(config)? {
        return Ok(Expected::Configured(pin));
    }
    keep_one_spelling()?;
    match store::get(PINS, address)? {
        None => Ok(Expected::Anyone),
        Some(pin) => Ok(known_fingerprint(&pin)),
    }
}

/// Moves what earlier versions stored under a name as the user typed it to the name's one spelling, so that no spelling
/// is trusted anew. Two spellings with different keys become a value that matches neither key.
fn keep_one_spelling() -> Result<(), StoreError> {
    for (key, value) in store::list(PINS)? {
        let Some(name) = names::of_key(&key).filter(|name| *name != key) else { continue };
        match store::get(PINS, &name)? {
            None => store::set(PINS, &name, &value)?,
            Some(known) if known == value => {}
            Some(known) => {
                log::error!(
                    "server {name} is known as {key} too, with another identity: expected {}, or {}; it is refused until \
                     the right one is named ([vpn_client] server_pin, or --pin)",
                    text_of(&known),
                    text_of(&value)
                );
                store::set(PINS, &name, &[known, value].concat())?;
            }
        }
        store::delete(PINS, &key)?;
        log::info!("the known server {key} is kept as {name}");
    }
    Ok(())
}

fn text_of(value: &[u8]) -> String {
    <[u8; 32]>::try_from(value).map_or_else(|_| "several".to_owned(), |pin| fingerprint_text(&pin))
}

/// The key in the store. A value of another length matches no key: the server is refused until the value is deleted.
fn known_fingerprint(value: &[u8]) -> Expected {
    Expected::Known(<[u8; 32]>::try_from(value).unwrap_or_default())
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    let mut pin = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        let &[high, low] = pair else { return None };
        *byte = u8::try_from(nibble(high)? * 16 + nibble(low)?).ok()?;
    }
    Some(pin)
}

/// Verifies the server of one connection.
#[derive(Debug)]
pub struct PinVerifier {
    address: String,
    expected: Expected,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    fingerprint: Option<[u8; 32]>,
    refused: bool,
}

impl PinVerifier {
    /// A verifier for the server at `address` ("host:port").
    pub fn new(address: String, expected: Expected) -> Arc<Self> {
        Arc::new(PinVerifier { address, expected, provider: super::provider(), seen: Mutex::default() })
    }

    /// True if the server has shown an unexpected key; the log then says both. For what speaks this protocol alone: the
    /// key of anything else, such as a network's sign-in page, is no server's.
    pub fn tells_refusal(&self) -> bool {
        let Seen { fingerprint, refused } = *self.seen.lock();
        if let Some(seen) = fingerprint.filter(|_| refused) {
            self.tell(&self.expected, &seen);
        }
        refused
    }

    /// The fingerprint of the key that the server has shown; `None` before that.
    pub(crate) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.seen.lock().fingerprint
    }

    /// Stores the key of a server that was unknown. Call it when the handshake is complete, that is, when the server
    /// has proven that it has the key. Returns false if another connection has meanwhile stored another key: this
    /// server is refused.
    pub fn remember(&self) -> Result<bool, StoreError> {
        let seen = self.seen.lock().fingerprint;
        let (Expected::Anyone, Some(seen)) = (self.expected, seen) else { return Ok(true) };
        let accepted = match store::set_if_absent(PINS, &self.address, &seen)? {
            None => {
                log::info!(
                    "first connection to server {}: its identity {} is now pinned",
                    self.address,
                    fingerprint_text(&seen)
                );
                true
            }
            Some(known) => {
                let known = known_fingerprint(&known);
                let accepted = known.accepts(&seen);
                if !accepted {
                    self.tell(&known, &seen);
                }
                accepted
            }
        };
        self.seen.lock().refused = !accepted;
        Ok(accepted)
    }

    /// Says in the log that a key was refused.
    fn tell(&self, expected: &Expected, seen: &[u8; 32]) {
        let (wanted, accept) = match expected {
            Expected::Anyone => return,
            Expected::Configured(wanted) => (wanted, "put the new one into [vpn_client] server_pin".to_owned()),
            Expected::Known(wanted) => (
                wanted,
                format!(
                    "if the change of {} is intended, name the new one ([vpn_client] server_pin, or --pin), or remove \
                     store.redb in the state directory to forget all known servers",
                    self.address
                ),
            ),
        };
        log::error!(
            "server {} showed an unexpected identity: expected {}, seen {}; if the change is intended, {accept}",
            self.address,
            fingerprint_text(wanted),
            fingerprint_text(seen),
        );
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = fingerprint(&certificate_spki(end_entity)?);
        let accepted = self.expected.accepts(&seen);
        *self.seen.lock() = Seen { fingerprint: Some(seen), refused: !accepted };
        if accepted {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held by a test that sets the process-wide configuration.
    static CONFIG: Mutex<()> = Mutex::new(());

    #[test]
    fn pins_are_read_strictly() {
        let good = format!("sha256:{}", "0aF9".repeat(16));
        assert_eq!(parse(&good).unwrap()[..2], [0x0a, 0xf9]);
        for bad in ["", "sha256:", &good[7..], &good[..70], &format!("{good}0"), &good.replace('F', "g")] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let config = Config::parse("[vpn_client]\nserver_pin=sha256:12\n", "test").0;
        let error = configured(&config).unwrap_err().to_string();
        assert!(error.contains("[vpn_client] server_pin=sha256:12"), "{error}");
    }

    /// Two connections dial before either knows the server: the second must not replace the key that the first has
    /// stored.
    #[test]
    fn the_first_key_stays() {
        let _config = CONFIG.lock();
        let directory = tempfile::tempdir().unwrap();
        let text = format!("[general]\nstate_dir={}\n", directory.path().display());
        crate::config::set_current(Config::parse(&text, "test").0);
        let verifier = |seen| {
            let verifier = PinVerifier::new("first-use:1".into(), Expected::Anyone);
            verifier.seen.lock().fingerprint = Some([seen; 32]);
            verifier
        };
        assert!(verifier(1).remember().unwrap());
        let second = verifier(2);
        assert!(!second.remember().unwrap() && second.tells_refusal());
        assert!(verifier(1).remember().unwrap());
        assert_eq!(store::get(PINS, "first-use:1").unwrap().unwrap(), [1; 32]);
        store::close();
    }

    /// What was known under another spelling stays known, and refuses what it refused.
    #[test]
    fn stored_names_become_one_spelling() {
        let _config = CONFIG.lock();
        let directory = tempfile::tempdir().unwrap();
        let text = format!("[general]\nstate_dir={}\n", directory.path().display());
        let config = Config::parse(&text, "test").0;
        crate::config::set_current(Config::parse(&text, "test").0);
        for (key, pin) in
            [("VPN.test:1", 1), ("vpn.test.:1", 1), ("[0:0::1]:1", 2), ("Two.test:1", 3), ("two.test:1", 4)]
        {
            store::set(PINS, key, &[pin; 32]).unwrap();
        }
        assert_eq!(expected(&config, "vpn.test:1").unwrap(), Expected::Known([1; 32]));
        assert_eq!(expected(&config, "[::1]:1").unwrap(), Expected::Known([2; 32]));
        let Expected::Known(neither) = expected(&config, "two.test:1").unwrap() else { panic!("trusted anew") };
        assert!(neither != [3; 32] && neither != [4; 32]);
        let keys: Vec<_> = store::list(PINS).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["[::1]:1", "two.test:1", "vpn.test:1"]);
        store::close();
    }

    #[test]
    fn only_the_expected_key_is_accepted() {
        assert!(Expected::Anyone.accepts(&[1; 32]));
        assert!(Expected::Known([1; 32]).accepts(&[1; 32]));
        assert!(!Expected::Known([1; 32]).accepts(&[2; 32]));
        assert!(!Expected::Configured([1; 32]).accepts(&[2; 32]));
    }
}
