use super::entry::RECEIPTS_KEPT;
use super::*;
use crate::meter::{Client, Unit};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { paid: 40, free: 16 };
const PRICE: u8 = 3;

fn entry(client: u8, kind: Kind, now: u64) -> Entry {
    let mut price = [0; 32];
    price[16] = PRICE;
    let client = Client { key: [client; 32], net: 7 };
    let unit = (kind != Kind::Free).then_some(Unit::Bytes);
    Entry { unit, units: 100, price, ..Entry::new(client, [9; 32], kind, now) }
}

fn payment(number: u64) -> [u8; 32] {
    let mut payment = [1; 32];
    payment[..8].copy_from_slice(&number.to_le_bytes());
    payment
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kinds = prop_oneof![Just(Kind::Free), Just(Kind::Grace), Just(Kind::Paid)];
    let units = prop_oneof![Just(None), Just(Some(Unit::Bytes)), Just(Some(Unit::Seconds))];
    let states = prop_oneof![Just(Ledger::Unsigned), Just(Ledger::Waiting), Just(Ledger::Settled)];
    let receipt = (any::<u64>(), any::<[u8; 32]>(), states);
    let receipts = vec(receipt.prop_map(|(at, payment, ledger)| Receipt { at, payment, ledger }), 0..=RECEIPTS_KEPT);
    let keys = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>());
    (keys, kinds, units, any::<[u64; 7]>(), any::<i64>(), any::<[u32; 3]>(), proptest::option::of(".{0,40}"), receipts)
        .prop_map(|((key, order, price, net), kind, unit, numbers, stored, counts, end, receipts)| {
            let [units, begun, updated, up, down, brought, left] = numbers;
            let [asked, signed, settled] = counts;
            let mut entry = Entry::new(Client { key, net }, order, kind, begun);
            if let Some(why) = end {
                entry.close(updated, &why);
            }
            (entry.unit, entry.units, entry.price, entry.updated) = (unit, units, price, updated);
            (entry.up, entry.down, entry.brought, entry.left, entry.stored) = (up, down, brought, left, stored);
            (entry.asked, entry.signed, entry.settled, entry.receipts) = (asked, signed, settled, receipts);
            entry
        })
}

proptest! {
    #[test]
    fn an_entry_comes_back_as_it_was_stored(entry in any_entry(), cut in any::<prop::sample::Index>()) {
        let stored = entry.encode();
        prop_assert_eq!(Entry::decode(&stored), Ok(entry));
        let cut = cut.index(stored.len());
        prop_assert!(Entry::decode(&stored[..cut]).is_err());
        prop_assert_eq!(Entry::decode(&[stored, vec![0]].concat()), Err(EntryError::Long(1)));
    }

    #[test]
    fn anything_may_be_in_the_store(bytes in vec(any::<u8>(), 0..400), place in 0..PAGE_ENTRIES) {
        let _ = Entry::decode(&bytes);
        let mut book = Book::new(LIMITS);
        book.load(Shelf::Paid, Some(&bytes), |_| ());
        // A page with one entry that is not readable, behind a good one.
        let mut page = page::encode(&Sums::default(), [Some((5, &entry(1, Kind::Paid, 1)))].into_iter());
        let length = (bytes.len() as u16).to_le_bytes();
        page.extend([&[1 + place as u8 % 31][..], &6_u64.to_le_bytes(), &length, &bytes].concat());
        let mut complaints = 0;
        book.load(Shelf::Paid, Some(&page), |_| complaints += 1);
        prop_assert!(book.get(5).is_some());
        prop_assert!(book.get(6).is_some() || complaints == 1);
    }
}

#[test]
fn what_is_charged_follows_from_what_is_left() {
    let mut entry = entry(1, Kind::Grace, 1000);
    (entry.brought, entry.left, entry.stored) = (30, 30, 30);
    entry.sign(1001, payment(1));
    assert_eq!((entry.kind, entry.asked, entry.signed, entry.bought(), entry.charged()), (Kind::Paid, 1, 1, 100, 0));
    (entry.left, entry.stored) = (50, 50);
    entry.ask(1010);
    assert_eq!((entry.asked, entry.signed, entry.charged()), (2, 1, 80));
    entry.sign(1011, payment(2));
    assert_eq!((entry.asked, entry.signed, entry.bought(), entry.charged()), (2, 2, 200, 80));
    assert!(entry.settle(&payment(1)) && !entry.settle(&payment(1)) && !entry.settle(&payment(3)));
    assert_eq!(entry.waiting().collect::<Vec<_>>(), [payment(2)]);
    entry.close(1020, "the client's stream ended");
    entry.close(1030, "another reason");
    assert_eq!((entry.end.as_deref(), entry.updated), (Some("the client's stream ended"), 1020));
    let mut long = Entry::new(entry.client, [0; 32], Kind::Free, 0);
    long.close(1, &"üä€".repeat(100));
    assert_eq!(Entry::decode(&long.encode()).unwrap().end, Some("üä€".repeat(28) + "üä"));
}

