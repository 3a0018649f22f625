//! The price list: `[srv_vpn] prices` has the orders that this node sells in the network of `[srv_vpn] net`.
//!
//! An entry reads `3600 s for 1.5 CELL`: units, unit, price, token. Its order's hash is made of these and of the network,
//! so that a client can name it, whenever the server starts and whatever else the list has.

use crate::config::{BadValue, Config};
use crate::ledger::{self, Hash, OpenError, Order, VPN_UID};
use crate::net::{self, NetRef};
use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};
use std::fmt;
use vpn_core::money::Amount;
use vpn_core::wire::{HashText, unit};

/// The section of the list.
pub(crate) const SECTION: &str = "srv_vpn";
const KEY: &str = "prices";
/// Most entries of a list: a client gets all of them.
const ENTRIES_MAX: usize = 64;
/// Most seconds and bytes of one receipt: a year, a pebibyte.
const SECONDS_MAX: u64 = 366 * 86_400;
const BYTES_MAX: u64 = 1 << 50;
/// Clients count datoshi in 64 bits, the largest of which stands for more.
const VALUE_MAX: u128 = u64::MAX as u128 - 1;

/// The units that an entry may name. Decimal and binary prefixes differ, and K alone is neither.
const UNITS: [(&str, u32, u64); 14] = [
    ("s", unit::SECONDS, 1),
    ("min", unit::SECONDS, 60),
    ("h", unit::SECONDS, 3600),
    ("d", unit::SECONDS, 86_400),
    ("B", unit::BYTES, 1),
    ("kB", unit::BYTES, 1000),
    ("MB", unit::BYTES, 1_000_000),
    ("GB", unit::BYTES, 1_000_000_000),
    ("TB", unit::BYTES, 1_000_000_000_000),
    ("KiB", unit::BYTES, 1 << 10),
    ("MiB", unit::BYTES, 1 << 20),
    ("GiB", unit::BYTES, 1 << 30),
    ("TiB", unit::BYTES, 1 << 40),
    ("PiB", unit::BYTES, 1 << 50),
];

/// An entry of the list: an order, and where it is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The network's name.
    pub net: &'static str,
    /// The order's hash.
    pub hash: Hash,
    /// The order.
    pub order: Order,
}

/// Says what is sold, and by which name a client asks for it.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { unit, units, value, token, .. } = &self.order;
        let unit = if *unit == unit::SECONDS { "s" } else { "B" };
        let (price, hash) = (Amount(*value), HashText(&self.hash));
        write!(f, "{units} {unit} for {price} {token} in {}, order {hash}", self.net)
    }
}

/// Reads the list of a configuration; an error names the entry that cannot be read.
pub fn read(config: &Config) -> Result<Vec<Price>, BadValue> {
    let entries = config.get_list(SECTION, KEY);
    let Some(name) = config.get_str(SECTION, "net").filter(|_| !entries.is_empty()) else { return Ok(Vec::new()) };
    sold(&entries, &name).or_else(|expected| match config.bad_value(SECTION, KEY, expected) {
        Some(error) => Err(error),
        // Without the key there are no entries.
        None => Ok(Vec::new()),
    })
}

/// Returns what entries sell in the network of this name, or what is expected in place of them.
fn sold(entries: &[String], name: &str) -> Result<Vec<Price>, String> {
    let net = net::find_by_name(name)
        .ok_or_else(|| format!("[{SECTION}] net, where it is sold, to be one of [networks] names, not {name:?}"))?;
    if entries.len() > ENTRIES_MAX {
        return Err(format!("at most {ENTRIES_MAX} entries"));
    }
    let mut prices: Vec<Price> = Vec::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        let place = || format!("entry {} ({entry:?}) to be", number + 1);
        let order = parse(entry, net).map_err(|expected| format!("{} {expected}", place()))?;
        let price = Price { net: net.name(), hash: hash(net.id(), &order), order };
        if let Some(first) = prices.iter().position(|other| other.hash == price.hash) {
            return Err(format!("{} another offer than entry {}", place(), first + 1));
        }
        prices.push(price);
    }
    Ok(prices)
}

