//! The book: two shelves of entries, and the numbers that name entries.

use std::collections::BTreeMap;

use super::entry::{Entry, Kind};
use super::page::PageError;
use super::slots::Slots;
use super::sums::Sums;
use crate::meter::{Client, PaymentId, Unit};

/// What part of a full shelf one client may have: an eighth.
const SHARE: usize = 8;

/// How long before the newest entry's time a service may have ended whose rest is not in the store, in seconds.
const UNSURE: u64 = 60;

/// How many entries of ended services are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Paid ones.
    pub paid: usize,
    /// Free ones, and grace that nobody paid.
    pub free: usize,
}

/// A part of the book with a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// What clients have paid for.
    Paid,
    /// What was free, and grace that nobody paid.
    Free,
}

/// A page to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWrite {
    /// Its shelf.
    pub shelf: Shelf,
    /// Its number on the shelf.
    pub page: usize,
    /// The contents.
    pub bytes: Vec<u8>,
}

/// All entries. Running services always have theirs; of the ended ones the oldest are pushed out, and added up
/// ([`Book::dropped`]). On a full shelf a client with an eighth of it pushes out its own.
///
/// ```
/// use vpn_core::book::{Book, Entry, Kind, Limits};
/// use vpn_core::meter::Client;
///
/// let mut book = Book::new(Limits { paid: 100, free: 100 });
/// let client = Client { key: [1; 32], net: 7 };
/// let number = book.open(Entry::new(client, [2; 32], Kind::Free, 1000));
/// book.change(number, false, |entry| entry.close(1060, "the client's stream ended"));
/// // The store gets the page.
/// let page = book.due(false).unwrap();
/// let mut again = Book::new(Limits { paid: 100, free: 100 });
/// again.load(page.shelf, Some(&page.bytes), |error| panic!("{error}"));
/// assert_eq!(again.get(number), book.get(number));
/// ```
#[derive(Debug)]
pub struct Book {
    paid: Slots,
    free: Slots,
    /// The number of the next entry.
    next: u64,
    /// The entries of payments that the ledger does not have.
    waiting: BTreeMap<PaymentId, u64>,
}

impl Book {
    /// Creates an empty book.
    pub fn new(limits: Limits) -> Book {
        let paid = Slots::new(limits.paid, (limits.paid / SHARE).max(1));
        Book { paid, free: Slots::new(limits.free, limits.free), next: 1, waiting: BTreeMap::new() }
    }

    /// Adds the entry of a service that begins, and returns its number.
    pub fn open(&mut self, entry: Entry) -> u64 {
        let number = self.next;
        self.next += 1;
        let urgent = entry.kind == Kind::Paid;
        self.shelf_mut(shelf_of(&entry)).insert(number, entry, urgent);
        number
    }

