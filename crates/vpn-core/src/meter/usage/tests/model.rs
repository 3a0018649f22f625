//! A plain model of the meter: a list of payments that are charged one after the other, and a list of the times that
//! were served.

use super::*;

/// A payment, or the former rest.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    units: i128,
    /// The SDK holds its receipt as the next one.
    pub(super) is_next: bool,
    /// When it must be in the ledger; `None` if it is.
    confirm_by: Option<u64>,
    pub(super) is_taken_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
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
pub(super) struct Model {
    pub(super) terms: Terms,
    pub(super) payments: Vec<Payment>,
    pub(super) state: State,
    pub(super) now: u64,
    pub(super) bytes: u64,
    alive: u64,
    /// All service, in steps; and that which no payment is charged with.
    pub(super) served: i128,
    pub(super) free: i128,
    times: Vec<Served>,
    has_rest: bool,
    may_ask_at: Option<u64>,
    asked: u32,
    is_open: bool,
}

pub(super) const NS: u64 = 1_000_000_000;

impl Model {
    pub(super) fn new(terms: Terms, now: u64, bytes: u64) -> Model {
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

    pub(super) fn is_allowed(&self) -> bool {
        matches!(self.state, State::Grace { .. } | State::Served)
    }

    pub(super) fn steps(&self) -> i128 {
        if self.terms.unit == Unit::Bytes { 1 } else { NS.into() }
    }

    fn receipt(&self) -> i128 {
        i128::from(self.terms.units) * self.steps()
    }

    pub(super) fn paid(&self) -> i128 {
        self.payments.iter().filter(|payment| !payment.is_taken_back).map(|payment| payment.units).sum()
    }

    pub(super) fn taken_back(&self) -> i128 {
        self.payments.iter().filter(|payment| payment.is_taken_back).map(|payment| payment.units).sum()
    }

    pub(super) fn in_ledger(&self) -> i128 {
        let is_in = |payment: &&Payment| !payment.is_taken_back && payment.confirm_by.is_none();
        self.payments.iter().filter(is_in).map(|payment| payment.units).sum()
    }

    /// Charges the payments, the first one first, and returns what each has left, and what no payment covers.
    pub(super) fn charge(&self) -> (Vec<i128>, i128) {
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
    pub(super) fn handle(&mut self, now: u64, bytes: u64, alive: u64, event: Event) -> Vec<Action> {
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
