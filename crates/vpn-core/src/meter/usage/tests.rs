use super::*;
use crate::meter::Left;

mod model;
mod properties;

const SECONDS: Terms = Terms {
    unit: Unit::Seconds,
    units: 20,
    confirm_within: Duration::from_secs(100),
    save_every: Duration::from_secs(10),
};
const BYTES: Terms = Terms { unit: Unit::Bytes, units: 2_000_000, ..SECONDS };

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A meter, and the time and the bytes of its last event.
struct Run {
    meter: Meter,
    now: Duration,
    bytes: u64,
}

impl Run {
    fn new(terms: Terms) -> Run {
        Run { meter: Meter::new(terms), now: ms(1000), bytes: 500 }
    }

    /// Passes an event `after` milliseconds in which `bytes` were served; returns the actions without those to save.
    fn event(&mut self, after: u64, bytes: u64, event: Event) -> Vec<Action> {
        self.now += ms(after);
        self.bytes += bytes;
        self.meter.handle(self.now, Use { bytes: self.bytes, alive: self.now }, event);
        self.actions()
    }

    /// The same for a client that does not show life.
    fn silent(&mut self, after: u64, event: Event) -> Vec<Action> {
        self.now += ms(after);
        self.meter.handle(self.now, Use { bytes: self.bytes, alive: ms(0) }, event);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        assert!(self.meter.books().is_balanced(), "{:?}", self.meter.books());
        let actions: Vec<_> = std::iter::from_fn(|| self.meter.next_action()).collect();
        actions.into_iter().filter(|action| !matches!(action, Action::Save(_))).collect()
    }

    fn saves(&mut self, after: u64, bytes: u64, event: Event) -> Option<Holding> {
        self.now += ms(after);
        self.bytes += bytes;
        self.meter.handle(self.now, Use { bytes: self.bytes, alive: self.now }, event);
        let actions: Vec<_> = std::iter::from_fn(|| self.meter.next_action()).collect();
        let mut saves = actions.into_iter().filter_map(|action| match action {
            Action::Save(holding) => Some(holding),
            _ => None,
        });
        let save = saves.next();
        assert_eq!(saves.next(), None, "one event saves once");
        save
    }

    fn until(&self) -> Option<u64> {
        Some(self.meter.allowance().until?.as_millis() as u64)
    }

    fn rest(&self) -> (i64, u64) {
        let holding = self.meter.holding();
        (holding.rest.of(self.meter.terms.unit), holding.pending)
    }
}

const STOPPED: [Action; 2] = [Action::Stop(StopReason::UnitsUsed), Action::Notify];

#[test]
fn seconds_from_the_first_receipt_to_the_end_with_a_switch() {
    let mut run = Run::new(SECONDS);
    assert!(!run.meter.is_allowed());
    assert_eq!(run.event(0, 0, Event::Paid), [Action::Allow]);
    assert_eq!(run.event(1000, 0, Event::Confirmed), []);
    // Nothing happens before half, packets or not.
    assert_eq!(run.until(), Some(11_000));
    assert_eq!(run.event(8999, 5_000_000, Event::Tick), []);
    assert_eq!(run.event(1, 0, Event::Tick), [Action::AskNext]);
    assert_eq!(run.event(10, 0, Event::Asked), []);
    assert_eq!(run.event(2000, 0, Event::Paid), []);
    assert_eq!(run.meter.left(run.now, run.meter.used), Left { current: 7, next: 20 });
    assert_eq!(run.event(10, 0, Event::Confirmed), []);
    // The switch comes late, and loses nothing.
    assert_eq!(run.event(8980, 0, Event::Tick), [Action::Switch]);
    assert_eq!(run.meter.left(run.now, run.meter.used), Left { current: 19, next: 0 });
    assert_eq!(run.event(9000, 0, Event::Tick), [Action::AskNext]);
    assert_eq!(run.event(0, 0, Event::AskFailed), []);
    assert_eq!(run.until(), Some(32_000), "ten seconds after the switch was saved");
    assert_eq!(run.event(9999, 0, Event::Tick), []);
    assert_eq!(run.event(801, 0, Event::Tick), STOPPED);
    let books = run.meter.books();
    assert_eq!((books.paid, books.charged), (40_000_000_000, 40_000_000_000));
    assert_eq!((books.served, books.written_off), (40_800_000_000, 800_000_000));
    assert_eq!(run.event(60_000, 0, Event::End), []);
    assert_eq!(run.meter.books(), books);
}

