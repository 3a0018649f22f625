//! What a server stores of its leases, so that clients get their addresses back after a restart.
//!
//! The records of [`PAGES`] blocks of addresses are stored as pages, each under a key of its own: a server writes the few
//! pages that have changed, and a write that a crash interrupts leaves the page before.
//!
//! A record has the hash of the client's token, so whoever reads the store gets nobody's address by it. It has no time of
//! day: a hold is counted on a clock that stands still while the server is down, so a clock that is set changes nothing.

use super::Token;
use crate::source::Source;
use sha3::{Digest, Sha3_256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The number of pages, which bounds what is stored.
pub const PAGES: u16 = 256;

/// The most records of a page: the leased addresses and those that were returned last.
pub(super) const PAGE_RECORDS: usize = 4096;

const MAGIC: [u8; 4] = *b"VPNL";
const VERSION: u8 = 1;
const HEADER: usize = MAGIC.len() + 1;
const RECORD: usize = 4 + 16 + 16 + 8;
const CHECKSUM: usize = 8;

/// Later times are no times of a pool: some 146 years.
const TIME_END: u64 = 1 << 62;

/// The hash of a token: it recognises the token, and nobody can make the token of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenHash(pub(super) [u8; 16]);

impl TokenHash {
    pub(super) fn of(token: &Token) -> TokenHash {
        TokenHash(hash(b"token", token))
    }

    /// A number for hash tables; as good as random.
    pub(super) fn number(&self) -> u64 {
        u128::from_le_bytes(self.0) as u64
    }
}

fn hash<const N: usize>(what: &[u8], bytes: &[u8]) -> [u8; N] {
    let full: [u8; 32] =
        Sha3_256::new().chain_update(b"vpn lease ").chain_update(what).chain_update(bytes).finalize().into();
    std::array::from_fn(|at| full[at])
}

/// A leased or kept address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) addr: Ipv4Addr,
    pub(super) token: TokenHash,
    pub(super) source: Source,
    /// When it was returned, in nanoseconds on the pool's clock; `None` while it is leased.
    pub(super) returned: Option<u64>,
}

/// Why a stored page cannot be read.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// Something else is stored there.
    #[error("it has {0} bytes and is no page of leases; expected one that begins with VPNL")]
    Foreign(usize),
    /// A later version of this library has stored it.
    #[error("it is a page of version {0}; expected version {VERSION}")]
    Version(u8),
    /// It is not whole.
    #[error("it has {0} bytes; expected {min} and {RECORD} for each lease", min = HEADER + CHECKSUM)]
    Length(usize),
    /// It is damaged.
    #[error("its checksum does not match")]
    Checksum,
    /// Its checksum matches, and yet no pool has stored it.
    #[error("a lease in it has no valid time")]
    Time,
}

/// Returns the bytes of a page with these records.
pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + records.len() * RECORD + CHECKSUM);
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    for Record { addr, token, source, returned } in records {
        bytes.extend(addr.octets());
        bytes.extend(token.0);
        bytes.extend(source.address().octets());
        bytes.extend(returned.unwrap_or(0).to_le_bytes());
    }
    let checksum: [u8; CHECKSUM] = hash(b"page", &bytes);
    bytes.extend(checksum);
    bytes
}

/// Returns the bytes of a page without leases.
pub fn empty_page() -> Vec<u8> {
    encode(&[])
}

/// Reads a page.
pub(super) fn decode(page: &[u8]) -> Result<Vec<Record>, PageError> {
    let Some(body) = page.strip_prefix(&MAGIC) else { return Err(PageError::Foreign(page.len())) };
    match body.first() {
        Some(&VERSION) => {}
        Some(other) => return Err(PageError::Version(*other)),
        None => return Err(PageError::Length(page.len())),
    }
    let Some((body, checksum)) = page.split_last_chunk::<CHECKSUM>() else {
        return Err(PageError::Length(page.len()));
    };
    if *checksum != hash(b"page", body) {
        return Err(PageError::Checksum);
    }
    let Some((records, [])) = body.get(HEADER..).map(<[u8]>::as_chunks::<RECORD>) else {
        return Err(PageError::Length(page.len()));
    };
    records.iter().map(read).collect()
}

