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
    /// Returns the known VPN orders, or only those that sell.
    fn orders(&self, net: &Net, selling_only: bool) -> Vec<Order>;
    /// Returns the fees of a transaction.
    fn fees(&self, net: &Net) -> Fees;
    /// Returns the hash of a wallet's public key; `None` if the wallet cannot be opened.
    fn key_hash(&self, wallet: &str) -> Option<[u8; 32]>;
    /// Signs with a wallet's key; returns the signature with its header.
    fn sign(&self, wallet: &str, data: &[u8]) -> Option<Vec<u8>>;
    /// Makes a conditional transaction that pays the VPN service; `None` on failure.
    fn pay(&self, net: &Net, purchase: &Purchase) -> Option<TxHash>;
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

/// The embedded SDK has neither a ledger nor wallets; a program that has can lend its own.
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

impl Bank for SdkBank {
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

    fn pay(&self, net: &Net, purchase: &Purchase) -> Option<TxHash> {
        let Purchase { value, fee, unit, .. } = *purchase;
        let (wallet, token) = (CString::new(&*purchase.wallet).ok()?, CString::new(&*purchase.token).ok()?);
        let mut hash = [0; 32];
        // SAFETY: a network of the node, NUL-terminated texts, 32 bytes are written.
        let made = unsafe {
            let hash = hash.as_mut_ptr();
            raw::vpn_glue_wallet_pay(net.raw(), wallet.as_ptr(), token.as_ptr(), value, fee, unit, hash)
        };
        made.then_some(hash)
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
                    token: ticker(&view.token),
                })
            }
            raw::TX_SPENT => Chain::Spent,
            code => {
                debug_assert_eq!(code, raw::TX_UNKNOWN);
                Chain::Unknown
            }
        }
    }
}

fn ticker(text: &[c_char; 16]) -> String {
    let bytes = text.map(c_char::cast_unsigned);
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
