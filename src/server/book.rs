//! The account book: an entry for each service, kept in the SDK's store, and read by `vpn_stat -history`.
//!
//! `billing` notes what happens to a service, and stores the pages on its thread before the rests of the same events:
//! after a kill the book has every payment whose units a client has.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use crate::sdk::net::Net;
use crate::sdk::{clock, store};
use vpn_core::book::{Book, Entry, Kind, Limits, PAGE_ENTRIES, PageError, Shelf, Sums};
use vpn_core::meter::{Client, PaymentId, Unit};

const GROUP: &str = "local.vpn_server.book";
/// The key of the number of pages that the store has of each shelf: two numbers of 4 bytes, little-endian.
const PAGES: &str = "pages";
/// The most pages of a shelf: twice what the configuration allows, for running services.
const PAGES_MAX: usize = 2 * 1_000_000 / PAGE_ENTRIES;
/// The most pages that are written in a second for changes that may wait.
const PAGES_PER_SECOND: usize = 16;
/// How many entries are copied in one go for `vpn_stat`.
const ENTRIES_AT_ONCE: usize = 256;
/// Why a service ended that ran when the process was killed.
const KILLED: &str = "the server was killed";

/// The book of a running service.
pub(super) struct AccountBook {
    /// `None` if the operator wants none.
    book: Option<Mutex<Book>>,
    /// The number of pages that the store has. The writer holds the lock.
    stored: Mutex<[usize; 2]>,
}

/// What `vpn_stat -history` shows.
pub(crate) struct History {
    /// The entries, the oldest first.
    pub(crate) entries: Vec<(u64, Entry)>,
    /// All that match, also those that the limit leaves out.
    pub(crate) sums: Sums,
    /// How many the limit leaves out.
    pub(crate) left_out: usize,
    /// The paid and the free ones that the book has no more.
    pub(crate) pushed_out: [Sums; 2],
}

/// Which entries are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Those of this network.
    pub(crate) net: Option<u64>,
    /// Those of clients whose key's hash begins with these hexadecimal digits.
    pub(crate) client: String,
    /// Those that ran at this time or later, in seconds since 1970.
    pub(crate) since: u64,
    /// The most entries: the newest.
    pub(crate) limit: usize,
}

/// What a running service has at this moment, which its entry has a little later.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    /// The bytes of inner packets from the client.
    pub(super) up: u64,
    /// The bytes of inner packets to the client.
    pub(super) down: u64,
    /// What the client had left of earlier payments at the begin; 0 if nothing is metered.
    pub(super) brought: u64,
    /// What it has left of that and of the session's payments.
    pub(super) left: u64,
}

impl AccountBook {
    /// Reads the book from the store, and ends the services that ran when the process was killed: `held` returns what
    /// the store has for a client.
    pub(super) fn open(limits: Limits, held: impl Fn(&Client, Unit) -> Option<i64>) -> AccountBook {
        if limits == (Limits { paid: 0, free: 0 }) {
            return AccountBook { book: None, stored: Mutex::default() };
        }
        let mut book = Book::new(limits);
        let stored = stored_pages();
        for (shelf, pages) in [(Shelf::Paid, stored[0]), (Shelf::Free, stored[1])] {
            for page in 0..pages {
                let key = key(shelf, page);
                let complain = |error: PageError| log::warn!("account book: {GROUP} / {key}: {error}; it is left out");
                book.load(shelf, store::get(GROUP, &key).as_deref(), complain);
            }
        }
        let killed = book.loaded();
        book.reconcile(KILLED, held);
        for number in &killed {
            book.change(*number, true, |entry| entry.close(entry.updated, KILLED));
        }
        if !killed.is_empty() {
            log::info!("account book: {} services ran when the server was killed", killed.len());
        }
        AccountBook { book: Some(Mutex::new(book)), stored: Mutex::new(stored) }
    }

    /// Adds the entry of a service that begins, and returns its number.
    pub(super) fn begin(&self, entry: Entry) -> u64 {
        self.book.as_ref().map_or(0, |book| book.lock().open(entry))
    }