fn read(bytes: &[u8; RECORD]) -> Result<Record, PageError> {
    fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
        std::array::from_fn(|at| bytes[from + at])
    }
    let returned = u64::from_le_bytes(part(bytes, 36));
    if returned >= TIME_END {
        return Err(PageError::Time);
    }
    Ok(Record {
        addr: Ipv4Addr::from(part::<4>(bytes, 0)),
        token: TokenHash(part(bytes, 4)),
        source: Source::of(IpAddr::V6(Ipv6Addr::from(part::<16>(bytes, 20)))),
        returned: (returned != 0).then_some(returned),
    })
}

/// A set of pages, from which they are taken in turn: a page that changes all the time keeps no other from its turn.
#[derive(Debug, Default)]
pub(super) struct PageSet {
    pages: std::collections::BTreeSet<u16>,
    next: u16,
}

impl PageSet {
    pub(super) fn add(&mut self, page: u16) {
        self.pages.insert(page);
    }

    pub(super) fn take(&mut self) -> Option<u16> {
        let page = *self.pages.range(self.next..).next().or_else(|| self.pages.first())?;
        self.pages.remove(&page);
        self.next = page + 1;
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let returned = prop_oneof![Just(None), (1..TIME_END).prop_map(Some)];
        (any::<u32>(), any::<[u8; 16]>(), any::<u128>(), any::<bool>(), returned).prop_map(
            |(addr, token, from, is_ipv4, returned)| {
                let from = if is_ipv4 { IpAddr::V4((from as u32).into()) } else { IpAddr::V6(from.into()) };
                Record { addr: addr.into(), token: TokenHash(token), source: Source::of(from), returned }
            },
        )
    }

    proptest! {
        #[test]
        fn a_page_comes_back(records in prop::collection::vec(record(), 0..200)) {
            prop_assert_eq!(decode(&encode(&records)), Ok(records));
        }

        #[test]
        fn a_damaged_page_is_noticed(
            records in prop::collection::vec(record(), 0..10),
            at in any::<prop::sample::Index>(),
            bit in 0_u32..8,
            cut in any::<prop::sample::Index>(),
        ) {
            let page = encode(&records);
            let mut damaged = page.clone();
            damaged[at.index(page.len())] ^= 1_u8 << bit;
            prop_assert!(decode(&damaged).is_err());
            prop_assert!(decode(&page[..cut.index(page.len())]).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(page in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&page).is_err());
            let _ = decode(&[MAGIC.as_slice(), &page].concat());
            let _ = decode(&[MAGIC.as_slice(), &[VERSION], &page].concat());
        }
    }

    #[test]
    fn an_error_says_what_was_found() {
        let page = encode(&[]);
        let with = |change: fn(&mut Vec<u8>)| {
            let mut page = page.clone();
            change(&mut page);
            decode(&page).unwrap_err().to_string()
        };
        assert!(decode(b"hello").unwrap_err().to_string().starts_with("it has 5 bytes and is no page of leases"));
        assert_eq!(with(|page| page[4] = 9), "it is a page of version 9; expected version 1");
        assert_eq!(with(|page| page[5] ^= 1), "its checksum does not match");
        assert_eq!(with(|page| page.truncate(6)), "it has 6 bytes; expected 13 and 44 for each lease");
        let mut odd = [&page[..HEADER], &[0; 7]].concat();
        odd.extend(hash::<CHECKSUM>(b"page", &odd));
        assert_eq!(decode(&odd), Err(PageError::Length(20)));
        let late = Record {
            addr: [10, 0, 0, 2].into(),
            token: TokenHash([1; 16]),
            source: Source::of([192, 0, 2, 1].into()),
            returned: Some(TIME_END),
        };
        assert_eq!(decode(&encode(&[late])), Err(PageError::Time));
    }

    #[test]
    fn pages_take_turns() {
        let mut pages = PageSet::default();
        [3, 200, 7].into_iter().for_each(|page| pages.add(page));
        assert_eq!(pages.take(), Some(3));
        pages.add(3);
        assert_eq!([pages.take(), pages.take(), pages.take(), pages.take()], [Some(7), Some(200), Some(3), None]);
    }
}