#[test]
fn a_kill_is_settled_by_what_the_store_has() {
    let killed = |stored| {
        let mut book = Book::new(LIMITS);
        let mut entry = entry(1, Kind::Paid, 1000);
        entry.sign(1000, payment(1));
        // Earlier payments of the client have 500 units that wait for the ledger.
        (entry.left, entry.stored) = (60, 560);
        let number = book.open(entry);
        book.reconcile("killed", |client, unit| (client.key == [1; 32] && unit == Unit::Bytes).then_some(stored));
        let entry = book.get(number).unwrap();
        assert_eq!(entry.stored, stored);
        (entry.brought, entry.left, entry.charged())
    };
    assert_eq!(killed(560), (0, 60, 40), "both were written");
    assert_eq!(killed(555), (0, 55, 45), "the rest was written later");
    assert_eq!(killed(570), (0, 70, 30), "the book was");
    assert_eq!(killed(460), (0, 0, 100), "the payment was not stored");
    assert_eq!(killed(610), (10, 110, 0), "the service before was not stored either");
}

#[test]
fn a_kill_may_have_lost_the_rests_of_services_that_had_just_ended() {
    let mut book = Book::new(LIMITS);
    let mut open = |client, (begun, ended), brought, left| {
        let mut entry = entry(client, Kind::Paid, begun);
        (entry.brought, entry.left, entry.stored, entry.updated) = (brought, left, left as i64, ended);
        entry.close(ended, "end");
        book.open(entry)
    };
    // The store has what was left after the first one; of another client, and of one long ago, it may have anything.
    let numbers = [
        open(1, (10, 20), 100, 90),
        open(1, (960, 970), 90, 70),
        open(1, (980, 990), 70, 65),
        open(2, (995, 1000), 50, 40),
        open(3, (100, 200), 50, 40),
    ];
    book.reconcile("killed", |client, _| [Some(90), None, Some(0)][usize::from(client.key[0]) - 1]);
    let entries = numbers.map(|number| book.get(number).unwrap());
    let amounts = entries.map(|entry| (entry.brought, entry.charged(), entry.left));
    assert_eq!(amounts, [(100, 10, 90), (90, 0, 90), (90, 0, 90), (50, 10, 40), (50, 10, 40)]);
    let ends = entries.map(|entry| entry.end.as_deref().unwrap());
    assert_eq!(ends, ["end", "end; killed", "end; killed", "end", "end"]);
}

#[test]
fn many_receipts_are_counted_and_the_last_are_kept() {
    let mut entry = entry(1, Kind::Paid, 0);
    for number in 0..100 {
        entry.ask(number);
        entry.sign(number, payment(number));
        assert!(entry.settle(&payment(number)));
    }
    assert_eq!((entry.asked, entry.signed, entry.settled, entry.receipts.len()), (100, 100, 100, RECEIPTS_KEPT));
    assert_eq!(entry.receipts[0].payment, payment(84));
    assert!(entry.encode().len() < 1024);
}

/// Opens an entry, pays it unless it is free, and ends it.
fn play(book: &mut Book, client: u8, kind: Kind) -> u64 {
    let number = book.open(entry(client, kind, 0));
    if kind == Kind::Paid {
        book.sign(number, 1, payment(number));
    }
    book.change(number, false, |entry| entry.close(2, "end"));
    number
}

#[test]
fn a_flood_of_free_sessions_pushes_out_no_paid_one() {
    let mut book = Book::new(LIMITS);
    let paid: Vec<_> = (0..20).map(|client| play(&mut book, client, Kind::Paid)).collect();
    for client in 0..10_000 {
        play(&mut book, client as u8, if client % 2 == 0 { Kind::Free } else { Kind::Grace });
    }
    assert!(paid.iter().all(|number| book.get(*number).is_some()));
    assert_eq!(book.entries().count(), 20 + LIMITS.free);
    assert_eq!(book.dropped(Shelf::Free).sessions, 10_000 - LIMITS.free as u64);
    assert_eq!((book.pages(Shelf::Paid), book.pages(Shelf::Free)), (1, 1));
}