    /// Returns an entry; `None` if it was pushed out.
    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.paid.get(number).or_else(|| self.free.get(number))
    }

    /// Changes an entry. It is due at once if the change is `urgent`.
    pub fn change<R>(&mut self, number: u64, urgent: bool, work: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        if self.paid.get(number).is_some() {
            return self.paid.change(number, urgent, work);
        }
        // One that becomes paid changes the shelf.
        let mut entry = self.free.get(number)?.clone();
        let result = work(&mut entry);
        match shelf_of(&entry) {
            Shelf::Paid => {
                self.free.remove(number);
                self.paid.insert(number, entry, true);
            }
            Shelf::Free => drop(self.free.change(number, urgent, |old| *old = entry)),
        }
        Some(result)
    }

    /// Notes a signed receipt and its payment, which the ledger does not have yet.
    pub fn sign(&mut self, number: u64, now: u64, payment: PaymentId) {
        if self.change(number, true, |entry| entry.sign(now, payment)).is_some() {
            self.waiting.insert(payment, number);
        }
    }

    /// Notes that the ledger has a payment.
    pub fn settle(&mut self, payment: &PaymentId) {
        if let Some(number) = self.waiting.remove(payment) {
            self.change(number, false, |entry| entry.settle(payment));
        }
    }

    /// Returns the payments that the ledger did not have when it was last asked, with the networks that they are in.
    pub fn waiting(&mut self) -> Vec<(u64, PaymentId)> {
        let mut waiting = std::mem::take(&mut self.waiting);
        // Without those that were pushed out.
        waiting.retain(|_, number| self.get(*number).is_some());
        let net = |number| self.get(number).map_or(0, |entry| entry.client.net);
        let found = waiting.iter().map(|(payment, number)| (net(*number), *payment)).collect();
        self.waiting = waiting;
        found
    }

    /// Returns the next page that the store is to get, the paid ones first; with `only_urgent` of those that are due at
    /// once. [`Book::failed`] takes one back.
    pub fn due(&mut self, only_urgent: bool) -> Option<PageWrite> {
        let of = |shelf: Shelf, slots: &mut Slots| {
            slots.next_due(only_urgent).map(|(page, bytes)| PageWrite { shelf, page, bytes })
        };
        of(Shelf::Paid, &mut self.paid).or_else(|| of(Shelf::Free, &mut self.free))
    }

    /// A page could not be stored: it is due again.
    pub fn failed(&mut self, shelf: Shelf, page: usize) {
        self.shelf_mut(shelf).failed(page);
    }

    /// Returns how many pages a shelf has: the driver loads as many.
    pub fn pages(&self, shelf: Shelf) -> usize {
        match shelf {
            Shelf::Paid => self.paid.pages(),
            Shelf::Free => self.free.pages(),
        }
    }

    /// Fills in the next page of a shelf from the store; `None` if the store lacks it. The paid shelf is first. What
    /// cannot be read is passed to `complain`, and left out.
    pub fn load(&mut self, shelf: Shelf, stored: Option<&[u8]>, complain: impl FnMut(PageError)) {
        self.shelf_mut(shelf).load(stored, complain);
    }

    /// Ends the loading. Returns the entries of services that ran when the process ended.
    pub fn loaded(&mut self) -> Vec<u64> {
        // The process was killed between the two writes with which an entry changes the shelf.
        let twice: Vec<_> = self.free.numbers().filter(|number| self.paid.get(*number).is_some()).collect();
        twice.into_iter().for_each(|number| drop(self.free.remove(number)));
        self.next = self.paid.numbers().chain(self.free.numbers()).max().map_or(1, |last| last + 1);
        for number in self.paid.numbers() {
            let payments = self.paid.get(number).into_iter().flat_map(Entry::waiting);
            self.waiting.extend(payments.map(|payment| (payment, number)));
        }
        let running = [self.paid.running(), self.free.running()].concat();
        self.paid.fit();
        self.free.fit();
        running
    }

    /// Takes over what the store has for clients, as `held` returns it, after a kill: the book and the rests are not
    /// written at once. What the store has not is lost to the client, and what it has beyond was not charged. Looks at
    /// services that ran, or that ended a minute before the newest entry at most; the newest entry of a client is
    /// corrected first. The reasons of those that had ended get `why` added.
    pub fn reconcile(&mut self, why: &str, held: impl Fn(&Client, Unit) -> Option<i64>) {
        let newest = self.entries().map(|(_, entry)| entry.updated).max().unwrap_or(0);
        let is_unsure = |entry: &Entry| entry.end.is_none() || entry.updated.saturating_add(UNSURE) >= newest;
        let unsure = self.entries().rev().filter(|(_, entry)| is_unsure(entry));
        let unsure: Vec<_> = unsure.filter_map(|(number, entry)| Some((number, entry.client, entry.unit?))).collect();
        let mut corrections = BTreeMap::new();
        for (number, client, unit) in unsure {
            let correct = |entry: &mut Entry| {
                let more = corrections.entry((client, unit.to_wire())).or_insert_with(|| {
                    let held = held(&client, unit).unwrap_or(entry.stored);
                    let more = i128::from(held) - i128::from(entry.stored);
                    entry.stored = held;
                    more
                });
                if let (true, Some(end)) = (*more != 0, &mut entry.end) {
                    *end = format!("{end}; {why}");
                }
                *more = entry.correct(*more);
            };
            self.change(number, false, correct);
        }
    }

    /// Returns the entries, the oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (u64, &Entry)> {
        self.numbers().into_iter().filter_map(|number| Some((number, self.get(number)?)))
    }

    /// Returns the numbers of the entries, the oldest first.
    pub fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<_> = self.paid.numbers().chain(self.free.numbers()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Returns the sums of the entries that were pushed out of a shelf.
    pub fn dropped(&self, shelf: Shelf) -> Sums {
        match shelf {
            Shelf::Paid => self.paid.dropped(),
            Shelf::Free => self.free.dropped(),
        }
    }

    fn shelf_mut(&mut self, shelf: Shelf) -> &mut Slots {
        match shelf {
            Shelf::Paid => &mut self.paid,
            Shelf::Free => &mut self.free,
        }
    }
}

fn shelf_of(entry: &Entry) -> Shelf {
    if entry.kind == Kind::Paid { Shelf::Paid } else { Shelf::Free }
}