#[test]
fn bytes_are_exact_and_the_data_path_never_stalls_at_a_switch() {
    let mut run = Run::new(BYTES);
    run.event(0, 0, Event::Paid);
    let allowance = run.meter.allowance();
    assert_eq!((allowance.bytes_limit, allowance.bytes_due), (2_000_500, 2_000_500), "no half before the ledger");
    run.event(0, 0, Event::Confirmed);
    assert_eq!(run.meter.allowance().bytes_due, 1_000_500);
    assert_eq!(run.event(1, 999_999, Event::Tick), []);
    assert_eq!(run.event(1, 1, Event::Tick), [Action::AskNext]);
    assert_eq!(run.meter.allowance().bytes_due, 2_000_500);
    run.event(1, 1000, Event::Paid);
    let allowance = run.meter.allowance();
    assert_eq!((allowance.bytes_limit, allowance.bytes_due), (4_000_500, 2_000_500));
    run.event(0, 0, Event::Confirmed);
    assert_eq!(run.event(1, 999_000 + 60_000, Event::Tick), [Action::Switch]);
    assert_eq!(run.meter.left(run.now, run.meter.used), Left { current: 1_940_000, next: 0 });
    run.event(5, 940_000, Event::AskFailed);
    assert_eq!(run.event(1, 1_000_000 + 65_536, Event::Tick), STOPPED);
    assert_eq!(run.meter.allowance().bytes_limit, 0);
    let books = run.meter.books();
    assert_eq!((books.paid, books.charged, books.written_off), (4_000_000, 4_000_000, 65_536));
}

#[test]
fn an_unsigned_receipt_is_asked_for_three_times_and_never_twice_at_once() {
    let mut run = Run::new(SECONDS);
    let terms = Terms { units: 1000, ..SECONDS };
    run.meter = Meter::new(terms);
    run.event(0, 0, Event::Paid);
    run.event(0, 0, Event::Confirmed);
    assert_eq!(run.event(500_000, 0, Event::Tick), [Action::AskNext]);
    assert_eq!(run.event(30_000, 0, Event::Tick), []);
    for _ in 0..2 {
        assert_eq!(run.event(0, 0, Event::AskRefused), []);
        assert_eq!(run.event(0, 0, Event::AskRefused), [], "a second refusal of one request");
        assert_eq!(run.event(9999, 0, Event::Tick), []);
        assert_eq!(run.event(1, 0, Event::Tick), [Action::AskNext]);
    }
    run.event(0, 0, Event::AskRefused);
    assert_eq!(run.event(300_000, 0, Event::Tick), [], "three are enough");
    assert_eq!(run.event(1_000_000, 0, Event::Tick), STOPPED);
}

#[test]
fn a_receipt_signed_after_the_stop_lets_service_go_on_and_time_stands_still_in_between() {
    let mut run = Run::new(SECONDS);
    run.event(0, 0, Event::Paid);
    run.event(0, 0, Event::Confirmed);
    assert_eq!(run.event(12_000, 0, Event::Tick), [Action::AskNext]);
    assert_eq!(run.event(8_000, 0, Event::Tick), STOPPED);
    assert_eq!(run.until(), None);
    assert_eq!(run.event(25_000, 0, Event::Paid), [Action::Allow, Action::Switch]);
    assert_eq!(run.rest(), (0, 20));
    run.event(0, 0, Event::Confirmed);
    assert_eq!(run.event(1000, 0, Event::End), [Action::Stop(StopReason::Ended)]);
    assert_eq!(run.rest(), (19, 0));
}

#[test]
fn a_payment_that_is_not_in_the_ledger_delays_the_next_receipt() {
    let mut run = Run::new(SECONDS);
    run.event(0, 0, Event::Paid);
    assert_eq!(run.event(15_000, 0, Event::Tick), []);
    assert_eq!(run.event(1000, 0, Event::Confirmed), [Action::AskNext]);
}