#[test]
fn a_client_that_pays_often_pushes_out_its_own() {
    let mut book = Book::new(LIMITS);
    let others: Vec<_> = (10..20).map(|client| play(&mut book, client, Kind::Paid)).collect();
    for _ in 0..1000 {
        play(&mut book, 1, Kind::Paid);
    }
    assert!(others.iter().all(|number| book.get(*number).is_some()));
    assert_eq!(book.entries().filter(|(_, entry)| entry.client.key == [1; 32]).count(), LIMITS.paid - 10);
    let sums = book.dropped(Shelf::Paid);
    assert_eq!((sums.signed, sums.signed_value), (970, 970 * u128::from(PRICE)));
    // Many clients together push out the oldest.
    for client in (0..100).flat_map(|_| 20..60) {
        play(&mut book, client, Kind::Paid);
    }
    assert!(others.iter().all(|number| book.get(*number).is_none()));
}

#[test]
fn running_services_have_an_entry_on_a_full_shelf() {
    let mut book = Book::new(Limits { paid: 2, free: 0 });
    let running: Vec<_> = (0..100).map(|client| book.open(entry(client, Kind::Paid, 0))).collect();
    let free: Vec<_> = (0..100).map(|client| book.open(entry(client, Kind::Free, 0))).collect();
    assert_eq!(book.entries().count(), 200);
    for number in running.iter().chain(&free) {
        book.change(*number, false, |entry| entry.close(9, "end"));
    }
    assert_eq!(book.entries().map(|(number, _)| number).collect::<Vec<_>>(), running[98..]);
}

/// What happens to a book in the test beneath.
#[derive(Clone, Debug)]
enum Step {
    Open(u8, Kind),
    Ask(usize),
    Sign(usize),
    Settle(usize),
    Use(usize, u64),
    Close(usize),
    /// Stores this many pages.
    Store(usize),
    /// Stores all pages.
    StoreAll,
    /// Ends the process, and starts it again.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..60_usize;
    let kinds = prop_oneof![Just(Kind::Free), Just(Kind::Grace), Just(Kind::Paid)];
    let step = prop_oneof![
        4 => (0..6_u8, kinds).prop_map(|(client, kind)| Step::Open(client, kind)),
        1 => at.clone().prop_map(Step::Ask),
        3 => at.clone().prop_map(Step::Sign),
        1 => at.clone().prop_map(Step::Settle),
        3 => (at.clone(), 0..120_u64).prop_map(|(at, left)| Step::Use(at, left)),
        4 => at.prop_map(Step::Close),
        2 => (0..3_usize).prop_map(Step::Store),
        1 => Just(Step::StoreAll),
        1 => Just(Step::Kill),
    ];
    vec(step, 1..400)
}

/// The store: pages by shelf and number.
type Pages = BTreeMap<(Shelf, usize), Vec<u8>>;

fn store(book: &mut Book, pages: &mut Pages, most: usize) {
    for _ in 0..most {
        let Some(write) = book.due(false) else { return };
        pages.insert((write.shelf, write.page), write.bytes);
    }
}

fn start(pages: &Pages, limits: Limits) -> (Book, Vec<u64>) {
    let mut book = Book::new(limits);
    for shelf in [Shelf::Paid, Shelf::Free] {
        let count = pages.keys().filter(|(of, _)| *of == shelf).map(|(_, page)| page + 1).max().unwrap_or(0);
        (0..count).for_each(|page| {
            book.load(shelf, pages.get(&(shelf, page)).map(Vec::as_slice), |error| panic!("{error}"));
        });
    }
    let running = book.loaded();
    (book, running)
}

/// How many services the book knows, of both shelves: its entries, and those that were pushed out.
fn known(book: &Book) -> u64 {
    let dropped = book.dropped(Shelf::Paid).sessions + book.dropped(Shelf::Free).sessions;
    book.entries().count() as u64 + dropped
}

fn sums(book: &Book) -> Sums {
    let mut sums = book.dropped(Shelf::Paid);
    sums.add_sums(&book.dropped(Shelf::Free));
    book.entries().for_each(|(_, entry)| sums.add(entry));
    sums
}

