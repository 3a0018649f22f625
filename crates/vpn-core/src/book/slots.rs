//! One shelf: entries in places, page by page, and which pages the store does not have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::entry::Entry;
use super::page::{self, PAGE_ENTRIES, PageError};
use super::sums::Sums;

/// The entries of one shelf.
#[derive(Debug)]
pub(super) struct Slots {
    /// The most entries of ended services.
    capacity: usize,
    /// The most entries of one client on a full shelf; more push out its own.
    share: usize,
    places: Vec<Option<(u64, Entry)>>,
    /// The places of the entries by their numbers.
    by_number: BTreeMap<u64, usize>,
    /// The numbers of the ended ones.
    ended: BTreeSet<u64>,
    /// The same of each client.
    by_client: HashMap<[u8; 32], BTreeSet<u64>>,
    free: BTreeSet<usize>,
    /// What was pushed out, by page.
    dropped: Vec<Sums>,
    /// The pages that the store does not have; true for those that are due at once.
    changed: BTreeMap<usize, bool>,
}

impl Slots {
    pub(super) fn new(capacity: usize, share: usize) -> Slots {
        Slots {
            capacity,
            share,
            places: Vec::new(),
            by_number: BTreeMap::new(),
            ended: BTreeSet::new(),
            by_client: HashMap::new(),
            free: BTreeSet::new(),
            dropped: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    pub(super) fn pages(&self) -> usize {
        self.dropped.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.places.get(*self.by_number.get(&number)?)?.as_ref().map(|(_, entry)| entry)
    }

    /// Changes an entry. Ended ones are ranked for rotation.
    pub(super) fn change<R>(&mut self, number: u64, urgent: bool, work: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let place = *self.by_number.get(&number)?;
        let (_, entry) = self.places.get_mut(place)?.as_mut()?;
        let result = work(entry);
        let (has_ended, key) = (entry.end.is_some(), entry.client.key);
        self.mark(place / PAGE_ENTRIES, urgent);
        if has_ended && self.ended.insert(number) {
            self.by_client.entry(key).or_default().insert(number);
            self.rotate(Some(&key));
        }
        Some(result)
    }

    /// Adds an entry. One of a running service always has a place, also on a full shelf.
    pub(super) fn insert(&mut self, number: u64, entry: Entry, urgent: bool) {
        let place = match self.free.pop_first() {
            Some(place) => place,
            None => self.add_page(),
        };
        self.put(place, number, entry);
        self.mark(place / PAGE_ENTRIES, urgent);
    }

    /// Takes an entry away, without a trace.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let place = self.by_number.remove(&number)?;
        let (_, entry) = self.places.get_mut(place)?.take()?;
        self.ended.remove(&number);
        if let Some(numbers) = self.by_client.get_mut(&entry.client.key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_client.remove(&entry.client.key);
            }
        }
        self.free.insert(place);
        self.mark(place / PAGE_ENTRIES, false);
        Some(entry)
    }

    fn put(&mut self, place: usize, number: u64, entry: Entry) {
        if entry.end.is_some() {
            self.ended.insert(number);
            self.by_client.entry(entry.client.key).or_default().insert(number);
        }
        self.by_number.insert(number, place);
        if let Some(slot) = self.places.get_mut(place) {
            *slot = Some((number, entry));
        }
    }

    fn add_page(&mut self) -> usize {
        let first = self.places.len();
        self.places.resize(first + PAGE_ENTRIES, None);
        self.dropped.push(Sums::default());
        self.free.extend(first + 1..first + PAGE_ENTRIES);
        first
    }

    /// Pushes ended entries out while there are too many: the oldest, or that of the client whose service has just
    /// ended, if it has more than its share.
    fn rotate(&mut self, client: Option<&[u8; 32]>) {
        while self.ended.len() > self.capacity {
            let own = client.and_then(|key| self.by_client.get(key)).filter(|numbers| numbers.len() > self.share);
            let Some(oldest) = own.and_then(BTreeSet::first).or_else(|| self.ended.first()).copied() else { return };
            let page = self.by_number.get(&oldest).map(|place| place / PAGE_ENTRIES);
            if let (Some(entry), Some(dropped)) =
                (self.remove(oldest), page.and_then(|page| self.dropped.get_mut(page)))
            {
                dropped.add(&entry);
            }
        }
    }

    fn mark(&mut self, page: usize, urgent: bool) {
        *self.changed.entry(page).or_default() |= urgent;
    }

    /// Marks a page again that could not be stored.
    pub(super) fn failed(&mut self, page: usize) {
        self.mark(page, false);
    }

    /// Returns the next page that the store does not have, or of those that are due at once.
    pub(super) fn next_due(&mut self, only_urgent: bool) -> Option<(usize, Vec<u8>)> {
        let mut changed = self.changed.iter();
        let page = *changed.find(|(_, urgent)| **urgent || !only_urgent)?.0;
        self.changed.remove(&page);
        let first = page * PAGE_ENTRIES;
        let places = self.places.get(first..first + PAGE_ENTRIES).unwrap_or_default();
        let entries = places.iter().map(|place| place.as_ref().map(|(number, entry)| (*number, entry)));
        Some((page, page::encode(&self.dropped.get(page).copied().unwrap_or_default(), entries)))
    }

    /// Fills in a page from the store, each after the one before.
    pub(super) fn load(&mut self, stored: Option<&[u8]>, complain: impl FnMut(PageError)) {
        let first = self.add_page();
        self.free.insert(first);
        let page = stored.and_then(|stored| page::decode(stored, complain)).unwrap_or_default();
        if let Some(dropped) = self.dropped.last_mut() {
            *dropped = page.dropped;
        }
        for (place, number, entry) in page.entries {
            // A number that is there twice has been moved when the process was killed.
            if !self.by_number.contains_key(&number) {
                self.free.remove(&(first + place));
                self.put(first + place, number, entry);
            }
        }
    }

    /// Brings a shelf that was loaded to its capacity.
    pub(super) fn fit(&mut self) {
        self.rotate(None);
    }

    pub(super) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.by_number.keys().copied()
    }

    pub(super) fn running(&self) -> Vec<u64> {
        self.by_number.keys().filter(|number| !self.ended.contains(number)).copied().collect()
    }

    pub(super) fn dropped(&self) -> Sums {
        let mut sums = Sums::default();
        self.dropped.iter().for_each(|page| sums.add_sums(page));
        sums
    }
}
