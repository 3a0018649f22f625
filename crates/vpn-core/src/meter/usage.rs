//! One usage of one session.

use super::books::{Account, Holding};
use super::terms::{Action, Event, Rest, StopReason, Terms, Unit, Use};
use state::{Ask, GraceUse, Phase, Returned, Silence};
use std::collections::VecDeque;
use std::time::Duration;

/// How often one next receipt is asked for. The SDK sends each request three times before it gives up.
const MAX_ASKS: u32 = 3;
/// The time between a refusal and the next request: that of the SDK's own repetitions.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// The shortest time between two saves of a mere change.
const MIN_SAVE: Duration = Duration::from_secs(1);

/// Counts what one session is served against what its client paid.
///
/// - Units are granted when a payment is in the mempool. If it does not reach the ledger in time, its units are taken
///   back; they are granted again if it reaches the ledger later.
/// - At half of a receipt, as soon as the last payment is in the ledger, the meter asks for one next receipt.
/// - When the last unit is used, service stops, whatever is pending. What passed until the stop is written off. A later
///   payment lets service go on; time does not count in between.
/// - Grace is debt, and so is what was served for a payment that was taken back. The next payment is charged with it.
///   If the debt exceeds that payment, the remainder is written off and service stops at once.
/// - Time counts to the end of the session, or to the last sign of life of a client that did not come back after it.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::meter::{Action, Event, Meter, StopReason, Terms, Unit, Use};
///
/// let at = Duration::from_secs;
/// let terms = Terms { unit: Unit::Bytes, units: 1000, confirm_within: at(60), save_every: at(10) };
/// let mut meter = Meter::new(terms);
/// meter.handle(at(0), Use { bytes: 0, alive: at(0) }, Event::Paid);
/// assert_eq!(meter.next_action(), Some(Action::Allow));
/// assert!(matches!(meter.next_action(), Some(Action::Save(_))));
/// assert_eq!(meter.allowance().bytes_limit, 1000);
///
/// meter.handle(at(5), Use { bytes: 1040, alive: at(5) }, Event::Tick);
/// assert_eq!(meter.next_action(), Some(Action::Stop(StopReason::UnitsUsed)));
/// assert_eq!(meter.next_action(), Some(Action::Notify));
/// let books = meter.books();
/// assert_eq!((books.paid, books.charged, books.written_off), (1000, 1000, 40));
/// ```
#[derive(Clone, Debug)]
pub struct Meter {
    terms: Terms,
    /// The steps of one receipt.
    receipt: u128,
    phase: Phase,
    account: Account,
    /// The last event's time; `None` before the first.
    now: Option<Duration>,
    used: Use,
    silence: Silence,
    /// The rest that the session started with.
    former: Option<Rest>,
    /// The SDK has a receipt, or serves a rest: a further receipt is a next one.
    has_receipt: bool,
    /// The value of [`Account::used`] at which the paid next receipt takes over.
    switch_at: Option<u128>,
    is_next_in_ledger: bool,
    /// When the units that are not in the ledger are taken back.
    confirm_by: Option<Duration>,
    returned: Option<Returned>,
    ask: Ask,
    asks: u32,
    grace: GraceUse,
    saved: Holding,
    save_checked: Duration,
    must_save: bool,
    actions: VecDeque<Action>,
}

impl Meter {
    /// Creates the meter of a session that has no right yet.
    pub fn new(terms: Terms) -> Meter {
        Meter {
            terms: Terms { save_every: terms.save_every.max(MIN_SAVE), ..terms },
            receipt: u128::from(terms.units) * terms.unit.steps(),
            phase: Phase::Idle,
            account: Account::default(),
            now: None,
            used: Use::default(),
            silence: Silence::default(),
            former: None,
            has_receipt: false,
            switch_at: None,
            is_next_in_ledger: false,
            confirm_by: None,
            returned: None,
            ask: Ask::No,
            asks: 0,
            grace: GraceUse::default(),
            saved: Holding::default(),
            save_checked: Duration::ZERO,
            must_save: false,
            actions: VecDeque::new(),
        }
    }

