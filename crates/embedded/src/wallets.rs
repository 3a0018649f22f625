//! Wallets: Ed25519 keys, each in a file of its own in the state directory, `wallets/<name>.pem` (PKCS #8).
//!
//! A server's ledger says what a wallet owns, by its address: the hash of its public key. Whoever has the file can spend
//! that, and nobody else can.

use crate::config::Config;
use crate::receipt::Key;
use crate::state::{self, StateDir, StateError};
use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::io::{self, Read};
use std::path::PathBuf;
use vpn_core::wire::{HashText, parse_hash};

const DIRECTORY: &str = "wallets";
const SUFFIX: &str = ".pem";
/// The most bytes of a wallet's name.
const NAME_MAX: usize = 64;
/// A file has some 120.
const FILE_MAX: u64 = 4096;

/// Why a wallet cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The name could be mistaken for an address, or leads elsewhere.
    #[error(
        "expected a wallet's name of 1 to {NAME_MAX} letters, digits, dots, dashes or underscores that begins with a \
         letter, not {0:?}"
    )]
    Name(String),
    /// There is none.
    #[error("there is no wallet {name:?} ({}): make one with `cellframe-vpn wallet new {name}`", path.display())]
    Missing {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a wallet {name:?} already ({}); it stays as it is", path.display())]
    Exists {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// The state directory, or a file in it, cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is no wallet.
    #[error("{} is no wallet: expected an Ed25519 key in a PEM file: {reason}; restore it from a copy", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no random numbers.
    #[error("cannot make a key: the system gives no random numbers")]
    Generate,
    /// The key cannot be written as PEM.
    #[error("cannot write a key: {0}")]
    Encode(#[from] rcgen::Error),
}

/// Makes a wallet, and returns its key. The file is on the disk on return.
pub fn create(config: &Config, name: &str) -> Result<Key, WalletError> {
    let file = file_of(name)?;
    let der = Key::new_wallet_pkcs8().map_err(|_| WalletError::Generate)?;
    let key = Key::wallet_from_pkcs8(&der).map_err(|_| WalletError::Generate)?;
    let pem = KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), &PKCS_ED25519)?.serialize_pem();
    let place = state::open(config)?;
    let Some(directory) = place.subdirectory(DIRECTORY, true)? else {
        return Err(WalletError::Missing { name: name.to_owned(), path: place.path_of(DIRECTORY) });
    };
    match directory.create_text(&file, &pem) {
        Err(error) if error.is_exists() => {
            Err(WalletError::Exists { name: name.to_owned(), path: directory.path_of(&file) })
        }
        made => Ok(made.map(|()| key)?),
    }
}

/// Opens a wallet, and returns its key.
pub fn open(config: &Config, name: &str) -> Result<Key, WalletError> {
    let file = file_of(name)?;
    let place = state::open(config)?;
    let missing = |path| WalletError::Missing { name: name.to_owned(), path };
    let directory = place.subdirectory(DIRECTORY, false)?;
    let directory = directory.ok_or_else(|| missing(place.path_of(DIRECTORY).join(&file)))?;
    read(&directory, &file)?.ok_or_else(|| missing(directory.path_of(&file)))
}

/// Returns the names of the wallets, sorted.
pub fn list(config: &Config) -> Result<Vec<String>, WalletError> {
    let Some(directory) = state::open(config)?.subdirectory(DIRECTORY, false)? else { return Ok(Vec::new()) };
    let name = |file: String| file.strip_suffix(SUFFIX).map(str::to_owned).filter(|name| file_of(name).is_ok());
    Ok(directory.names()?.into_iter().filter_map(name).collect())
}

fn read(directory: &StateDir, file: &str) -> Result<Option<Key>, WalletError> {
    let path = directory.path_of(file);
    let corrupt = |reason: String| WalletError::Corrupt { path: path.clone(), reason };
    let Some(opened) = directory.open_secret(file)? else { return Ok(None) };
    let mut pem = Vec::new();
    let read = opened.take(FILE_MAX).read_to_end(&mut pem);
    read.map_err(|source: io::Error| StateError::File { path: path.clone(), source })?;
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| corrupt(format!("{error:?}")))?;
    Key::wallet_from_pkcs8(der.secret_der()).map(Some).map_err(|error| corrupt(error.to_string()))
}

