//! The means of payment for paid service: a wallet, a token and a value, kept in the store.

use crate::sdk::net::Net;
use crate::sdk::store::{self, StoreError};
use crate::sdk::wallet;

/// `local.` and `DAP_CHAIN_NET_SRV_VPN_CDB_GDB_PREFIX`.
const GROUP: &str = "local.srv.vpn";

/// The user's choice; `None` for each value that is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The wallet's name.
    pub wallet: Option<String>,
    /// The token's ticker.
    pub token: Option<String>,
    /// The value in datoshi.
    pub value: Option<u64>,
}

/// Why the purchase failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalletError {
    /// The wallet does not exist or cannot be opened.
    #[error("wallet \"{0}\" cannot be opened")]
    Closed(String),
    /// The choice cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The conditional transaction cannot be created.
    #[error("no conditional transaction of {value} datoshi {token}: not enough funds")]
    Funds {
        /// The token.
        token: String,
        /// The value.
        value: u64,
    },
}

/// Stores the choice and creates the conditional transaction that pays for the service.
pub(crate) fn update(net: &Net, name: &str, token: &str, value: u64) -> Result<(), WalletError> {
    if !wallet::exists(name) {
        return Err(WalletError::Closed(name.to_owned()));
    }
    store::set(GROUP, "wallet_name", &terminated(name))?;
    store::set(GROUP, "token_name", &terminated(token))?;
    store::set(GROUP, "value_datoshi", &value.to_ne_bytes())?;
    let hash = wallet::conditional_transaction(net, name, token, value)
        .ok_or_else(|| WalletError::Funds { token: token.to_owned(), value })?;
    store::set(GROUP, "client_tx_cond_hash", &hash)?;
    Ok(())
}

/// Returns the last choice.
pub(crate) fn chosen() -> Chosen {
    let text = |key| {
        let value = store::get(GROUP, key)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        String::from_utf8(value[..end].to_vec()).ok()
    };
    let value = store::get(GROUP, "value_datoshi").and_then(|value| value.try_into().ok()).map(u64::from_ne_bytes);
    Chosen { wallet: text("wallet_name"), token: text("token_name"), value }
}

/// Appends the NUL that the SDK's own code expects.
fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