/// Why a price list is not sold.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error(transparent)]
    Config(#[from] BadValue),
    /// Nothing can be paid.
    #[error("nothing can be sold without a ledger: {0}")]
    Ledger(#[from] OpenError),
}

impl LoadError {
    /// Returns whether a key is the reason.
    pub fn is_configuration(&self) -> bool {
        matches!(self, LoadError::Config(_))
    }
}

/// Sells the list of a configuration in the place of the one before. Who sells keeps a ledger on the disk.
pub(crate) fn load(config: &Config) -> Result<(), LoadError> {
    /// What is sold.
    static LOADED: Mutex<Vec<(u64, Hash)>> = Mutex::new(Vec::new());
    let prices = read(config)?;
    if !prices.is_empty() {
        ledger::open()?;
    }
    let mut loaded = LOADED.lock();
    for (net, hash) in loaded.drain(..) {
        ledger::remove_order(net, &hash);
    }
    for Price { net, hash, order } in prices {
        let Some(net) = net::find_by_name(net) else { continue };
        ledger::add_order_as(net.id(), hash, order);
        loaded.push((net.id(), hash));
    }
    Ok(())
}

/// Returns whether a configuration gives the VPN away in the free order: unless it says so itself, if it sells nothing.
pub(crate) fn allows_free(config: &Config, section: &str) -> bool {
    let sells = section == SECTION && !config.get_list(SECTION, KEY).is_empty();
    config.get_bool(section, "allow_free_srv", true) && (!sells || config.is_written(section, "allow_free_srv"))
}

/// Returns how long the SDK's billing serves a client before its payment, in seconds.
pub(crate) fn grace_period(config: &Config, section: &str) -> u32 {
    config.get_u64(section, "grace_period", 60).try_into().unwrap_or(u32::MAX)
}

/// Returns the order of an entry, or what is expected in its place.
fn parse(entry: &str, net: NetRef) -> Result<Order, String> {
    let words: Vec<&str> = entry.split_ascii_whitespace().collect();
    let [count, name, "for", value, token] = words[..] else {
        return Err("UNITS UNIT for PRICE TOKEN, such as 3600 s for 1.5 CELL".into());
    };
    let known = || UNITS.map(|(name, ..)| name).join(", ");
    let (unit, size) = UNITS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, unit, size)| (*unit, *size))
        .ok_or_else(|| format!("in one of the units {}, not {name:?}", known()))?;
    let most = if unit == unit::SECONDS { SECONDS_MAX } else { BYTES_MAX };
    let is_number = count.bytes().all(|digit| digit.is_ascii_digit());
    let units = count.parse::<u64>().ok().filter(|_| is_number).and_then(|count| count.checked_mul(size));
    let units = units
        .filter(|units| (1..=most).contains(units))
        .ok_or_else(|| format!("of a whole number of {name} from 1 to {}, not {count:?}", most / size))?;
    let Amount(value) = value.parse().map_err(|error| format!("at a price ({error})"))?;
    if !(1..=VALUE_MAX).contains(&value) {
        return Err(format!("at a price of at least {} and at most {} {token}", Amount(1), Amount(VALUE_MAX)));
    }
    let native = net.native_ticker();
    if token != native {
        return Err(format!("in {native}, the own token of network {}, not in {token}", net.name()));
    }
    Ok(Order { unit, units, value, token: token.to_owned(), is_ours: true })
}

