//! Meters and the table of rests together: one client's account over many sessions, kills and restarts.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const CLIENT: Client = Client { key: [9; 32], net: 3 };
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How long a payment may take to the ledger.
const CONFIRM: Duration = Duration::from_secs(40);

/// What a session does next, after the time and the bytes.
#[derive(Clone, Copy, Debug)]
enum Step {
    Tick,
    Pay,
    Confirm,
    Grace,
    End,
    Kill,
}

fn step() -> impl Strategy<Value = (u64, u64, Step)> {
    let step = prop_oneof![
        6 => Just(Step::Tick),
        4 => Just(Step::Pay),
        3 => Just(Step::Confirm),
        1 => Just(Step::Grace),
        3 => Just(Step::End),
        1 => Just(Step::Kill),
    ];
    (0_u64..9000, prop_oneof![Just(0_u64), 0_u64..70_000], step)
}

/// The server: its table, its store, and at most one session of the client.
struct Server {
    rests: Rests,
    stored: Option<Write>,
    session: Option<Session>,
    now: Duration,
    sessions: u64,
    account: [Account; 2],
}

struct Session {
    meter: Meter,
    bytes: u64,
    payments: u128,
    /// The last payment, as long as it is not in the ledger.
    payment: Option<PaymentId>,
}

/// The sums of one unit, in steps.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    paid: u128,
    charged: u128,
    expired: u128,
    /// What kills gave to the client; below 0 what they took.
    by_kills: i128,
}

impl Server {
    fn begin(&mut self, unit: Unit, units: u64) {
        self.sessions += 1;
        let Write { record, .. } = self.stored.clone().unwrap_or_else(|| self.empty());
        self.rests.load(CLIENT, Some(&record)).unwrap();
        let Taken::Rest(rest) = self.rests.take(CLIENT, unit, self.sessions) else { return };
        assert_eq!(self.rests.take(CLIENT, unit, 0), Taken::Busy { owner: self.sessions });
        let terms = Terms { unit, units, confirm_within: CONFIRM, save_every: SAVE_EVERY };
        self.session = Some(Session { meter: Meter::new(terms), bytes: 0, payments: 0, payment: None });
        self.event(Event::Resumed { rest });
    }

    fn empty(&self) -> Write {
        Write { client: CLIENT, version: 0, record: [0; Rest::RECORD_LEN], pending: Vec::new(), is_event: false }
    }

    fn event(&mut self, event: Event) {
        let Some(session) = &mut self.session else { return };
        session.meter.handle(self.now, Use { bytes: session.bytes, alive: self.now }, event);
        while let Some(action) = session.meter.next_action() {
            if let Action::Save(holding) = action {
                let payment = session.payment.filter(|_| holding.pending > 0);
                assert!(self.rests.update(CLIENT, self.sessions, holding, payment, Urgency::Event));
            }
        }
        let books = session.meter.books();
        assert!(books.is_balanced(), "{books:?}");
        self.store();
    }

    fn store(&mut self) {
        for write in self.rests.due(self.now) {
            self.rests.written(&write.client, write.version, true);
            self.stored = Some(write);
        }
    }

    /// Lets time and bytes pass as a data path does that obeys the meter.
    fn pass(&mut self, time: Duration, bytes: u64) {
        let end = self.now + time;
        let mut bytes = bytes;
        while self.now < end || bytes > 0 {
            let step = Duration::from_millis(500).min(end - self.now);
            self.now += step;
            let Some(session) = &mut self.session else { break };
            let allowance = session.meter.allowance();
            let more = bytes.min(10_000).min(allowance.bytes_limit.saturating_sub(session.bytes));
            session.bytes += more;
            bytes = if more > 0 { bytes - more } else { 0 };
            let is_due = allowance.until.is_some_and(|until| self.now >= until);
            if is_due || session.bytes >= allowance.bytes_due {
                self.event(Event::Tick);
            }
        }
        self.now = self.now.max(end);
        for expired in self.rests.expire(self.now) {
            for unit in [Unit::Bytes, Unit::Seconds] {
                let units = expired.pending.rest.of(unit) as u128;
                self.account[index(unit)].expired += units * unit.steps();
            }
        }
        self.store();
    }

    fn pay(&mut self) {
        let Some(session) = self.session.as_mut().filter(|session| session.payment.is_none()) else { return };
        session.payments += 1;
        let mut id = [self.sessions as u8; 32];
        id[0] = session.payments as u8;
        session.payment = Some(id);
        self.event(Event::Paid);
    }

    fn confirm(&mut self) {
        self.event(Event::Confirmed);
        match &mut self.session {
            Some(session) => session.payment = None,
            None => {
                if let Some((_, payment)) = self.rests.waiting().first() {
                    self.rests.confirm(payment);
                }
            }
        }
        self.store();
    }

