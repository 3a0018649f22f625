//! Crashes and failures at each write, against a naive model.

use super::disk::{Disk, Fate};
use super::support::*;
use crate::ledger::book::Book;
use crate::ledger::file::{FileError, HEAD_LEN};
use crate::ledger::{Error, Hash};
use crate::receipt::Key;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What the ledger of a test has: funds, openings, payments, a closing.
fn filled() -> (Server, Key, Disk, Vec<usize>) {
    let server = Server::new();
    let (book, disk) = server.new_book();
    let alice = Key::generate_wallet().unwrap();
    let mut ends = vec![disk.seen().len()];
    let mut note = |_: Hash| ends.push(disk.seen().len());
    note(fund(&book, &alice, 1000).unwrap());
    let first = book.submit(&server.open_bytes(&alice, 1, 100)).unwrap();
    note(first);
    note(book.execute(&server.payment(&alice, 30, first)).unwrap());
    note(book.submit(&server.close_bytes(&alice, 2, first)).unwrap());
    drop(book);
    (server, alice, disk, ends)
}

fn operations(book: &Book) -> u64 {
    book.with(|inner| inner.state.operations())
}

/// As `bytes`, but with the acknowledged length of a shorter file.
fn acknowledged(bytes: &[u8], shorter: &[u8]) -> Vec<u8> {
    [&shorter[..HEAD_LEN], &bytes[HEAD_LEN..]].concat()
}

