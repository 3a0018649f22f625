//! The node's TLS identity: a self-signed certificate in the state directory, created on the first run.
//!
//! The key is the identity: clients pin the hash of its SubjectPublicKeyInfo, and the certificate only carries it.

use crate::config::Config;
use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Once;

use crate::state::{self, StateDir, StateError};

/// Why the files of the identity cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum IdentityError {
    /// The state directory or a file of the identity cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file has invalid contents. It is never overwritten: restore it, or remove both files of the identity to create
    /// a new one, which clients then have to accept.
    #[error("{path}: {reason}; restore it, or remove identity.key and identity.crt to create a new identity")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The error in its contents.
        reason: String,
    },
    /// A key or a certificate cannot be created.
    #[error("cannot create an identity: {0}")]
    Generate(#[from] rcgen::Error),
}

/// The node's certificate and key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) spki: Vec<u8>,
}

/// Serialises the first run within this process; the files serialise processes.
static FIRST_RUN: Mutex<()> = Mutex::new(());

const KEY: &str = "identity.key";
const CERTIFICATE: &str = "identity.crt";

/// Loads the identity from `config`'s state directory; creates it if there is none.
pub(crate) fn load(config: &Config) -> Result<Identity, IdentityError> {
    let directory = state::open(config)?;
    let _first_run = FIRST_RUN.lock();
    let mut warnings = Vec::new();
    let mode = directory.mode();
    if mode & 0o077 != 0 {
        let path = directory.path().display();
        warnings.push(format!("{path}: other users have access (mode {mode:04o}); expected 0700"));
    }
    let corrupt = |name: &str, reason: &str| corrupt(&directory, name, reason);
    if read(&directory, KEY, &mut warnings)?.is_none() {
        if read(&directory, CERTIFICATE, &mut warnings)?.is_some() {
            return Err(corrupt(CERTIFICATE, "the certificate's key, identity.key, is missing"));
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        create(&directory, KEY, &key.serialize_pem())?;
    }
    let key_pem = read(&directory, KEY, &mut warnings)?.unwrap_or_default();
    let pair = KeyPair::from_pem(&key_pem).map_err(|error| corrupt(KEY, &error.to_string()))?;
    if read(&directory, CERTIFICATE, &mut warnings)?.is_none() {
        create(&directory, CERTIFICATE, &certificate(&pair)?)?;
    }
    let certificate_pem = read(&directory, CERTIFICATE, &mut warnings)?.unwrap_or_default();
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|error| corrupt(CERTIFICATE, &format!("not a PEM certificate ({error:?})")))?;
    let spki = pair.subject_public_key_info();
    if certificate_spki(&certificate).map_err(|error| corrupt(CERTIFICATE, &error.to_string()))? != spki {
        return Err(corrupt(CERTIFICATE, "the certificate belongs to another key than identity.key"));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| corrupt(KEY, &format!("not a PEM private key ({error:?})")))?;
    static WARN: Once = Once::new();
    if !warnings.is_empty() {
        WARN.call_once(|| warnings.iter().for_each(|warning| log::warn!("{warning}")));
    }
    Ok(Identity { certificate, key, spki })
}

/// SHA-256 of the identity's SubjectPublicKeyInfo, which a client pins.
pub fn identity_fingerprint(config: &Config) -> Result<[u8; 32], IdentityError> {
    Ok(fingerprint(&load(config)?.spki))
}

/// The identity's SubjectPublicKeyInfo, DER (RFC 5280, 4.1).
pub fn identity_spki(config: &Config) -> Result<Vec<u8>, IdentityError> {
    Ok(load(config)?.spki)
}

/// The identity's private key, PKCS #8.
pub(crate) fn identity_key(config: &Config) -> Result<PrivateKeyDer<'static>, IdentityError> {
    Ok(load(config)?.key)
}

/// "sha256:" and 64 hexadecimal digits, as in `[vpn_client] server_pin`.
///
/// ```
/// use embedded::tls::fingerprint_text;
///
/// let text = fingerprint_text(&[0xab; 32]);
/// assert_eq!(text, format!("sha256:{}", "ab".repeat(32)));
/// ```
pub fn fingerprint_text(fingerprint: &[u8; 32]) -> String {
    let mut text = String::from("sha256:");
    for byte in fingerprint {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(crate) fn fingerprint(spki: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki).as_ref());
    hash
}