    /// Changes an entry. The store gets it soon; at once, before the rests, if it is `urgent`.
    pub(super) fn change(&self, number: u64, urgent: bool, work: impl FnOnce(&mut Entry)) {
        if let Some(book) = &self.book {
            book.lock().change(number, urgent, work);
        }
    }

    /// Changes an entry. Returns false if the book cannot be had until the deadline.
    pub(super) fn change_until(&self, deadline: Instant, number: u64, work: impl FnOnce(&mut Entry)) -> bool {
        let Some(mut book) = self.book.as_ref().and_then(|book| book.try_lock_until(deadline)) else { return false };
        book.change(number, true, work);
        true
    }

    /// Notes a signed receipt and its payment.
    pub(super) fn sign(&self, number: u64, payment: PaymentId) {
        if let Some(book) = &self.book {
            book.lock().sign(number, clock::wall(), payment);
        }
    }

    /// Notes that the ledger has a payment.
    pub(super) fn settle(&self, payment: &PaymentId) {
        if let Some(book) = &self.book {
            book.lock().settle(payment);
        }
    }

    /// Returns what an entry says of the receipts: asked for, signed, in the ledger.
    pub(super) fn receipts(&self, number: u64) -> Option<[u32; 3]> {
        let book = self.book.as_ref()?.lock();
        book.get(number).map(|entry| [entry.asked, entry.signed, entry.settled])
    }

    /// Stores the pages that are due at once, and with `all` a number of those that may wait.
    pub(super) fn store(&self, all: bool) {
        self.store_pages(if all { PAGES_PER_SECOND } else { 0 });
    }

    /// Stores all pages.
    pub(super) fn store_all(&self) {
        self.store_pages(usize::MAX);
    }

    fn store_pages(&self, mut patient: usize) {
        let Some(book) = &self.book else { return };
        // The store gets the states of a page in their order.
        let mut stored = self.stored.lock();
        loop {
            let (write, pages) = {
                let mut book = book.lock();
                let mut write = book.due(true);
                if write.is_none() && patient > 0 {
                    patient -= 1;
                    write = book.due(false);
                }
                (write, [book.pages(Shelf::Paid), book.pages(Shelf::Free)])
            };
            let Some(write) = write else { return };
            let result =
                grow(&mut stored, pages).and_then(|()| store::set(GROUP, &key(write.shelf, write.page), &write.bytes));
            if let Err(error) = result {
                book.lock().failed(write.shelf, write.page);
                return host::log_bounded!(Warn, "account book not saved: {error}");
            }
        }
    }

    /// Ends the entries of services that the end of this process ends without an event of theirs, and stores all.
    pub(super) fn close(&self, why: &str) {
        if let Some(book) = &self.book {
            let mut book = book.lock();
            let running = book.entries().filter(|(_, entry)| entry.end.is_none()).map(|(number, _)| number);
            for number in running.collect::<Vec<_>>() {
                book.change(number, true, |entry| entry.close(clock::wall(), why));
            }
        }
        self.store_all();
    }

    /// Returns the sums of all entries, and of each client's paid ones that the book still has; `None` without a book.
    /// What running services have carried and used may be a minute old.
    pub(super) fn sums(&self) -> Option<(Sums, HashMap<Client, Sums>)> {
        self.settle_waiting();
        let book = self.book.as_ref()?;
        let numbers = book.lock().numbers();
        let (mut all, mut by_client) = (Sums::default(), HashMap::<Client, Sums>::new());
        // Workers wait for the lock.
        for some in numbers.chunks(ENTRIES_AT_ONCE) {
            let book = book.lock();
            for entry in some.iter().filter_map(|number| book.get(*number)) {
                all.add(entry);
                if entry.kind == Kind::Paid {
                    by_client.entry(entry.client).or_default().add(entry);
                }
            }
        }
        let book = book.lock();
        [Shelf::Paid, Shelf::Free].iter().for_each(|shelf| all.add_sums(&book.dropped(*shelf)));
        Some((all, by_client))
    }