#[test]
fn a_first_payment_that_never_reaches_the_ledger_stops_service_and_is_owed() {
    let mut run = Run::new(Terms { units: 1000, ..SECONDS });
    run.event(0, 0, Event::Paid);
    assert_eq!(run.until(), Some(11_000), "the save");
    assert_eq!(run.event(99_999, 0, Event::Tick), []);
    assert_eq!(run.event(1, 0, Event::Tick), [Action::Stop(StopReason::NotConfirmed), Action::Notify]);
    let books = run.meter.books();
    assert_eq!((books.paid, books.charged, books.rest), (0, 0, 0));
    assert_eq!((books.debt, books.taken_back), (100_000_000_000, 1_000_000_000_000));
    let mut late = Run { meter: run.meter.clone(), ..run };
    run.event(0, 0, Event::End);
    assert_eq!((run.meter.books().written_off, run.rest()), (100_000_000_000, (0, 0)));

    // It is late, but the client has paid.
    assert_eq!(late.event(50_000, 0, Event::Confirmed), [Action::Allow]);
    assert_eq!((late.rest(), late.meter.books().taken_back), ((900, 0), 0));
}

#[test]
fn a_next_payment_that_never_reaches_the_ledger_leaves_what_the_first_covers() {
    let mut run = Run::new(Terms { units: 300, ..SECONDS });
    run.event(0, 0, Event::Paid);
    run.event(0, 0, Event::Confirmed);
    assert_eq!(run.event(150_000, 0, Event::Tick), [Action::AskNext]);
    run.event(0, 0, Event::Paid);
    assert_eq!(run.rest(), (150, 300));
    assert_eq!(run.event(100_000, 0, Event::Tick), [], "covered by the first receipt");
    assert_eq!((run.rest(), run.meter.allowance().until), ((50, 0), Some(run.now + ms(10_000))));
    assert_eq!(run.event(49_999, 0, Event::Tick), []);
    assert_eq!(run.event(2, 0, Event::Tick), [Action::Stop(StopReason::NotConfirmed), Action::Notify]);
    assert_eq!(run.event(9, 0, Event::Confirmed), [Action::Allow, Action::Switch]);
    assert_eq!(run.meter.books().rest, 299_999_000_000);
}

#[test]
fn grace_ends_by_time_or_bytes_and_is_charged_to_the_first_receipt() {
    for terms in [SECONDS, BYTES] {
        let grace = Event::Grace { time: ms(10_000), bytes: 70_000 };
        let mut by_time = Run::new(terms);
        assert_eq!(by_time.event(0, 0, grace), [Action::Allow]);
        assert_eq!(by_time.event(0, 0, grace), []);
        assert_eq!(by_time.event(9_999, 69_999, Event::Tick), []);
        assert_eq!(by_time.meter.allowance().bytes_limit, 70_500);
        assert_eq!(by_time.event(1, 0, Event::Tick), [Action::Stop(StopReason::GraceTime), Action::Notify]);
        assert_eq!(by_time.meter.grace_used(), (ms(10_000), 69_999));
        let mut by_bytes = Run::new(terms);
        by_bytes.event(0, 0, grace);
        let stop = by_bytes.event(5_000, 70_000, Event::Tick);
        assert_eq!(stop, [Action::Stop(StopReason::GraceBytes), Action::Notify]);

        assert_eq!(by_time.event(3_000, 0, Event::Paid), [Action::Allow]);
        let (time, bytes) = (by_time.rest(), if terms == SECONDS { (0, 10) } else { (0, 1_930_001) });
        assert_eq!(time, bytes);
        let mut unpaid = Run::new(terms);
        unpaid.event(0, 0, grace);
        assert_eq!(unpaid.event(4000, 4000, Event::End), [Action::Stop(StopReason::Ended)]);
        let books = unpaid.meter.books();
        assert_eq!((books.debt, books.written_off), (0, books.served));
        assert!(books.served >= 4000);
    }
}

#[test]
fn a_payment_in_grace_goes_on_without_a_break() {
    let mut run = Run::new(SECONDS);
    run.event(0, 0, Event::Grace { time: ms(10_000), bytes: u64::MAX });
    assert_eq!(run.meter.left(run.now + ms(500), run.meter.used).current, -1);
    assert_eq!(run.event(4_500, 0, Event::Paid), []);
    assert_eq!(run.meter.books().rest, 15_500_000_000);
    assert_eq!(run.meter.left(run.now, run.meter.used), Left { current: 15, next: 0 });
}

