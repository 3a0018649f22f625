//! The meter against the model, for any events in any order.

use super::model::{Model, NS, State};
use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Step {
    time: u64,
    bytes: u64,
    is_alive: bool,
    event: Event,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Tick),
        1 => (0_u64..30, 0_u64..100_000).prop_map(|(time, bytes)| Event::Grace { time: ms(time * 500), bytes }),
        1 => (-3_i64..40, -3_i64..60).prop_map(|(bytes, seconds)| Event::Resumed {
            rest: Rest { bytes: bytes * 5000, seconds }
        }),
        4 => Just(Event::Paid),
        4 => Just(Event::Confirmed),
        1 => Just(Event::AskFailed),
        2 => Just(Event::AskRefused),
        1 => Just(Event::End),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![Just(0_u64), 0_u64..2 * NS, (0_u64..40).prop_map(|halves| halves * NS / 2)];
    let bytes = prop_oneof![Just(0_u64), 0_u64..3000, (0_u64..100).prop_map(|kilo| kilo * 1000)];
    (time, bytes, prop::bool::weighted(0.8), event()).prop_map(|(time, bytes, is_alive, event)| Step {
        time,
        bytes,
        is_alive,
        event,
    })
}

fn terms() -> impl Strategy<Value = Terms> {
    let unit = prop_oneof![Just((Unit::Bytes, 1000_u64)), Just((Unit::Seconds, 1))];
    (unit, prop_oneof![0_u64..5, 0_u64..100], 0_u64..60).prop_map(|((unit, scale), units, within)| Terms {
        unit,
        units: units * scale,
        confirm_within: Duration::from_secs(within + 1),
        save_every: Duration::from_secs(10),
    })
}

fn drain(meter: &mut Meter) -> (Vec<Action>, Option<Holding>) {
    let mut saved = None;
    let actions = std::iter::from_fn(|| meter.next_action());
    let actions = actions.filter(|action| match action {
        Action::Save(holding) => {
            saved = Some(*holding);
            false
        }
        _ => true,
    });
    (actions.collect(), saved)
}

/// Compares every number of the two.
fn compare(meter: &Meter, model: &Model) -> Result<(), TestCaseError> {
    let books = meter.books();
    prop_assert!(books.is_balanced(), "{:?}", books);
    let (left, debt) = model.charge();
    let rest: i128 = left.iter().sum();
    let exact = |number: u128| number as i128;
    prop_assert_eq!(exact(books.paid), model.paid());
    prop_assert_eq!(exact(books.served), model.served);
    prop_assert_eq!(exact(books.written_off), model.free);
    prop_assert_eq!(exact(books.debt), debt);
    prop_assert_eq!(exact(books.rest + books.rounded), rest);
    prop_assert_eq!(exact(books.charged), model.served - model.free - debt + exact(books.rounded));
    prop_assert_eq!(meter.is_allowed(), model.is_allowed());
    if meter.returned.is_some() {
        prop_assert!(exact(books.taken_back) >= model.taken_back());
    }

    let steps = model.steps();
    let covered = (model.in_ledger() - (model.served - model.free)).max(0);
    let expected = (covered / steps, (rest - covered) / steps);
    let holding = meter.holding();
    prop_assert_eq!((i128::from(holding.rest.of(model.terms.unit)), i128::from(holding.pending)), expected);
    prop_assert!(exact(books.rounded) == (covered % steps + (rest - covered) % steps) || model.state != State::Ended);

    if model.state != State::Ended {
        let next = model.payments.iter().position(|payment| payment.is_next && !payment.is_taken_back);
        let (current, next) = left.split_at(next.unwrap_or(left.len()));
        let current = current.iter().sum::<i128>() - debt;
        let shown = meter.left(Duration::from_nanos(model.now), Use { bytes: model.bytes, alive: ms(0) });
        prop_assert_eq!(i128::from(shown.current), current.div_euclid(steps));
        prop_assert_eq!(i128::from(shown.next), next.iter().sum::<i128>() / steps);
    }
    Ok(())
}

