//! What paying needs of the SDK: orders, wallets, and the ledger.
//!
//! Each function blocks, on files or on the SDK's store: do not call it on a worker.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::sync::Arc;

use super::net::{Net, Order};
use super::{memory, raw};

/// The hash of a transaction.
pub type TxHash = [u8; 32];

/// A conditional transaction that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The wallet that pays.
    pub wallet: String,
    /// The token's ticker.
    pub token: String,
    /// The value in datoshi.
    pub value: u64,
    /// The validators' fee in datoshi, which every payment from it pays, too.
    pub fee: u64,
    /// One of [`unit`](vpn_core::wire::unit).
    pub unit: u32,
}

/// What the ledger knows of a conditional transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Nothing.
    Unknown,
    /// It has been spent, and nothing is left.
    Spent,
    /// Something is left.
    Open(Funds),
    /// The ledger cannot be asked at present; what it has is not known.
    Unavailable,
}

/// Whose ledger a network's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// No server is known whose ledger could be asked.
    None,
    /// The network has its own, which this node keeps.
    Network,
    /// That of the server whose key has this fingerprint.
    Server([u8; 32]),
}

/// Why a server's ledger cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The connection failed: an errno.
    #[error("it cannot be reached (errno {0})")]
    Connect(i32),
    /// The server refuses: a sentence.
    #[error("{0}")]
    Refused(String),
    /// The server does not answer, or not now: a sentence.
    #[error("{0}")]
    Busy(String),
}

/// What is left in a chain of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funds {
    /// The last transaction that the ledger has: the next payment spends it.
    pub last: TxHash,
    /// The hash of the public key that may spend it.
    pub key_hash: [u8; 32],
    /// What is left, in datoshi.
    pub value: u64,
    /// What a payment costs beside its value, in datoshi.
    pub fee: u64,
    /// The most that a unit may cost, in datoshi; 0 for no limit.
    pub unit_price_max: u64,
    /// One of [`unit`](vpn_core::wire::unit).
    pub unit: u32,
    /// The token's ticker.
    pub token: String,
}

/// The fees of a transaction, in datoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// The network's.
    pub network: u64,
    /// The least that the validators accept.
    pub validators: u64,
}

/// Orders, wallets and a ledger.
pub trait Bank: Send + Sync {
    /// Prepares the ledger of the server at host and port, where it is not the network's own.
    fn open(&self, _net: &Net, _server: (&str, u16)) -> Result<(), OpenError> {
        Ok(())
    }
    /// Returns whose ledger the network's is.
    fn ledger(&self, _net: &Net) -> Ledger {
        Ledger::Network
    }
    /// Returns the known VPN orders, or only those that sell.
    fn orders(&self, net: &Net, selling_only: bool) -> Vec<Order>;
    /// Returns the fees of a transaction.
    fn fees(&self, net: &Net) -> Fees;
    /// Returns the hash of a wallet's public key; `None` if the wallet cannot be opened.
    fn key_hash(&self, wallet: &str) -> Option<[u8; 32]>;
    /// Signs with a wallet's key; returns the signature with its header.
    fn sign(&self, wallet: &str, data: &[u8]) -> Option<Vec<u8>>;
    /// Makes a conditional transaction that pays the VPN service; on failure the reason, if the SDK tells one.
    fn pay(&self, net: &Net, purchase: &Purchase) -> Result<TxHash, Option<String>>;
    /// Takes back what is left of a transaction that is not used any more; returns whether that was possible.
    fn close(&self, _net: &Net, _wallet: &str, _tx: &TxHash) -> bool {
        false
    }
    /// Follows the chain of payments from a transaction.
    fn chain(&self, net: &Net, tx: &TxHash) -> Chain;
}

/// Returns the SDK's bank, or what takes its place.
pub fn bank() -> Arc<dyn Bank> {
    #[cfg(feature = "embedded")]
    if let Some(bank) = standin::BANK.read().clone() {
        return bank;
    }
    Arc::new(SdkBank)
}

#[cfg(feature = "embedded")]
pub use standin::set_bank;

/// A test that plays a node can lend a ledger and wallets of its own.
#[cfg(feature = "embedded")]
mod standin {
    use std::sync::Arc;

    use parking_lot::RwLock;

    use super::Bank;

    pub(super) static BANK: RwLock<Option<Arc<dyn Bank>>> = RwLock::new(None);

    /// Sets what takes the place of the SDK's bank; `None` for nothing.
    pub fn set_bank(bank: Option<Arc<dyn Bank>>) {
        *BANK.write() = bank;
    }
}

/// The linked SDK.
struct SdkBank;

/// A buffer for a sentence from C.
type Sentence = [c_char; 512];

