//! The VPN orders of a network, and whether their nodes are available.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::sdk::net::Net;

/// Returns the state of the node with an address: 1 available, 0 not available, anything else unknown.
pub(crate) type StateCallback = Arc<dyn Fn(u64) -> i32 + Send + Sync>;

static STATE: Mutex<Option<StateCallback>> = Mutex::new(None);

/// Sets the callback that returns a node's state; `None` for no callback.
pub(crate) fn set_state_callback(callback: Option<StateCallback>) {
    *STATE.lock() = callback;
}

/// The text format of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFormat {
    /// "0x" and hex digits.
    Hex,
    /// Base58, Bitcoin's alphabet.
    Base58,
}

impl HashFormat {
    /// Parses "hex" or "base58".
    pub(crate) fn parse(text: &str) -> Option<HashFormat> {
        match text {
            "hex" => Some(HashFormat::Hex),
            "base58" => Some(HashFormat::Base58),
            _ => None,
        }
    }

    fn write(self, hash: &[u8; 32]) -> String {
        match self {
            HashFormat::Hex => hash.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02X}")),
            HashFormat::Base58 => bs58::encode(hash).into_string(),
        }
    }
}

/// Returns a line for each order.
pub(crate) fn report(net: &Net, format: HashFormat) -> String {
    net.orders().into_iter().map(|order| line(&format.write(&order.hash), order.node)).collect()
}

fn line(hash: &str, node: u64) -> String {
    // The callback belongs to C and may replace itself: not under the lock.
    let state = STATE.lock().clone();
    match state.map(|state| state(node)) {
        None => format!("Order {hash}\n"),
        Some(1) => format!("Order {hash}: State Available\n"),
        Some(0) => format!("Order {hash}: State Not available\n"),
        Some(_) => format!("Order {hash}: State Unknown\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{HashFormat, line, set_state_callback};

    #[test]
    fn a_state_callback_may_replace_itself() {
        set_state_callback(Some(Arc::new(|node| {
            set_state_callback(None);
            node as i32
        })));
        assert_eq!(line("0xAB", 1), "Order 0xAB: State Available\n");
        assert_eq!(line("0xAB", 1), "Order 0xAB\n");
    }

    #[test]
    fn hashes() {
        assert_eq!(HashFormat::Hex.write(&[0xAB; 32]), format!("0x{}", "AB".repeat(32)));
        assert_eq!(HashFormat::Base58.write(&[0; 32]), "1".repeat(32));
        assert_eq!(HashFormat::parse("Hex"), None);
    }
}