    fn end(&mut self) {
        self.event(Event::End);
        let Some(Session { meter, payments, payment, .. }) = self.session.take() else { return };
        self.book(&meter, payments);
        let waits_for = payment.filter(|_| meter.holding().pending > 0);
        assert!(self.rests.release(CLIENT, self.sessions, meter.holding(), waits_for, self.now + CONFIRM));
        self.store();
    }

    /// The process dies, and another one reads what it stored.
    fn kill(&mut self) {
        let stored = self.stored.clone().unwrap_or_else(|| self.empty());
        let record = Rest::from_record(&stored.record).unwrap();
        let actual = self.rests.get(&CLIENT);
        if let Some(Session { mut meter, bytes, payments, .. }) = self.session.take() {
            meter.handle(self.now, Use { bytes, alive: self.now }, Event::Tick);
            let unit = meter.terms().unit;
            let books = meter.books();
            self.book(&meter, payments);
            // Only this unit's rest and the session's own pending units differ from the record.
            let before = actual.unwrap().of(unit) - self.last_saved(&meter);
            let others = before.max(0) as u128 * unit.steps();
            let own: i64 = stored.pending.iter().map(|pending| pending.rest.of(unit)).sum();
            let waiting: i64 = self.waiting_units(unit);
            let on_record = (record.of(unit) + own - waiting) as u128 * unit.steps() - others;
            let gain = on_record as i128 - books.rest as i128;
            match unit {
                Unit::Seconds => assert!(gain > -1_000_000_000 && gain <= 11_000_000_000, "{gain}"),
                Unit::Bytes => assert!((0..=1_500_000).contains(&gain), "{gain}"),
            }
            self.account[index(unit)].by_kills += gain;
        }
        self.rests = Rests::new(SAVE_EVERY);
        self.rests.load(CLIENT, Some(&stored.record)).unwrap();
        for pending in stored.pending {
            assert!(self.rests.load_pending(CLIENT, pending, self.now + CONFIRM));
        }
    }

    /// The rest that the table has from this session's meter, without what other payments added since.
    fn last_saved(&mut self, meter: &Meter) -> i64 {
        let unit = meter.terms().unit;
        match self.rests.take(CLIENT, unit, self.sessions) {
            Taken::Rest(rest) => rest.of(unit),
            other => panic!("{other:?}"),
        }
    }

    /// The units that wait for payments of earlier sessions.
    fn waiting_units(&self, unit: Unit) -> i64 {
        let waits: Vec<_> = self.rests.waiting().into_iter().map(|(_, payment)| payment).collect();
        let stored = self.stored.iter().flat_map(|write| &write.pending);
        stored.filter(|pending| waits.contains(&pending.payment)).map(|pending| pending.rest.of(unit)).sum()
    }

    fn book(&mut self, meter: &Meter, payments: u128) {
        let Terms { unit, units, .. } = *meter.terms();
        let books = meter.books();
        let account = &mut self.account[index(unit)];
        account.paid += payments * u128::from(units) * unit.steps() - books.taken_back;
        account.charged += books.charged;
    }

    /// Between sessions, every paid unit is charged, left, waiting, expired, or was given or taken by a kill.
    fn check(&self) -> Result<(), TestCaseError> {
        let stored = self.stored.as_ref().map_or(Rest::default(), |write| Rest::from_record(&write.record).unwrap());
        let rest = self.rests.get(&CLIENT).unwrap_or(stored);
        for unit in [Unit::Bytes, Unit::Seconds] {
            let account = self.account[index(unit)];
            let left = (rest.of(unit) + self.waiting_units(unit)) as u128 * unit.steps();
            let spent = account.charged + left + account.expired;
            prop_assert_eq!(account.paid as i128 + account.by_kills, spent as i128, "{:?} {:?}", unit, account);
        }
        Ok(())
    }
}

fn index(unit: Unit) -> usize {
    usize::from(unit == Unit::Seconds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_unit_is_lost_or_won_over_sessions_and_restarts(
        sessions in prop::collection::vec((any::<bool>(), 1_u64..40, prop::collection::vec(step(), 1..14)), 1..8),
    ) {
        let mut server = Server {
            rests: Rests::new(SAVE_EVERY),
            stored: None,
            session: None,
            now: Duration::from_secs(1),
            sessions: 0,
            account: Default::default(),
        };
        for (is_bytes, units, steps) in sessions {
            let (unit, units) = if is_bytes { (Unit::Bytes, units * 10_000) } else { (Unit::Seconds, units) };
            server.begin(unit, units);
            for (time, bytes, step) in steps {
                server.pass(Duration::from_millis(time), bytes);
                match step {
                    Step::Tick => server.event(Event::Tick),
                    Step::Pay => server.pay(),
                    Step::Confirm => server.confirm(),
                    Step::Grace => server.event(Event::Grace { time: Duration::from_secs(5), bytes: 30_000 }),
                    Step::End => server.end(),
                    Step::Kill => server.kill(),
                }
                if server.session.is_none() {
                    server.check()?;
                }
            }
            server.end();
            server.check()?;
        }
    }
}