/// The file of one version is that of the next: each byte where the documentation says.
#[test]
fn layout() {
    let server = Server::new();
    let (book, disk) = server.new_book();
    let (owner, amount) = ([7; 32], 1 << 64);
    let what = crate::ledger::operation::What::Fund { owner, token: cell(), amount, number: 9 };
    book.execute(&crate::ledger::operation::Operation { time: 5, what }).unwrap();
    let bytes = disk.seen();
    let (net, len) = (NET.to_le_bytes(), 75_u32.to_le_bytes());
    assert_eq!((&bytes[..8], &bytes[8..16]), (b"CFVPNLG1".as_slice(), net.as_slice()));
    assert_eq!(bytes[16..24], (bytes.len() as u64).to_le_bytes());
    let check = |parts: &[&[u8]]| crate::ledger::hash_of(parts);
    assert_eq!(bytes[24..32], check(&[&bytes[..24]])[..8]);
    let before = check(&[b"CFVPNLG1", &net]);
    assert_eq!((&bytes[32..36], &bytes[36..40]), (len.as_slice(), &check(&[&before, &len])[..4]));
    let body = [
        [1, 5, 0, 0, 0, 0, 0, 0, 0].as_slice(),
        &owner,
        b"CELL\0\0\0\0\0\0",
        &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[9, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(bytes[40..115], body.concat());
    assert_eq!(bytes[115..], check(&[&before, &len, &body.concat()]));
}

#[test]
fn a_file_cut_anywhere_has_all_that_was_acknowledged() {
    let (server, _, disk, ends) = filled();
    let whole = disk.seen();
    // The heads as they were after each operation: a new book writes them.
    let heads: Vec<Vec<u8>> = ends
        .iter()
        .map(|end| {
            let start = Disk::holding(&[&super::super::file::head(NET), &whole[HEAD_LEN..*end]].concat());
            server.open(&start).unwrap();
            start.seen()
        })
        .collect();
    for (done, window) in ends.windows(2).enumerate() {
        for cut in window[0]..window[1] {
            let disk = Disk::holding(&acknowledged(&whole[..cut], &heads[done]));
            let (book, lost) = server.open(&disk).unwrap();
            assert_eq!((operations(&book), lost), (done as u64, (cut - window[0]) as u64), "cut at {cut}");
            assert_eq!(disk.seen().len(), window[0]);
            audit(&book);
        }
    }
    // What was acknowledged is not missed in silence.
    for cut in HEAD_LEN..whole.len() {
        let Err(error) = server.open(&Disk::holding(&whole[..cut])) else { panic!("cut at {cut}") };
        assert!(matches!(error, FileError::Short { .. }), "cut at {cut}: {error}");
    }
    for cut in 0..HEAD_LEN {
        assert!(matches!(server.open(&Disk::holding(&whole[..cut])), Err(FileError::Head)), "cut at {cut}");
    }
}

#[test]
fn damage_is_refused_wherever_it_is() {
    let (server, _, disk, _) = filled();
    let whole = disk.seen();
    for at in 0..whole.len() {
        for change in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let damaged = Disk::holding(&bytes);
            let Err(error) = server.open(&damaged) else { panic!("byte {at}") };
            let expected = if at < HEAD_LEN { "does not begin as a ledger's file" } else { "it is damaged at byte " };
            assert!(error.to_string().contains(expected), "byte {at}: {error}");
            assert_eq!(damaged.seen(), bytes, "it is not touched");
        }
    }
    let foreign = Book::read(NET + 1, Box::new(Disk::holding(&whole)), server.identity());
    assert!(matches!(foreign, Err(FileError::Net { got: NET, .. })));
}

#[test]
fn operations_are_neither_exchanged_nor_left_out() {
    let (server, _, disk, ends) = filled();
    let whole = disk.seen();
    let part = |from: usize, to: usize| &whole[ends[from]..ends[to]];
    let left_out = [&whole[..ends[1]], part(2, 4), part(1, 2)].concat();
    let twice = [&whole[..ends[1]], part(0, 1), part(2, 4), part(1, 2)].concat();
    for bytes in [left_out, twice] {
        assert!(matches!(server.open(&Disk::holding(&bytes)), Err(FileError::Damaged { .. })));
    }
}

#[test]
fn a_failed_write_is_undone_and_the_ledger_goes_on() {
    // Of an operation: its write, its sync; then the note of the length.
    for call in 0..2 {
        let server = Server::new();
        let (book, disk) = server.new_book();
        let alice = Key::generate_wallet().unwrap();
        fund(&book, &alice, 10).unwrap();
        disk.fail_in(call, 1);
        assert!(matches!(fund(&book, &alice, 5), Err(Error::Write(_))));
        assert_eq!(balance(&book, &alice), 10);
        fund(&book, &alice, 7).unwrap();
        drop(book);
        let (book, lost) = server.open(&disk.after_crash(|| Fate::Lost)).unwrap();
        assert_eq!((balance(&book, &alice), operations(&book), lost), (17, 2, 0));
    }
    // The note alone fails: the operation is done.
    let server = Server::new();
    let (book, disk) = server.new_book();
    let alice = Key::generate_wallet().unwrap();
    disk.fail_in(2, 1);
    fund(&book, &alice, 10).unwrap();
    drop(book);
    assert_eq!(balance(&server.open(&disk.after_crash(|| Fate::Lost)).unwrap().0, &alice), 10);
    // What cannot be undone at once is undone before the next operation.
    let (book, disk) = server.new_book();
    fund(&book, &alice, 10).unwrap();
    disk.fail_in(0, 3);
    assert!(matches!(fund(&book, &alice, 5), Err(Error::Write(_))));
    let Err(Error::Write(text)) = fund(&book, &alice, 6) else { panic!("accepted") };
    assert!(text.contains("an earlier write has failed, and cannot be undone"), "{text}");
    fund(&book, &alice, 7).unwrap();
    drop(book);
    let (book, lost) = server.open(&disk.after_crash(|| Fate::Lost)).unwrap();
    assert_eq!((balance(&book, &alice), lost), (17, 0));
}

/// What a naive bank says: numbers in tables.
#[derive(Clone, Default, Debug, PartialEq)]
struct Model {
    balances: [u128; 3],
    /// By the first transaction: whose it is, what is left, the last transaction.
    chains: BTreeMap<Hash, (usize, u128, Hash)>,
    emitted: u128,
    earned: u128,
}

#[derive(Clone, Debug)]
enum Step {
    Fund(usize, u64),
    Open(usize, u64),
    Pay(usize, u64),
    /// A receipt is paid twice.
    PayAgain(usize, u64),
    Close(usize),
    /// The power fails: how it goes with what is not synced.
    Crash(Vec<(u8, usize, usize)>),
    /// The process is killed: the next one sees what is not synced, too.
    Kill,
    /// Calls to the disk fail: how many calls succeed before, and how many fail.
    Fail(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, 1..50_u64).prop_map(|(who, amount)| Step::Fund(who, amount)),
        4 => (0..3_usize, 0..40_u64).prop_map(|(who, value)| Step::Open(who, value)),
        5 => (0..20_usize, 0..20_u64).prop_map(|(chain, value)| Step::Pay(chain, value)),
        1 => (0..20_usize, 1..20_u64).prop_map(|(chain, value)| Step::PayAgain(chain, value)),
        2 => (0..20_usize).prop_map(Step::Close),
        2 => prop::collection::vec((0..3_u8, any::<usize>(), any::<usize>()), 1..6).prop_map(Step::Crash),
        1 => Just(Step::Kill),
        1 => (0..6_usize, 1..4_usize).prop_map(|(calls, times)| Step::Fail(calls, times)),
    ]
}

