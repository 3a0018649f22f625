//! The meter against a plain model: a list of payments that are filled one after the other, and a list of the times
//! that were served.

use super::*;
use proptest::prelude::*;

/// A payment, or the former rest.
#[derive(Clone, Debug)]
struct Payment {
    units: i128,
    /// The SDK holds its receipt as the next one.
    is_next: bool,
    /// When it must be in the ledger; `None` if it is.
    confirm_by: Option<u64>,
    is_taken_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    New,
    Grace { until: u64, bytes: u64 },
    Served,
    Stopped,
    Ended,
}

/// A part of the session in which packets passed, in nanoseconds. The last `free` of them are written off.
#[derive(Clone, Debug)]
struct Served {
    from: u64,
    to: u64,
    free: u64,
}

#[derive(Clone, Debug)]
struct Model {
    terms: Terms,
    payments: Vec<Payment>,
    state: State,
    now: u64,
    bytes: u64,
    alive: u64,
    /// All service, in steps; and that which no payment is charged with.
    served: i128,
    free: i128,
    times: Vec<Served>,
    has_rest: bool,
    may_ask_at: Option<u64>,
    asked: u32,
    is_open: bool,
}

const NS: u64 = 1_000_000_000;

impl Model {
    fn new(terms: Terms, now: u64, bytes: u64) -> Model {
        Model {
            terms,
            payments: Vec::new(),
            state: State::New,
            now,
            bytes,
            alive: 0,
            served: 0,
            free: 0,
            times: Vec::new(),
            has_rest: false,
            may_ask_at: Some(0),
            asked: 0,
            is_open: false,
        }
    }

    fn is_allowed(&self) -> bool {
        matches!(self.state, State::Grace { .. } | State::Served)
    }

    fn steps(&self) -> i128 {
        if self.terms.unit == Unit::Bytes { 1 } else { NS.into() }
    }

    fn receipt(&self) -> i128 {
        i128::from(self.terms.units) * self.steps()
    }

    fn paid(&self) -> i128 {
        self.payments.iter().filter(|payment| !payment.is_taken_back).map(|payment| payment.units).sum()
    }

    fn taken_back(&self) -> i128 {
        self.payments.iter().filter(|payment| payment.is_taken_back).map(|payment| payment.units).sum()
    }

    fn in_ledger(&self) -> i128 {
        let is_in = |payment: &&Payment| !payment.is_taken_back && payment.confirm_by.is_none();
        self.payments.iter().filter(is_in).map(|payment| payment.units).sum()
    }

    /// Charges the payments, the first one first, and returns what each has left, and what no payment covers.
    fn charge(&self) -> (Vec<i128>, i128) {
        let mut to_charge = self.served - self.free;
        let mut left = Vec::new();
        for payment in self.payments.iter() {
            let units = if payment.is_taken_back { 0 } else { payment.units };
            let charged = to_charge.min(units);
            to_charge -= charged;
            left.push(units - charged);
        }
        (left, to_charge)
    }

    fn rest(&self) -> i128 {
        self.charge().0.iter().sum()
    }

    fn serve(&mut self, now: u64, bytes: u64) {
        let steps = match self.terms.unit {
            Unit::Bytes => i128::from(bytes - self.bytes),
            Unit::Seconds => i128::from(now - self.now),
        };
        if self.is_allowed() {
            self.served += steps;
            self.times.push(Served { from: self.now, to: now, free: 0 });
        } else if self.terms.unit == Unit::Bytes {
            self.served += steps;
            self.free += steps;
        }
        (self.now, self.bytes) = (now, bytes);
    }