    /// Returns the terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Takes an event. `now` is the monotonic time since any fixed origin. The driver then performs the actions that
    /// [`Meter::next_action`] returns.
    ///
    /// Times and counters that go backwards are read as unchanged.
    pub fn handle(&mut self, now: Duration, used: Use, event: Event) {
        if self.phase == Phase::Ended {
            return;
        }
        let now = self.advance(now, used);
        match event {
            Event::Grace { time, bytes } => self.start_grace(now, time, bytes),
            Event::Resumed { rest } => self.resume(now, rest),
            Event::Paid => self.pay(now),
            Event::Confirmed => self.confirm(now),
            Event::Asked if self.ask != Ask::Never => self.ask = Ask::Open,
            Event::AskFailed => self.ask = Ask::Never,
            Event::AskRefused if self.ask == Ask::Open && self.asks < MAX_ASKS => {
                self.ask = Ask::Again(now.saturating_add(ASK_AGAIN));
            }
            Event::AskRefused if self.ask == Ask::Open => self.ask = Ask::Never,
            Event::Asked | Event::AskRefused | Event::Tick => {}
            Event::End => return self.end(now),
        }
        self.settle(now);
        self.save(now);
    }

    /// Returns the next action; `None` if all were returned.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns whether the client's packets may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self.phase, Phase::Grace { .. } | Phase::Served)
    }

    /// Returns the time and the bytes since the last event.
    fn since(&self, now: Duration, used: Use) -> (Duration, u64) {
        let time = self.now.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        let bytes = if self.now.is_some() { used.bytes.saturating_sub(self.used.bytes) } else { 0 };
        (time, bytes)
    }

    fn steps(&self, time: Duration, bytes: u64) -> u128 {
        match self.terms.unit {
            Unit::Bytes => bytes.into(),
            Unit::Seconds => time.as_nanos(),
        }
    }

    /// Counts what was served since the last event, and returns the time of this one.
    fn advance(&mut self, now: Duration, used: Use) -> Duration {
        let (time, bytes) = self.since(now, used);
        let now = self.now.map_or(now, |last| last.max(now));
        self.now = Some(now);
        self.used.bytes = self.used.bytes.max(used.bytes);
        let steps = self.steps(time, bytes);
        if self.is_allowed() {
            self.account.served = self.account.served.saturating_add(steps);
            self.silence.served = self.silence.served.saturating_add(time.as_nanos());
            self.silence.run.1 = now;
        } else if self.terms.unit == Unit::Bytes {
            // Another thread had let the packet pass before it saw the stop.
            self.account.served = self.account.served.saturating_add(steps);
            self.account.written_off = self.account.written_off.saturating_add(steps);
        }
        if matches!(self.phase, Phase::Grace { .. }) {
            self.grace.time = self.grace.time.saturating_add(time);
            self.grace.bytes = self.grace.bytes.saturating_add(bytes);
        }
        self.show_life(used.alive.min(now));
        now
    }

    fn show_life(&mut self, alive: Duration) {
        if alive > self.used.alive {
            self.used.alive = alive;
            self.silence.end(alive);
        }
    }

    fn start_grace(&mut self, now: Duration, time: Duration, bytes: u64) {
        if self.phase == Phase::Idle {
            let (until, bytes_limit) = (now.saturating_add(time), self.used.bytes.saturating_add(bytes));
            self.start(now, Phase::Grace { until, bytes_limit });
            self.actions.push_back(Action::Allow);
        }
    }

    fn resume(&mut self, now: Duration, rest: Rest) {
        let steps = u128::from(rest.of(self.terms.unit).unsigned_abs()) * self.terms.unit.steps();
        if self.former.is_some() {
            return;
        }
        self.former = Some(rest);
        if steps > 0 {
            self.has_receipt = true;
            // The rest is used before any receipt.
            let later = |at: u128| at.saturating_add(steps);
            self.switch_at = self.switch_at.map(later);
            if let Some(returned) = &mut self.returned {
                returned.switch_at = returned.switch_at.map(later);
            }
            self.grant(now, steps);
        }
    }

    fn pay(&mut self, now: Duration) {
        self.show_life(now);
        if self.has_receipt && self.switch_at.is_none() {
            (self.switch_at, self.is_next_in_ledger) = (Some(self.account.paid), false);
        }
        self.has_receipt = true;
        // A payment that was taken back can no longer be confirmed: this event's is the last now.
        self.returned = None;
        self.account.unconfirmed = self.account.unconfirmed.saturating_add(self.receipt);
        self.confirm_by.get_or_insert(now.saturating_add(self.terms.confirm_within));
        (self.ask, self.asks) = (Ask::No, 0);
        self.grant(now, self.receipt);
    }

    fn confirm(&mut self, now: Duration) {
        self.must_save |= self.confirm_by.is_some();
        self.account.unconfirmed = 0;
        self.confirm_by = None;
        if let Some(Returned { steps, switch_at }) = self.returned.take() {
            self.account.taken_back = self.account.taken_back.saturating_sub(steps);
            self.switch_at = self.switch_at.or(switch_at);
            self.grant(now, steps);
        }
        self.is_next_in_ledger = true;
    }

    fn grant(&mut self, now: Duration, steps: u128) {
        self.account.paid = self.account.paid.saturating_add(steps);
        self.must_save = true;
        if self.is_allowed() {
            self.phase = Phase::Served;
        } else {
            self.start(now, Phase::Served);
            if self.account.rest() > 0 {
                self.actions.push_back(Action::Allow);
            }
        }
    }

    fn start(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.silence.run = (now, now);
    }

    /// Does what follows from the time and the account.
    fn settle(&mut self, now: Duration) {
        if self.confirm_by.is_some_and(|by| now >= by) {
            self.take_back();
        }
        match self.phase {
            Phase::Grace { until, .. } if now >= until => self.stop(StopReason::GraceTime),
            Phase::Grace { bytes_limit, .. } if self.used.bytes >= bytes_limit => self.stop(StopReason::GraceBytes),
            Phase::Served => {
                if self.switch_at.is_some_and(|at| self.account.used() >= at) {
                    self.switch_at = None;
                    self.must_save = true;
                    self.actions.push_back(Action::Switch);
                }
                if self.account.rest() == 0 {
                    let is_confirmed = self.returned.is_none();
                    self.stop(if is_confirmed { StopReason::UnitsUsed } else { StopReason::NotConfirmed });
                }
            }
            _ => {}
        }
        let is_time = self.ask == Ask::No || matches!(self.ask, Ask::Again(at) if now >= at);
        if self.phase == Phase::Served && self.is_half_used() && is_time && self.may_ask() {
            self.ask = Ask::Open;
            self.asks += 1;
            self.actions.push_back(Action::AskNext);
        }
    }

    /// With a paid next receipt more is left.
    fn is_half_used(&self) -> bool {
        self.account.rest().saturating_mul(2) <= self.receipt
    }

    /// The SDK can pay only from a transaction in the ledger.
    fn may_ask(&self) -> bool {
        self.confirm_by.is_none() && self.returned.is_none()
    }

    fn take_back(&mut self) {
        let steps = std::mem::take(&mut self.account.unconfirmed);
        self.account.paid = self.account.paid.saturating_sub(steps);
        self.account.taken_back = self.account.taken_back.saturating_add(steps);
        self.confirm_by = None;
        self.must_save = true;
        let switch_at = if self.is_next_in_ledger { None } else { self.switch_at.take() };
        self.returned = Some(Returned { steps, switch_at });
    }

    fn stop(&mut self, reason: StopReason) {
        if reason == StopReason::UnitsUsed {
            let debt = self.account.debt();
            self.account.written_off = self.account.written_off.saturating_add(debt);
            self.silence.written_off = self.silence.written_off.saturating_add(debt).min(self.silence.served);
        }
        self.phase = Phase::Stopped;
        self.must_save = true;
        self.actions.extend([Action::Stop(reason), Action::Notify]);
    }

    fn end(&mut self, now: Duration) {
        if self.is_allowed() {
            self.actions.push_back(Action::Stop(StopReason::Ended));
        }
        (self.phase, self.confirm_by) = (Phase::Ended, None);
        if self.terms.unit == Unit::Seconds {
            self.account.served = self.account.served.saturating_sub(self.silence.served);
            self.account.written_off = self.account.written_off.saturating_sub(self.silence.written_off);
        }
        self.account.written_off = self.account.written_off.saturating_add(self.account.debt());
        self.account.round(self.terms.unit);
        self.must_save = true;
        self.save(now);
    }

    /// Saves at each event, and from time to time while the rest changes.
    fn save(&mut self, now: Duration) {
        if !self.must_save && now.saturating_sub(self.save_checked) < self.terms.save_every {
            return;
        }
        self.save_checked = now;
        let holding = self.holding();
        let is_client = self.has_receipt || self.former.is_some();
        if std::mem::take(&mut self.must_save) && is_client || holding != self.saved {
            self.saved = holding;
            // An older one that the driver did not fetch is obsolete.
            self.actions.retain(|action| !matches!(action, Action::Save(_)));
            self.actions.push_back(Action::Save(holding));
        }
    }
}

mod reading;
mod state;

#[cfg(test)]
mod tests;