    /// Asks the ledger for payments that it did not have.
    fn settle_waiting(&self) {
        let Some(book) = &self.book else { return };
        let waiting = book.lock().waiting();
        for (net, payment) in waiting {
            if Net::by_id(net).is_some_and(|net| net.has_transaction(&payment)) {
                self.settle(&payment);
            }
        }
    }

    /// Returns the entries that the filter asks for, with what running services have now. Asks the ledger for payments
    /// that it did not have.
    pub(super) fn history(&self, filter: &Filter, live: &HashMap<u64, Live>) -> Option<History> {
        let book = self.book.as_ref()?;
        self.settle_waiting();
        let numbers: Vec<_> = book.lock().numbers();
        let mut entries = Vec::new();
        // Workers wait for the lock.
        for some in numbers.chunks(ENTRIES_AT_ONCE) {
            let book = book.lock();
            let found = some.iter().filter_map(|number| Some((*number, book.get(*number)?)));
            entries
                .extend(found.filter(|(_, entry)| filter.wants(entry)).map(|(number, entry)| (number, entry.clone())));
        }
        let now = clock::wall();
        let mut sums = Sums::default();
        for (number, entry) in &mut entries {
            if let (None, Some(live)) = (&entry.end, live.get(number)) {
                (entry.up, entry.down, entry.updated) = (live.up, live.down, now);
                (entry.brought, entry.left) = (live.brought, live.left);
            }
            sums.add(entry);
        }
        let left_out = entries.len().saturating_sub(filter.limit);
        entries.drain(..left_out);
        let book = book.lock();
        Some(History { entries, sums, left_out, pushed_out: [book.dropped(Shelf::Paid), book.dropped(Shelf::Free)] })
    }
}

impl Filter {
    fn wants(&self, entry: &Entry) -> bool {
        let is_recent = entry.end.is_none() || entry.updated >= self.since;
        let is_of_net = self.net.is_none_or(|net| net == entry.client.net);
        is_recent && is_of_net && has_prefix(&entry.client.key, &self.client)
    }
}

/// Whether the hexadecimal digits of a hash begin so.
fn has_prefix(hash: &[u8; 32], prefix: &str) -> bool {
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let wanted = prefix.chars().map(|digit| digit.to_digit(16));
    prefix.len() <= 64 && digits.zip(wanted).all(|(has, wanted)| wanted == Some(has.into()))
}

fn key(shelf: Shelf, page: usize) -> String {
    let name = match shelf {
        Shelf::Paid => "paid",
        Shelf::Free => "free",
    };
    format!("{name}.{page}")
}

fn stored_pages() -> [usize; 2] {
    let Some(record) = store::get(GROUP, PAGES) else { return [0; 2] };
    let pages = match record.as_chunks::<4>() {
        (&[paid, free], []) => Some([paid, free].map(|pages| u32::from_le_bytes(pages) as usize)),
        _ => None,
    };
    pages.filter(|pages| pages.iter().all(|pages| *pages <= PAGES_MAX)).unwrap_or_else(|| {
        log::warn!(
            "account book: {GROUP} / {PAGES}: {record:02X?}; expected two numbers of 4 bytes, {PAGES_MAX} at most; the \
             book begins anew"
        );
        [0; 2]
    })
}

/// Stores the number of pages before the first page that it does not count.
fn grow(stored: &mut [usize; 2], pages: [usize; 2]) -> Result<(), store::StoreError> {
    if *stored == pages {
        return Ok(());
    }
    let record: Vec<u8> = pages.iter().flat_map(|pages| (*pages as u32).to_le_bytes()).collect();
    store::set(GROUP, PAGES, &record)?;
    *stored = pages;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_compared_digit_by_digit() {
        let hash: [u8; 32] = std::array::from_fn(|at| at as u8 + 0xa0);
        for prefix in
            ["", "A", "A0", "A0A", "a0a1", &hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"))]
        {
            assert!(has_prefix(&hash, prefix), "{prefix}");
        }
        for prefix in ["B", "A1", "A0B", "G", "A0 ", &"A0".repeat(33)] {
            assert!(!has_prefix(&hash, prefix), "{prefix}");
        }
    }
}
