//! The rates that are sold: what a session may send and receive, by key and by order.

use std::collections::HashMap;

use crate::sdk::config::{BadValue, Config};
use vpn_core::queue::Rate;
use vpn_core::wire::parse_hash;

const SECTION: &str = "srv_vpn";
const ORDERS: &str = "order_limits";
const EXPECTED: &str = "a list of 0x<64 hexadecimal digits>:<down>:<up> in kbit/s, each order once";
/// The largest limit, in kbit/s.
const MOST: i64 = 1_000_000_000;
/// The bytes of a kilobit.
const KILOBIT: u64 = 125;

/// A session's limits; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionRates {
    pub(crate) down: Option<Rate>,
    pub(crate) up: Option<Rate>,
}

impl SessionRates {
    fn of_kilobits(down: u64, up: u64) -> SessionRates {
        let rate =
            |kilobits: u64| (kilobits != 0).then_some(Rate { bytes_per_second: kilobits.saturating_mul(KILOBIT) });
        SessionRates { down: rate(down), up: rate(up) }
    }
}

/// The limits of all sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    otherwise: SessionRates,
    by_order: HashMap<[u8; 32], SessionRates>,
}

impl Rates {
    /// Reads `limit_down`, `limit_up` and `order_limits`.
    pub(super) fn read(config: &Config) -> Result<Rates, BadValue> {
        let number = |key| config.checked_number(SECTION, key, 0..=MOST, 0).map(i64::unsigned_abs);
        let otherwise = SessionRates::of_kilobits(number("limit_down")?, number("limit_up")?);
        let mut by_order = HashMap::new();
        for (order, rates) in config.checked_list(SECTION, ORDERS, EXPECTED, entry)? {
            if by_order.insert(order, rates).is_some() {
                return Err(BadValue::new(SECTION, ORDERS, &config.list(SECTION, ORDERS).join(","), EXPECTED));
            }
        }
        Ok(Rates { otherwise, by_order })
    }

    /// Whether no session has a limit.
    pub(super) fn is_empty(&self) -> bool {
        self.otherwise == SessionRates::default() && self.by_order.is_empty()
    }

    /// Whether the limits depend on the order.
    pub(super) fn has_orders(&self) -> bool {
        !self.by_order.is_empty()
    }

    /// Says in the log which limits sessions have; nothing without any.
    pub(super) fn say(&self) {
        if self.is_empty() {
            return;
        }
        let kilobits = |rate: Option<Rate>| match rate {
            Some(Rate { bytes_per_second }) => format!("{} kbit/s", bytes_per_second / KILOBIT),
            None => "any rate".into(),
        };
        let SessionRates { down, up } = self.otherwise;
        let (down, up, orders) = (kilobits(down), kilobits(up), self.by_order.len());
        log::info!("sessions have {down} down and {up} up; {orders} orders have limits of their own");
    }

    /// Returns the limits of a session with this order.
    pub(super) fn of(&self, order: Option<&[u8; 32]>) -> SessionRates {
        order.and_then(|order| self.by_order.get(order)).copied().unwrap_or(self.otherwise)
    }
}

/// Reads an order's entry.
fn entry(text: &str) -> Option<([u8; 32], SessionRates)> {
    let mut parts = text.split(':');
    let (hash, down, up) = (parts.next()?, parts.next()?, parts.next()?);
    let order = parse_hash(hash.strip_prefix("0x")?)?;
    if parts.next().is_some() {
        return None;
    }
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| is_plain && *number <= MOST).map(i64::unsigned_abs)
    };
    Some((order, SessionRates::of_kilobits(number(down)?, number(up)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_an_order_and_two_numbers() {
        let hash = format!("0x{}", "aB".repeat(32));
        let rates = SessionRates { down: Some(Rate { bytes_per_second: 500_000 }), up: None };
        assert_eq!(entry(&format!("{hash}:4000:0")), Some(([0xab; 32], rates)));
        let (short, long) = (&hash[..64], format!("{hash}ab"));
        for bad in [
            String::new(),
            hash.clone(),
            format!("{hash}:1"),
            format!("{hash}:1:2:3"),
            format!("{hash}:-1:2"),
            format!("{hash}:+1:2"),
            format!("{hash}::2"),
            format!("{hash}:1:1000000001"),
            format!("{short}:1:2"),
            format!("{long}:1:2"),
            format!("{}:1:2", &hash[2..]),
            format!("0x{}:1:2", "ag".repeat(32)),
        ] {
            assert_eq!(entry(&bad), None, "{bad}");
        }
    }

    #[test]
    fn an_order_without_an_entry_has_the_limits_of_all() {
        let (all, one) = (SessionRates::of_kilobits(8, 16), SessionRates::of_kilobits(0, 1));
        let rates = Rates { otherwise: all, by_order: HashMap::from([([1; 32], one)]) };
        assert_eq!([rates.of(None), rates.of(Some(&[2; 32])), rates.of(Some(&[1; 32]))], [all, all, one]);
    }
}