/// Until its next event is due, the meter would do nothing but save.
fn check_allowance(meter: &Meter, now: u64, bytes: u64) -> Result<(), TestCaseError> {
    let allowance = meter.allowance();
    prop_assert!(allowance.bytes_due <= allowance.bytes_limit);
    let until = allowance.until.map_or(u64::MAX / 2, |until| until.as_nanos() as u64);
    prop_assert!(until > now, "due in the past");
    if !meter.is_allowed() {
        prop_assert_eq!(allowance.bytes_limit, 0);
        return Ok(());
    }
    prop_assert!(allowance.bytes_due > bytes);
    let mut early = meter.clone();
    let used = Use { bytes: allowance.bytes_due - 1, alive: Duration::from_nanos(until - 1) };
    early.handle(Duration::from_nanos(until - 1), used, Event::Tick);
    prop_assert_eq!(drain(&mut early).0, Vec::new());
    if allowance.bytes_limit < u64::MAX {
        let mut at_limit = meter.clone();
        at_limit.handle(Duration::from_nanos(now), Use { bytes: allowance.bytes_limit, ..used }, Event::Tick);
        prop_assert!(!at_limit.is_allowed(), "no right is left at the limit");
    }
    Ok(())
}

fn names(actions: &[Action]) -> Vec<String> {
    let mut names: Vec<_> = actions.iter().map(|action| format!("{action:?}")).collect();
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// The driver may be late with everything.
    #[test]
    fn the_meter_equals_the_model(terms in terms(), steps in prop::collection::vec(step(), 1..60)) {
        let (mut now, mut bytes) = (5 * NS, 7);
        let mut meter = Meter::new(terms);
        let mut model = Model::new(terms, now, bytes);
        let mut alive = 0;
        let mut open_asks = 0;
        for step in steps {
            now += step.time;
            bytes += step.bytes;
            if model.served == 0 && model.state == State::New {
                // Nothing passes before the first grant.
                bytes -= step.bytes;
            }
            if step.is_alive {
                alive = now;
            }
            let used = Use { bytes, alive: Duration::from_nanos(alive) };
            meter.handle(Duration::from_nanos(now), used, step.event);
            let (actions, _) = drain(&mut meter);
            let expected = model.handle(now, bytes, alive, step.event);
            prop_assert_eq!(names(&actions), names(&expected), "{:?} at {}", step.event, now);
            compare(&meter, &model)?;
            check_allowance(&meter, now, bytes)?;

            if matches!(step.event, Event::Paid | Event::AskRefused | Event::AskFailed) {
                open_asks = 0;
            }
            open_asks += actions.iter().filter(|action| **action == Action::AskNext).count();
            prop_assert!(open_asks <= 1, "asked twice");
            let books = meter.books();
            let has_right = books.rest > 0 || matches!(meter.phase, Phase::Grace { .. });
            prop_assert!(!meter.is_allowed() || has_right, "served without a right");
        }
    }

    /// A driver that obeys the allowance: it looks at the time every half a second, and at bytes every 64 KiB.
    #[test]
    fn an_obedient_driver_stops_in_time_and_a_kill_costs_ten_seconds_at_most(
        terms in terms(),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let (mut now, mut bytes) = (5 * NS, 0);
        let mut meter = Meter::new(terms);
        let mut saved = None;
        let mut saved_at = now;
        for step in steps {
            let mut handle = |meter: &mut Meter, now: u64, bytes: u64, event| -> Result<(), TestCaseError> {
                let at = Duration::from_nanos(now);
                let before = meter.books();
                meter.handle(at, Use { bytes, alive: at }, event);
                if let (_, Some(holding)) = drain(meter) {
                    (saved, saved_at) = (Some(holding), now);
                }
                let books = meter.books();
                let overshoot = if terms.unit == Unit::Bytes { 65_536 } else { NS.into() };
                if event == Event::Tick && before.debt == 0 {
                    prop_assert!(books.written_off - before.written_off <= overshoot, "a late stop");
                }
                // What a kill now would leave on record, beside what the client has.
                let units = |holding: Holding| holding.rest.of(terms.unit) as u64 + holding.pending;
                let (record, actual) = (saved.map_or(0, units), units(meter.holding()));
                prop_assert!(record >= actual, "a kill would take paid units away");
                if record == actual {
                    saved_at = now;
                }
                match terms.unit {
                    Unit::Seconds => prop_assert!(record - actual <= 11, "{} {}", record, actual),
                    Unit::Bytes => prop_assert!(record == actual || now - saved_at <= 10 * NS + NS / 2),
                }
                Ok(())
            };
            let (end, all_bytes) = (now + step.time, bytes + step.bytes);
            while meter.is_allowed() && (now < end || bytes < all_bytes) {
                let due = meter.allowance();
                now = end.min(now + NS / 2);
                bytes = all_bytes.min(bytes + 60_000);
                let is_due = due.until.is_some_and(|until| Duration::from_nanos(now) >= until);
                if is_due || bytes >= due.bytes_due {
                    handle(&mut meter, now, bytes, Event::Tick)?;
                }
            }
            now = end;
            handle(&mut meter, now, bytes, step.event)?;
        }
    }
}