struct Run {
    server: Server,
    wallets: Vec<Key>,
    book: Book,
    disk: Disk,
    model: Model,
    /// What the model is if an operation whose write has failed is there all the same.
    maybe: Vec<Model>,
    counter: u64,
}

impl Run {
    fn new() -> Run {
        let server = Server::new();
        let (book, disk) = server.new_book();
        let wallets = (0..3).map(|_| Key::generate_wallet().unwrap()).collect();
        Run { server, wallets, book, disk, model: Model::default(), maybe: Vec::new(), counter: 0 }
    }

    /// What the ledger says, as the model has it.
    fn seen(&self) -> Model {
        let balance = |who: usize| balance(&self.book, &self.wallets[who]);
        let totals = self.book.with(|inner| inner.state.totals(&cell()));
        let known = self.maybe.iter().chain([&self.model]).flat_map(|model| &model.chains);
        let known: BTreeMap<Hash, usize> = known.map(|(first, (who, ..))| (*first, *who)).collect();
        let chains = known.into_iter().filter_map(|(first, who)| {
            self.book.with(|inner| {
                inner.state.means(&first)?;
                let last = inner.state.last(&first).unwrap_or([0; 32]);
                let left = inner.state.means(&last).and_then(|means| means.output).map_or(0, |output| output.value);
                Some((first, (who, left, last)))
            })
        });
        Model {
            balances: [balance(0), balance(1), balance(2)],
            chains: chains.collect(),
            emitted: totals.emitted,
            earned: totals.earned,
        }
    }

    /// Compares an outcome with what the model would do; `next` is `None` if it refuses.
    fn settle(&mut self, result: Result<Hash, Error>, next: Option<Model>) {
        match (result, next) {
            (Ok(_), Some(next)) => {
                self.model = next;
                self.maybe.clear();
            }
            // Not acknowledged. The file may have it if it could not be undone, until the next start.
            (Err(Error::Write(_)), next) => self.maybe.extend(next),
            (Err(_), None) => {}
            (result, next) => panic!("{result:?}, but the model says {next:?}"),
        }
        assert_eq!(self.seen(), self.model);
        audit(&self.book);
    }

    fn chain(&self, number: usize) -> Option<(Hash, usize, u128, Hash)> {
        let (first, (who, left, last)) = self.model.chains.iter().nth(number % self.model.chains.len().max(1))?;
        Some((*first, *who, *left, *last))
    }

    /// Reads what is on the disk.
    fn start_again(&mut self) {
        self.book = self.server.open(&self.disk).expect("a crash leaves a ledger").0;
        let seen = self.seen();
        if seen != self.model {
            // The operation that was not acknowledged is there, and counts from now on.
            let (model, maybe) = (&self.model, &self.maybe);
            assert!(maybe.contains(&seen), "{seen:?} is neither {model:?} nor of {maybe:?}");
            self.model = seen;
        }
        self.maybe.clear();
        audit(&self.book);
    }

