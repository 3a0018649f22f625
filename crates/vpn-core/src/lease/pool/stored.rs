//! A pool over restarts: what is stored of it, and what it makes of that.

use super::super::record::{self, PAGE_RECORDS, PageError, Record};
use super::super::slots::{self, Slot, State};
use super::Pool;

/// What a pool has made of stored pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// How many addresses are kept for their clients again.
    pub kept: usize,
    /// How many are not: they are not in the subnet's range for clients, or reserved.
    pub unfit: usize,
    /// The pages that cannot be read. They are written anew with the next change in them.
    pub damaged: Vec<(u16, PageError)>,
}

impl Pool {
    /// Keeps the addresses in these pages, which a pool before has stored, for their clients; those that were leased then
    /// as if they had been returned now, after all others. A hold goes on where it was: the time between the two pools
    /// does not count. The pool must not have leased anything yet.
    pub fn restore(&mut self, pages: impl IntoIterator<Item = (u16, Vec<u8>)>) -> Restored {
        let mut restored = Restored::default();
        let mut found = Vec::new();
        for (page, bytes) in pages {
            match record::decode(&bytes) {
                Ok(records) => found.extend(records.into_iter().map(|record| (page, record))),
                Err(error) => restored.damaged.push((page, error)),
            }
        }
        // An address that is in two pages, as after a change of the subnet, is the later one's.
        found.sort_by_key(|(_, Record { addr, returned, .. })| (returned.is_none(), *returned, *addr));
        for (page, Record { addr, token, source, returned }) in found {
            let host = self.subnet.number(addr).filter(|host| self.is_for_clients(*host));
            let place = host.map(slots::page);
            if returned.is_none() || place != Some(page) {
                self.changed.add(page);
                place.into_iter().for_each(|place| self.changed.add(place));
            }
            let Some(host) = host.filter(|host| !self.reserved.contains_key(host)) else {
                self.changed.add(page);
                restored.unfit += 1;
                continue;
            };
            if self.stop_keeping(host).is_some() {
                restored.kept -= 1;
            }
            restored.kept += 1;
            self.now = self.now.max(returned.unwrap_or(0));
            self.shares.lease(source);
            self.slots.set(host, Slot { token, source, state: State::Live { id: 0 } });
            self.index_token(host, token);
            self.keep(host, source);
        }
        self.began = self.now;
        restored
    }

    /// Returns a page with records that have changed since it was last returned, and its bytes. It is changed again if it
    /// cannot be stored ([`Pool::not_stored`]).
    pub fn next_changed(&mut self) -> Option<(u16, Vec<u8>)> {
        let page = self.changed.take()?;
        let record = |(host, slot): (u32, &Slot)| Record {
            addr: self.addr(host),
            token: slot.token,
            source: slot.source,
            returned: match slot.state {
                State::Held { returned, .. } => Some(returned),
                State::Live { .. } | State::Reserved => None,
            },
        };
        let of_page = self.slots.of_page(page).filter(|(host, _)| !self.reserved.contains_key(host));
        let mut records: Vec<_> = of_page.map(record).collect();
        if records.len() > PAGE_RECORDS {
            records.sort_by_key(|record| std::cmp::Reverse(record.returned.unwrap_or(u64::MAX)));
            records.truncate(PAGE_RECORDS);
        }
        Some((page, record::encode(&records)))
    }

    /// Returns a page to those that have changed.
    pub fn not_stored(&mut self, page: u16) {
        self.changed.add(page);
    }
}