fn hash(net: u64, order: &Order) -> Hash {
    let mut hash = Sha3_256::new();
    hash.update(b"vpn order");
    for number in [net, VPN_UID, order.unit.into(), order.units] {
        hash.update(number.to_le_bytes());
    }
    hash.update(order.value.to_le_bytes());
    hash.update(order.token.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(prices: &str) -> Config {
        Config::parse(&format!("[srv_vpn]\nprices={prices}\n"), "test.cfg").0
    }

    fn refused(prices: &str) -> String {
        read(&list(prices)).unwrap_err().to_string()
    }

    #[test]
    fn a_list_says_what_is_sold() {
        let prices =
            read(&list("[3600 s for 1.5 CELL,\n 1 GB for 0.5 CELL, 2 MiB for 0.000000000000000001 CELL]")).unwrap();
        let sold: Vec<_> =
            prices.iter().map(|price| (price.order.unit, price.order.units, price.order.value)).collect();
        assert_eq!(
            sold,
            [
                (unit::SECONDS, 3600, 1_500_000_000_000_000_000),
                (unit::BYTES, 1_000_000_000, 500_000_000_000_000_000),
                (unit::BYTES, 2 << 20, 1)
            ]
        );
        let text = prices[0].to_string();
        assert!(text.starts_with("3600 s for 1.5 CELL in backbone, order 0x") && text.len() == 41 + 64, "{text}");
        // One entry without brackets; none at all.
        assert_eq!(read(&list("1 d for 2 CELL")).unwrap()[0].order.units, 86_400);
        assert_eq!(read(&Config::empty()), Ok(vec![]));
        assert_eq!(read(&list("[]")), Ok(vec![]));
    }

    /// Clients name it in their configurations.
    #[test]
    fn the_hash_is_of_the_offer_alone() {
        let hashes = |prices| read(&list(prices)).unwrap().into_iter().map(|price| price.hash).collect::<Vec<_>>();
        let [hour] = hashes("[1 h for 1 CELL]")[..] else { unreachable!() };
        assert_eq!(hashes("[1 GB for 1 CELL, 3600  s for 1.00 CELL]")[1], hour);
        let hex: String = hour.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "abde65a3303489b1365acf281aa12a0d79227553533b27839d43e6526ca96374");
        let mut others = hashes("[1 h for 2 CELL, 2 h for 1 CELL, 3600 B for 1 CELL]");
        others.push(hour);
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), 4);
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (entry, expected) in [
            ("3600 s 1 CELL", "UNITS UNIT for PRICE TOKEN"),
            ("3600 s for 1 CELL please", "UNITS UNIT for PRICE TOKEN"),
            ("1 KB for 1 CELL", "in one of the units s, min, h, d, B, kB, MB"),
            ("0 s for 1 CELL", "of a whole number of s from 1 to 31622400, not \"0\""),
            ("-1 s for 1 CELL", "of a whole number of s from 1"),
            ("+1 s for 1 CELL", "of a whole number of s from 1"),
            ("1.5 h for 1 CELL", "of a whole number of h from 1 to 8784"),
            ("367 d for 1 CELL", "of a whole number of d from 1 to 366"),
            ("99999999999999999999 B for 1 CELL", "of a whole number of B from 1"),
            ("1 s for -1 CELL", "at a price (expected a number of tokens"),
            ("1 s for 1,5 CELL", "UNITS UNIT for PRICE TOKEN"),
            ("1 s for 0 CELL", "at a price of at least 0.000000000000000001"),
            ("1 s for 18.5 CELL", "and at most 18.446744073709551614 CELL"),
            ("1 s for 1 KEL", "in CELL, the own token of network backbone, not in KEL"),
        ] {
            let error = refused(&format!("[1 h for 1 CELL, {entry}]"));
            assert!(error.starts_with("test.cfg: [srv_vpn] prices = [1 h for 1 CELL,"), "{error}");
            assert!(error.contains(": expected entry 2 (") && error.contains(expected), "{entry}: {error}");
        }
        let error = refused("[1 h for 1 CELL, 1 d for 1 CELL, 60 min for 1.0 CELL]");
        assert!(
            error.ends_with("expected entry 3 (\"60 min for 1.0 CELL\") to be another offer than entry 1"),
            "{error}"
        );
        let many: Vec<String> = (1..=65).map(|units| format!("{units} s for 1 CELL")).collect();
        assert!(refused(&format!("[{}]", many.join(","))).ends_with("expected at most 64 entries"));
        let elsewhere = Config::parse("[srv_vpn]\nnet=nowhere\nprices=1 h for 1 CELL\n", "test.cfg").0;
        let error = read(&elsewhere).unwrap_err().to_string();
        assert!(error.ends_with("to be one of [networks] names, not \"nowhere\""), "{error}");
    }

    #[test]
    fn who_sells_gives_nothing_away_but_by_its_own_word() {
        let allows = |text: &str| allows_free(&Config::parse(text, "test.cfg").0, "srv_vpn");
        assert!(allows(""));
        assert!(allows("[srv_vpn]\nprices=[]\n"));
        assert!(!allows("[srv_vpn]\nprices=1 h for 1 CELL\n"));
        assert!(allows("[srv_vpn]\nprices=1 h for 1 CELL\nallow_free_srv=true\n"));
        assert!(!allows("[srv_vpn]\nallow_free_srv=false\n"));
    }
}