#[test]
fn a_debt_above_the_receipt_stops_service_and_the_remainder_is_written_off() {
    let mut run = Run::new(Terms { units: 3, ..SECONDS });
    run.event(0, 0, Event::Grace { time: ms(10_000), bytes: u64::MAX });
    let mut stopped = Run { meter: run.meter.clone(), ..run };
    assert_eq!(run.event(5_000, 0, Event::Paid), STOPPED);
    let books = run.meter.books();
    assert_eq!((books.charged, books.written_off, books.debt), (3_000_000_000, 2_000_000_000, 0));
    stopped.event(10_000, 0, Event::Tick);
    assert_eq!(stopped.event(0, 0, Event::Paid), STOPPED, "the client learns that it gets nothing");
    assert_eq!(stopped.meter.books().written_off, 7_000_000_000);
}

#[test]
fn a_rest_serves_without_a_receipt_and_the_other_unit_is_kept() {
    let mut run = Run::new(SECONDS);
    let rest = Rest { bytes: 77, seconds: 15 };
    assert_eq!(run.event(0, 0, Event::Resumed { rest }), [Action::Allow]);
    assert_eq!(run.event(0, 0, Event::Resumed { rest }), [], "once");
    assert_eq!(run.event(5_000, 9_000, Event::Tick), [Action::AskNext], "at half of a receipt");
    run.event(0, 0, Event::Paid);
    assert_eq!(run.event(10_000, 0, Event::Confirmed), [Action::Switch]);
    run.event(1_400, 0, Event::End);
    assert_eq!(run.meter.holding(), Holding { rest: Rest { bytes: 77, seconds: 18 }, pending: 0 });
    assert_eq!(run.meter.books().rounded, 600_000_000);

    let mut nothing = Run::new(BYTES);
    assert_eq!(nothing.event(0, 0, Event::Resumed { rest: Rest { bytes: -5, seconds: 15 } }), []);
    assert!(!nothing.meter.is_allowed());
    assert_eq!(nothing.event(0, 0, Event::Paid), [Action::Allow], "a first receipt, with nothing to switch from");
}

#[test]
fn grace_is_charged_to_a_rest_too() {
    let mut run = Run::new(SECONDS);
    run.event(0, 0, Event::Grace { time: ms(10_000), bytes: u64::MAX });
    assert_eq!(run.event(4_000, 0, Event::Resumed { rest: Rest { bytes: 0, seconds: 15 } }), []);
    assert_eq!(run.rest(), (11, 0));
}

#[test]
fn a_vanished_client_pays_to_its_last_sign_of_life() {
    let mut run = Run::new(SECONDS);
    run.event(0, 0, Event::Paid);
    run.event(7_250, 0, Event::Confirmed);
    assert_eq!(run.silent(5_000, Event::Tick), [Action::AskNext]);
    let mut back = Run { meter: run.meter.clone(), ..run };
    run.silent(1_000, Event::End);
    assert_eq!((run.rest(), run.meter.books().served), ((12, 0), 7_250_000_000));

    // After the stop, what was written off comes back first.
    assert_eq!(back.silent(8_000, Event::Tick), STOPPED);
    let mut alive = Run { meter: back.meter.clone(), ..back };
    back.silent(5_000, Event::End);
    let books = back.meter.books();
    assert_eq!((back.rest(), books.served, books.written_off), ((12, 0), 7_250_000_000, 0));
    assert_eq!(alive.event(5_000, 0, Event::End), []);
    assert_eq!((alive.rest(), alive.meter.books().written_off), ((0, 0), 250_000_000));
}