pub(crate) fn certificate_spki(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, rustls::Error> {
    Ok(ParsedCertificate::try_from(certificate)?.subject_public_key_info().as_ref().to_vec())
}

fn certificate(key: &KeyPair) -> Result<String, IdentityError> {
    let mut params = CertificateParams::new(vec!["cellframe-vpn".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "cellframe-vpn");
    Ok(params.self_signed(key)?.pem())
}

/// Reads a file; None if there is none. Only the operator changes the directory's mode, because other programs of the
/// operator may use the directory; a file that others have access to is closed to them.
fn read(directory: &StateDir, name: &str, warnings: &mut Vec<String>) -> Result<Option<String>, IdentityError> {
    let Some((mut file, open_mode)) = directory.open_file(name)? else { return Ok(None) };
    let path = directory.path_of(name);
    if let Some(mode) = open_mode {
        warnings.push(format!(
            "{}: other users have access to the private key (mode {mode:04o}); expected 0600, set now; if another user \
             has read it, remove both files to get a new identity",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| StateError::File { path, source })?;
    String::from_utf8(bytes).map(Some).map_err(|_| corrupt(directory, name, "not a text file"))
}

/// Makes a file. One that another process has just made stays.
fn create(directory: &StateDir, name: &str, text: &str) -> Result<(), StateError> {
    match directory.create_text(name, text) {
        Err(error) if error.is_exists() => Ok(()),
        result => result,
    }
}

fn corrupt(directory: &StateDir, name: &str, reason: &str) -> IdentityError {
    IdentityError::Corrupt { path: directory.path_of(name), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn config(directory: &Path) -> Config {
        Config::parse(&format!("[general]\nstate_dir={}\n", directory.display()), "test").0
    }

    #[test]
    fn it_is_made_once_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let config = config(&state);
        let first = identity_fingerprint(&config).unwrap();
        assert_eq!(identity_fingerprint(&config).unwrap(), first);
        for name in ["identity.key", "identity.crt"] {
            assert_eq!(fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 2, "a draft was left");
        // The key is the identity: a lost certificate is created again for the same key.
        fs::remove_file(state.join("identity.crt")).unwrap();
        assert_eq!(identity_fingerprint(&config).unwrap(), first);
        assert!(fingerprint_text(&first).len() == 71);
    }

    #[test]
    fn a_key_that_others_can_read_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let config = config(&state);
        let first = identity_fingerprint(&config).unwrap();
        let key = state.join(KEY);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for open in [0o640, 0o604, 0o666] {
            fs::set_permissions(&key, Permissions::from_mode(open)).unwrap();
            let mut warnings = Vec::new();
            read(&state::open(&config).unwrap(), KEY, &mut warnings).unwrap();
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(key.to_str().unwrap()) && warnings[0].contains("0600"), "{warnings:?}");
            assert_eq!(mode(&key), 0o600);
        }
        fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(identity_fingerprint(&config).unwrap(), first);
        assert_eq!((mode(&key), mode(&state)), (0o600, 0o755));
    }

    #[test]
    fn corrupt_files_are_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        identity_fingerprint(&config).unwrap();
        for name in ["identity.key", "identity.crt"] {
            let path = directory.path().join(name);
            let good = fs::read(&path).unwrap();
            for bad in [&b""[..], b"-----BEGIN nonsense", b"\xff\xfe"] {
                fs::write(&path, bad).unwrap();
                let error = identity_fingerprint(&config).unwrap_err();
                assert!(matches!(&error, IdentityError::Corrupt { path: named, .. } if *named == path), "{error}");
                assert_eq!(fs::read(&path).unwrap(), bad);
            }
            fs::write(&path, good).unwrap();
        }
        let other = tempfile::tempdir().unwrap();
        identity_fingerprint(&self::config(other.path())).unwrap();
        fs::copy(other.path().join("identity.crt"), directory.path().join("identity.crt")).unwrap();
        let error = identity_fingerprint(&config).unwrap_err().to_string();
        assert!(error.contains("another key"), "{error}");
        fs::remove_file(directory.path().join("identity.key")).unwrap();
        let error = identity_fingerprint(&config).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