fn file_of(name: &str) -> Result<String, WalletError> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if begins && name.len() <= NAME_MAX && name.bytes().all(is_good) {
        Ok(format!("{name}{SUFFIX}"))
    } else {
        Err(WalletError::Name(name.chars().take(NAME_MAX + 1).collect()))
    }
}

/// Writes the hash of a key as people see it: `0x` and 64 hexadecimal digits.
pub fn address_text(hash: &[u8; 32]) -> String {
    HashText(hash).to_string()
}

/// Reads an address.
pub fn parse_address(text: &str) -> Option<[u8; 32]> {
    text.strip_prefix("0x").and_then(parse_hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::verify;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn config(directory: &tempfile::TempDir) -> Config {
        Config::parse(&format!("[general]\nstate_dir={}/state", directory.path().display()), "test.cfg").0
    }

    #[test]
    fn a_wallet_is_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        assert_eq!(list(&config).unwrap(), Vec::<String>::new());
        let made = create(&config, "alice").unwrap();
        create(&config, "bob-2.x_").unwrap();
        let opened = open(&config, "alice").unwrap();
        assert_eq!(opened.hash(), made.hash());
        assert!(verify(&opened.sign(b"x").unwrap(), b"x"));
        // RFC 8410, without the public key behind, which other programs do not read.
        let pem = fs::read_to_string(directory.path().join("state/wallets/alice.pem")).unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{pem}");
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let begin = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        assert_eq!((der.secret_der().len(), &der.secret_der()[..16]), (48, begin.as_slice()));
        assert_ne!(open(&config, "bob-2.x_").unwrap().hash(), made.hash());
        assert_eq!(list(&config).unwrap(), ["alice", "bob-2.x_"]);
        let mode =
            |path: &str| fs::metadata(directory.path().join("state").join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("wallets"), mode("wallets/alice.pem")), (0o700, 0o600));
        // The second one of a name is refused, and the first one stays.
        let error = create(&config, "alice").unwrap_err();
        assert!(error.to_string().contains("a wallet \"alice\" already"), "{error}");
        assert_eq!(open(&config, "alice").unwrap().hash(), made.hash());
        let error = open(&config, "carol").unwrap_err();
        assert!(error.to_string().contains("make one with `cellframe-vpn wallet new carol`"), "{error}");
        state::close();
    }

    #[test]
    fn what_others_may_read_or_exchange_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        create(&config, "alice").unwrap();
        let wallets = directory.path().join("state/wallets");
        let file = wallets.join("alice.pem");
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            // Also at the second time: nothing is put right behind the owner's back.
            for _ in 0..2 {
                let error = open(&config, "alice").unwrap_err().to_string();
                assert!(error.contains(&format!("mode 0{mode:o}): expected 0600")), "{error}");
            }
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        open(&config, "alice").unwrap();
        symlink(&file, wallets.join("link.pem")).unwrap();
        assert!(matches!(open(&config, "link"), Err(WalletError::State(StateError::Kind { .. }))));
        fs::set_permissions(&wallets, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open(&config, "alice"), Err(WalletError::State(StateError::Open { .. }))));
        state::close();
    }

    #[test]
    fn what_is_no_wallet_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        for name in ["", ".", "..", "../x", "a/b", "0x12", "-x", "1st", "a b", "ä", &"n".repeat(65)] {
            assert!(matches!(create(&config, name), Err(WalletError::Name(_))), "{name}");
            assert!(matches!(open(&config, name), Err(WalletError::Name(_))), "{name}");
        }
        create(&config, "alice").unwrap();
        let file = directory.path().join("state/wallets/alice.pem");
        let other = KeyPair::generate().unwrap().serialize_pem();
        for text in ["", "garbage", &other, &other.repeat(100)] {
            fs::write(&file, text).unwrap();
            let error = open(&config, "alice").unwrap_err().to_string();
            assert!(error.contains("alice.pem is no wallet: expected an Ed25519 key"), "{error}");
        }
        state::close();
    }

    #[test]
    fn addresses_are_read_and_written() {
        let hash = [0xab; 32];
        let text = address_text(&hash);
        assert_eq!(text, format!("0x{}", "AB".repeat(32)));
        assert_eq!((parse_address(&text), parse_address(&text.to_lowercase())), (Some(hash), Some(hash)));
        for bad in ["", "0x", &text[2..], &text[..65], "alice"] {
            assert_eq!(parse_address(bad), None);
        }
    }
}