proptest! {
    /// The book beside a list of all entries: nothing is lost but by a kill, and by a kill no more than was not stored.
    #[test]
    fn the_book_agrees_with_a_list_of_everything(steps in steps()) {
        let limits = Limits { paid: 20, free: 6 };
        let (mut book, mut pages) = (Book::new(limits), Pages::new());
        // Each entry in all states since the store had all, the present one last.
        let mut all: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        let (mut paid, mut before) = (0, Sums::default());
        let mut clock = 0;
        for step in steps {
            clock += 1;
            let running = book.entries().filter(|(_, entry)| entry.end.is_none()).map(|(number, _)| number);
            let running: Vec<_> = running.collect();
            let at = |at: usize| running.get(at % running.len().max(1)).copied();
            let mut changed = None;
            match step {
                Step::Open(client, kind) => changed = Some(book.open(entry(client, kind, clock))),
                Step::Ask(place) => {
                    let mut ask = |number: &u64| book.change(*number, false, |entry| entry.ask(clock)).is_some();
                    changed = at(place).filter(&mut ask);
                }
                Step::Sign(place) => {
                    changed = at(place);
                    paid += 1;
                    changed.into_iter().for_each(|number| book.sign(number, clock, payment(paid)));
                }
                Step::Settle(place) => {
                    let waiting = book.waiting();
                    if let Some((_, payment)) = waiting.get(place % waiting.len().max(1)) {
                        let has = |entry: &Entry| entry.waiting().any(|other| other == *payment);
                        changed = book.entries().find(|(_, entry)| has(entry)).map(|(number, _)| number);
                        book.settle(payment);
                    }
                }
                Step::Use(place, left) => {
                    changed = at(place);
                    let work = |entry: &mut Entry| entry.left = left.min(entry.brought + entry.bought());
                    if let Some(number) = changed {
                        book.change(number, false, work);
                    }
                }
                Step::Close(place) => {
                    changed = at(place);
                    if let Some(number) = changed {
                        book.change(number, false, |entry| entry.close(clock, "end"));
                    }
                }
                Step::Store(most) => store(&mut book, &mut pages, most),
                Step::StoreAll => {
                    store(&mut book, &mut pages, usize::MAX);
                    prop_assert_eq!(book.due(false), None);
                    let (again, _) = start(&pages, limits);
                    prop_assert!(book.entries().eq(again.entries()), "{:?}\n{:?}", book, again);
                    prop_assert_eq!(sums(&book), sums(&again));
                    all = book.entries().map(|(number, entry)| (number, vec![entry.clone()])).collect();
                    before = sums(&book);
                }
                Step::Kill => {
                    let most = known(&book);
                    let (again, running) = start(&pages, limits);
                    book = again;
                    // Every entry that the store had is there, or was pushed out, once.
                    prop_assert!(known(&book) >= before.sessions && known(&book) <= most);
                    for (number, entry) in book.entries() {
                        let was_so = all.get(&number).is_some_and(|states| states.contains(entry));
                        prop_assert!(was_so, "{} {:?}", number, entry);
                    }
                    for number in running {
                        book.change(number, false, |entry| entry.close(entry.updated, "killed"));
                    }
                    prop_assert!(book.entries().all(|(_, entry)| entry.end.is_some()));
                    store(&mut book, &mut pages, usize::MAX);
                    all = book.entries().map(|(number, entry)| (number, vec![entry.clone()])).collect();
                    before = sums(&book);
                }
            }
            if let Some((number, entry)) = changed.and_then(|number| Some((number, book.get(number)?.clone()))) {
                all.entry(number).or_default().push(entry);
            }
            let ended = || book.entries().filter(|(_, entry)| entry.end.is_some());
            let paid_ones = ended().filter(|(_, entry)| entry.kind == Kind::Paid).count();
            prop_assert!(paid_ones <= limits.paid && ended().count() - paid_ones <= limits.free);
            prop_assert!(sums(&book).sessions >= before.sessions);
        }
    }

    /// A smaller bound keeps the newest, and the sums of the others.
    #[test]
    fn a_smaller_book_keeps_the_newest(count in 0..60_u8, limit in 0..30_usize) {
        let (mut book, mut pages) = (Book::new(Limits { paid: 1000, free: 0 }), Pages::new());
        let numbers: Vec<_> = (0..count).map(|client| play(&mut book, client, Kind::Paid)).collect();
        store(&mut book, &mut pages, usize::MAX);
        let (mut smaller, _) = start(&pages, Limits { paid: limit, free: 0 });
        let left: Vec<_> = smaller.entries().map(|(number, _)| number).collect();
        prop_assert_eq!(&left[..], &numbers[numbers.len().saturating_sub(limit)..]);
        prop_assert_eq!(sums(&smaller), sums(&book));
        store(&mut smaller, &mut pages, usize::MAX);
        prop_assert_eq!(sums(&start(&pages, Limits { paid: 1000, free: 0 }).0), sums(&book));
    }
}