impl Bank for SdkBank {
    fn open(&self, net: &Net, (host, port): (&str, u16)) -> Result<(), OpenError> {
        let Ok(host) = CString::new(host) else { return Err(OpenError::Connect(libc::ENOENT)) };
        let mut why: Sentence = [0; 512];
        // SAFETY: a network of the node; a NUL-terminated text; the buffer is writable for its length.
        match unsafe { raw::vpn_glue_ledger_open(net.raw(), host.as_ptr(), port, why.as_mut_ptr(), why.len()) } {
            0 => Ok(()),
            errno @ 1.. => Err(OpenError::Connect(errno)),
            -2 => Err(OpenError::Busy(text(&why))),
            _ => Err(OpenError::Refused(text(&why))),
        }
    }

    fn ledger(&self, net: &Net) -> Ledger {
        let mut server = [0; 32];
        // SAFETY: a network of the node; 32 bytes are writable.
        match unsafe { raw::vpn_glue_ledger_owner(net.raw(), server.as_mut_ptr()) } {
            raw::LEDGER_NETWORK => Ledger::Network,
            raw::LEDGER_SERVER => Ledger::Server(server),
            code => {
                debug_assert_eq!(code, raw::LEDGER_NONE);
                Ledger::None
            }
        }
    }

    fn orders(&self, net: &Net, selling_only: bool) -> Vec<Order> {
        net.orders(selling_only)
    }

    fn fees(&self, net: &Net) -> Fees {
        let mut fees = Fees::default();
        // SAFETY: a network of the node; both numbers are writable.
        unsafe { raw::vpn_glue_net_fees(net.raw(), &mut fees.network, &mut fees.validators) };
        fees
    }

    fn key_hash(&self, wallet: &str) -> Option<[u8; 32]> {
        let wallet = CString::new(wallet).ok()?;
        let mut hash = [0; 32];
        // SAFETY: NUL-terminated; 32 bytes are written.
        unsafe { raw::vpn_glue_wallet_key_hash(wallet.as_ptr(), hash.as_mut_ptr()) }.then_some(hash)
    }

    fn sign(&self, wallet: &str, data: &[u8]) -> Option<Vec<u8>> {
        let wallet = CString::new(wallet).ok()?;
        let mut size = 0;
        // SAFETY: NUL-terminated; data is read during the call; size is writable.
        let signature =
            unsafe { raw::vpn_glue_wallet_sign(wallet.as_ptr(), data.as_ptr().cast(), data.len(), &mut size) };
        // SAFETY: NULL, or `size` bytes of the SDK's allocator, which the caller owns.
        unsafe { memory::take(signature, size) }
    }

    fn pay(&self, net: &Net, purchase: &Purchase) -> Result<TxHash, Option<String>> {
        let Purchase { value, fee, unit, .. } = *purchase;
        let (Ok(wallet), Ok(token)) = (CString::new(&*purchase.wallet), CString::new(&*purchase.token)) else {
            return Err(None);
        };
        let (mut hash, mut why): ([u8; 32], Sentence) = ([0; 32], [0; 512]);
        // SAFETY: a network of the node, NUL-terminated texts; hash is writable for 32 bytes, why for its length.
        let made = unsafe {
            let (hash, why, size) = (hash.as_mut_ptr(), why.as_mut_ptr(), why.len());
            raw::vpn_glue_wallet_pay(net.raw(), wallet.as_ptr(), token.as_ptr(), value, fee, unit, hash, why, size)
        };
        if made { Ok(hash) } else { Err(Some(text(&why)).filter(|why| !why.is_empty())) }
    }

    fn close(&self, net: &Net, wallet: &str, tx: &TxHash) -> bool {
        let Ok(wallet) = CString::new(wallet) else { return false };
        // SAFETY: a network of the node, a NUL-terminated text; 32 bytes are read.
        unsafe { raw::vpn_glue_wallet_close(net.raw(), wallet.as_ptr(), tx.as_ptr()) }
    }

    fn chain(&self, net: &Net, tx: &TxHash) -> Chain {
        let mut view = MaybeUninit::uninit();
        // SAFETY: a network of the node; 32 bytes are read; view is writable.
        match unsafe { raw::vpn_glue_ledger_payments(net.raw(), tx.as_ptr(), view.as_mut_ptr()) } {
            raw::TX_OPEN => {
                // SAFETY: for TX_OPEN C has written the whole struct.
                let view = unsafe { view.assume_init() };
                Chain::Open(Funds {
                    last: view.hash,
                    key_hash: view.key_hash,
                    value: view.value,
                    fee: view.fee,
                    unit_price_max: view.unit_price_max,
                    unit: view.unit,
                    token: text(&view.token),
                })
            }
            raw::TX_SPENT => Chain::Spent,
            raw::TX_UNKNOWN => Chain::Unknown,
            code => {
                debug_assert_eq!(code, raw::TX_UNAVAILABLE);
                Chain::Unavailable
            }
        }
    }
}

fn text<const N: usize>(text: &[c_char; N]) -> String {
    let bytes = text.map(c_char::cast_unsigned);
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