#[test]
fn the_rest_is_saved_at_events_and_every_ten_seconds_while_it_changes() {
    let mut run = Run::new(Terms { units: 100_000, ..BYTES });
    assert_eq!(run.saves(0, 0, Event::Tick), None);
    let holding = |bytes, pending| Some(Holding { rest: Rest { bytes, seconds: 0 }, pending });
    assert_eq!(run.saves(0, 0, Event::Paid), holding(0, 100_000));
    assert_eq!(run.saves(500, 100, Event::Confirmed), holding(99_900, 0));
    assert_eq!(run.saves(9_999, 100, Event::Tick), None);
    assert_eq!(run.saves(1, 100, Event::Tick), holding(99_700, 0));
    assert_eq!(run.saves(10_000, 0, Event::Tick), None, "unchanged");
    assert_eq!(run.until(), Some(31_500));
    assert_eq!(run.saves(10_000, 1, Event::Tick), holding(99_699, 0));
    assert_eq!(run.saves(1, 100_001, Event::Tick), holding(0, 0));
    assert_eq!(run.saves(1, 0, Event::End), holding(0, 0));
    assert_eq!(run.saves(1, 0, Event::End), None);
}

#[test]
fn an_end_before_the_ledger_leaves_pending_units() {
    let mut run = Run::new(SECONDS);
    run.event(0, 0, Event::Paid);
    run.event(4_001, 0, Event::End);
    assert_eq!(run.rest(), (0, 15));
    let books = run.meter.books();
    assert_eq!((books.rounded, books.rest), (999_000_000, 15_000_000_000));
    assert_eq!(run.event(1, 0, Event::Paid), [], "everything after the end is ignored");
    assert_eq!(run.meter.books(), books);
}

#[test]
fn extreme_values() {
    for unit in [Unit::Bytes, Unit::Seconds] {
        let terms = Terms { unit, units: u64::MAX, confirm_within: Duration::MAX, save_every: Duration::MAX };
        let mut run = Run::new(terms);
        run.event(0, 0, Event::Grace { time: Duration::MAX, bytes: u64::MAX });
        for _ in 0..5 {
            run.event(0, 0, Event::Paid);
        }
        assert_eq!(run.meter.left(run.now, run.meter.used).next, i64::MAX);
        run.meter.handle(Duration::MAX, Use { bytes: u64::MAX, alive: Duration::MAX }, Event::Confirmed);
        run.actions();
        run.meter.handle(Duration::ZERO, Use::default(), Event::Tick);
        run.actions();
        assert_eq!(run.meter.allowance().bytes_limit, u64::MAX);
        run.meter.handle(Duration::ZERO, Use::default(), Event::End);
        run.actions();
        assert_eq!(run.meter.holding().rest.of(unit), i64::MAX);

        let mut empty = Run::new(Terms { unit, units: 0, confirm_within: ms(0), save_every: ms(0) });
        let stop = empty.event(0, 0, Event::Paid);
        assert!(!empty.meter.is_allowed() && stop.contains(&Action::Notify) && !stop.contains(&Action::Allow));
    }
}

#[test]
fn a_clock_and_a_counter_that_go_back_stand_still() {
    for terms in [SECONDS, BYTES] {
        let mut run = Run::new(terms);
        run.event(0, 0, Event::Paid);
        run.event(2_000, 3_000, Event::Tick);
        let books = run.meter.books();
        for (now, bytes) in [(ms(2_500), 1_000), (ms(0), 0), (run.now, run.bytes)] {
            run.meter.handle(now, Use { bytes, alive: now }, Event::Tick);
            assert_eq!((run.actions(), run.meter.books()), (vec![], books));
        }
        run.event(1_000, 1_000, Event::Tick);
        assert_eq!(run.meter.books().served, if terms == SECONDS { 3_000_000_000 } else { 4_000 });
    }
}

#[test]
fn bytes_that_pass_after_the_stop_are_written_off() {
    let mut run = Run::new(BYTES);
    run.event(0, 0, Event::Paid);
    run.event(0, 2_000_000, Event::Tick);
    run.event(1, 1500, Event::Tick);
    assert_eq!((run.meter.books().written_off, run.meter.books().charged), (1500, 2_000_000));
}

#[test]
fn only_two_units_are_sold() {
    for number in 0..=0xff {
        let unit = Unit::from_wire(number);
        assert_eq!(unit.map(Unit::to_wire), (number == 0x11 || number == 2).then_some(number));
    }
    assert_eq!((Unit::from_wire(0x11), Unit::from_wire(2)), (Some(Unit::Bytes), Some(Unit::Seconds)));
    assert_eq!(Unit::from_wire(0x1_0002), None);
}