    /// Returns the actions, without those to save.
    fn handle(&mut self, now: u64, bytes: u64, alive: u64, event: Event) -> Vec<Action> {
        if self.state == State::Ended {
            return Vec::new();
        }
        let mut actions = Vec::new();
        self.serve(now, bytes);
        self.alive = self.alive.max(alive);
        let was_allowed = self.is_allowed();
        match event {
            Event::Grace { time, bytes } if self.state == State::New => {
                self.state = State::Grace { until: now + time.as_nanos() as u64, bytes: self.bytes + bytes };
            }
            Event::Resumed { rest } if !self.has_rest => {
                self.has_rest = true;
                let units = i128::from(rest.of(self.terms.unit)) * self.steps();
                if units > 0 {
                    let payment = Payment { units, is_next: false, confirm_by: None, is_taken_back: false };
                    self.payments.insert(0, payment);
                    self.state = State::Served;
                }
            }
            Event::Paid => {
                self.alive = now;
                self.forget_taken_back();
                let is_next = !self.payments.is_empty();
                let is_first_next = is_next && !self.payments.iter().any(|payment| payment.is_next);
                let confirm_by = now + self.terms.confirm_within.as_nanos() as u64;
                self.payments.push(Payment {
                    units: self.receipt(),
                    is_next: is_first_next,
                    confirm_by: Some(confirm_by),
                    is_taken_back: false,
                });
                self.state = State::Served;
                (self.may_ask_at, self.asked, self.is_open) = (Some(0), 0, false);
            }
            Event::Confirmed => {
                if self.taken_back_any() {
                    self.state = State::Served;
                }
                for payment in &mut self.payments {
                    (payment.confirm_by, payment.is_taken_back) = (None, false);
                }
            }
            Event::AskFailed => (self.is_open, self.may_ask_at) = (false, None),
            Event::AskRefused if self.is_open => {
                self.is_open = false;
                self.may_ask_at = (self.asked < 3).then_some(now + 10 * NS);
            }
            Event::End => {
                if was_allowed {
                    actions.push(Action::Stop(StopReason::Ended));
                }
                self.state = State::Ended;
                self.give_back_silence();
                self.free += self.charge().1;
                return actions;
            }
            _ => {}
        }
        let is_free_again = self.state == State::Served && !was_allowed && self.rest() > 0;
        if is_free_again || (self.is_allowed() && !was_allowed && self.state != State::Served) {
            actions.push(Action::Allow);
        }
        self.follow(now, &mut actions);
        actions
    }

    /// Payments that were taken back are out of the chain once another payment comes; the SDK has seen them.
    fn forget_taken_back(&mut self) {
        for payment in &mut self.payments {
            if payment.is_taken_back {
                (payment.units, payment.is_next) = (0, false);
                (payment.is_taken_back, payment.confirm_by) = (false, None);
            }
        }
    }

    fn taken_back_any(&self) -> bool {
        self.payments.iter().any(|payment| payment.is_taken_back)
    }

    fn follow(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.payments.iter().filter_map(|payment| payment.confirm_by).any(|by| now >= by) {
            for payment in &mut self.payments {
                payment.is_taken_back |= payment.confirm_by.take().is_some();
            }
        }
        let mut stop = None;
        match self.state {
            State::Grace { until, .. } if now >= until => stop = Some(StopReason::GraceTime),
            State::Grace { bytes, .. } if self.bytes >= bytes => stop = Some(StopReason::GraceBytes),
            State::Served => {
                let (left, debt) = self.charge();
                let next = self.payments.iter().position(|payment| payment.is_next && !payment.is_taken_back);
                if let Some(next) = next
                    && left[..next].iter().sum::<i128>() == 0
                {
                    self.payments[next].is_next = false;
                    actions.push(Action::Switch);
                }
                if left.iter().sum::<i128>() == 0 {
                    stop = Some(StopReason::NotConfirmed);
                    if !self.taken_back_any() {
                        stop = Some(StopReason::UnitsUsed);
                        self.free += debt;
                        self.mark_free(debt);
                    }
                }
            }
            _ => {}
        }
        if let Some(reason) = stop {
            self.state = State::Stopped;
            actions.extend([Action::Stop(reason), Action::Notify]);
        }
        let is_settled = !self.taken_back_any() && self.payments.iter().all(|payment| payment.confirm_by.is_none());
        let is_time = self.may_ask_at.is_some_and(|at| now >= at) && !self.is_open;
        if self.state == State::Served && is_settled && is_time && 2 * self.rest() <= self.receipt() {
            self.is_open = true;
            self.asked += 1;
            actions.push(Action::AskNext);
        }
    }

    fn mark_free(&mut self, steps: i128) {
        let mut steps = steps as u64;
        for part in self.times.iter_mut().rev() {
            let free = steps.min(part.to - part.from);
            part.free = free.max(part.free);
            steps -= free;
        }
    }

    /// A client that vanished pays to its last sign of life.
    fn give_back_silence(&mut self) {
        if self.terms.unit == Unit::Seconds {
            for part in &self.times {
                let silent = part.to.saturating_sub(part.from.max(self.alive));
                self.served -= i128::from(silent);
                self.free -= i128::from(silent.min(part.free));
            }
        }
    }
}

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