    fn take(&mut self, step: &Step) {
        let mut next = self.model.clone();
        match step {
            Step::Fund(who, amount) => {
                let amount = u128::from(*amount);
                next.balances[*who] += amount;
                next.emitted += amount;
                let result = fund(&self.book, &self.wallets[*who], amount);
                self.settle(result, Some(next));
            }
            Step::Open(who, value) => {
                let value = u128::from(*value);
                self.counter += 1;
                let bytes = self.server.open_bytes(&self.wallets[*who], self.counter, value);
                let hash = crate::ledger::hash_of(&[&bytes[..bytes.len() - crate::receipt::WALLET_SIGNATURE_LEN]]);
                let is_good = value > 0 && self.model.balances[*who] >= value;
                let next = is_good.then(|| {
                    next.balances[*who] -= value;
                    next.chains.insert(hash, (*who, value, hash));
                    next
                });
                let result = self.book.submit(&bytes);
                self.settle(result, next);
            }
            Step::Pay(number, value) | Step::PayAgain(number, value) => {
                let Some((first, who, left, last)) = self.chain(*number) else { return };
                let value = u128::from(*value);
                let operation = self.server.payment(&self.wallets[who], value, last);
                let hash = match &operation.what {
                    crate::ledger::operation::What::Payment(payment) => payment.hash,
                    _ => unreachable!(),
                };
                let is_good = value > 0 && value <= left;
                let next = is_good.then(|| {
                    let rest = left - value;
                    next.chains.insert(first, (who, rest, if rest > 0 { hash } else { [0; 32] }));
                    next.earned += value;
                    next
                });
                let result = self.book.execute(&operation);
                let was_paid = result.is_ok();
                self.settle(result, next);
                if matches!(step, Step::PayAgain(..)) && was_paid {
                    let again = self.book.execute(&operation);
                    assert!(matches!(again, Err(Error::Payment(_))), "{again:?}");
                }
            }
            Step::Close(number) => {
                let Some((first, who, left, _)) = self.chain(*number) else { return };
                self.counter += 1;
                let bytes = self.server.close_bytes(&self.wallets[who], self.counter, first);
                let next = (left > 0).then(|| {
                    next.balances[who] += left;
                    next.chains.insert(first, (who, 0, [0; 32]));
                    next
                });
                let result = self.book.submit(&bytes);
                self.settle(result, next);
            }
            Step::Crash(fates) => {
                let mut fates = fates.iter().cycle();
                let fate = || match fates.next() {
                    Some((1, ..)) => Fate::Whole,
                    Some((2, whole, zeros)) => Fate::Torn(*whole, *zeros),
                    _ => Fate::Lost,
                };
                self.disk = self.disk.after_crash(fate);
                self.start_again();
            }
            Step::Kill => {
                self.disk.fail_in(0, 0);
                self.start_again();
            }
            Step::Fail(calls, times) => self.disk.fail_in(*calls, *times),
        }
    }
}

#[test]
fn what_a_killed_process_has_left_counts_once_it_was_read() {
    let mut run = Run::new();
    // The second operation is written, but neither synced nor undone.
    let fund = || Step::Fund(0, 1);
    for step in [Step::Fail(4, 2), fund(), fund(), Step::Kill] {
        run.take(&step);
    }
    assert_eq!(run.model.emitted, 2);
    run.take(&Step::Crash(vec![(0, 0, 0)]));
    assert_eq!(run.model.emitted, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever an unfinished write leaves behind the last operation.
    #[test]
    fn any_end_is_cut_off(end in prop::collection::vec(any::<u8>(), 1..400)) {
        let (server, _, disk, _) = filled();
        let whole = disk.seen();
        let disk = Disk::holding(&[whole.as_slice(), &end].concat());
        let (book, lost) = server.open(&disk).unwrap();
        prop_assert_eq!((operations(&book), lost), (4, end.len() as u64));
        prop_assert_eq!(disk.seen(), whole);
    }

    #[test]
    fn a_crash_at_any_write_keeps_what_was_acknowledged(steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
        }
        run.take(&Step::Crash(vec![(0, 0, 0)]));
    }
}

/// Many threads spend the same money at once.
#[test]
fn concurrent_operations_spend_once() {
    let server = Server::new();
    let (book, disk) = server.new_book();
    let alice = Key::generate_wallet().unwrap();
    fund(&book, &alice, 100).unwrap();
    let first = book.submit(&server.open_bytes(&alice, 1, 50)).unwrap();
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64)
            .map(|number| {
                let (server, book, alice) = (&server, &book, &alice);
                scope.spawn(move || {
                    // Each pays 10 of the same output, opens 30 of a rest of 50, and closes.
                    let paid = book.execute(&server.payment_of(
                        alice,
                        &vpn_core::wire::ReceiptInfo { units: 20 + number, ..server.info(10, first) },
                        first,
                    ));
                    let _ = book.submit(&server.open_bytes(alice, 2 + number, 30));
                    let _ = book.submit(&server.close_bytes(alice, 20 + number, first));
                    usize::from(paid.is_ok())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(won <= 1, "{won} payments of one output");
    assert_eq!(earned(&book), 10 * won as u128);
    assert_eq!(balance(&book, &alice) + locked(&book, &alice), 100 - earned(&book));
    assert_eq!(book.with(|inner| inner.state.last(&first)), None, "one closing was the last");
    audit(&book);
    let before = (balance(&book, &alice), locked(&book, &alice), operations(&book));
    drop(book);
    let (book, _) = server.open(&disk).unwrap();
    assert_eq!((balance(&book, &alice), locked(&book, &alice), operations(&book)), before);
}
