use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn client(number: u8) -> Client {
    Client { key: [number; 32], net: 7 }
}

fn payment(number: u8) -> PaymentId {
    [number; 32]
}

fn rest(bytes: i64, seconds: i64) -> Rest {
    Rest { bytes, seconds }
}

fn holding(rest: Rest, pending: u64) -> Holding {
    Holding { rest, pending }
}

/// A table with client 1, whose record is 100 bytes and 50 seconds.
fn table() -> Rests {
    let mut rests = Rests::new(s(10));
    rests.load(client(1), Some(&rest(100, 50).to_record())).unwrap();
    rests
}

fn records(writes: &[Write]) -> Vec<Rest> {
    writes.iter().map(|write| Rest::from_record(&write.record).unwrap()).collect()
}

/// Stores all that is due.
fn store(rests: &mut Rests, now: u64) -> Vec<Rest> {
    let writes = rests.due(s(now));
    for write in &writes {
        rests.written(&write.client, write.version, true);
    }
    records(&writes)
}

#[test]
fn the_record_is_the_legacy_one() {
    let record = rest(0x0102, -1).to_record();
    assert_eq!(record, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut negative = [0xff; 16];
    negative[..8].copy_from_slice(&i64::MAX.to_le_bytes());
    assert_eq!(Rest::from_record(&negative), Ok(rest(i64::MAX, 0)));
    for size in [0, 8, 15, 17, 32] {
        let error = Rest::from_record(&vec![1; size]).unwrap_err();
        assert_eq!(error, RecordError::Size(size));
        assert_eq!(error.to_string(), format!("the record has {size} bytes, expected 16"));
    }
}

#[test]
fn a_record_of_a_wrong_size_counts_as_none_and_stays() {
    let mut rests = Rests::new(s(10));
    assert_eq!(rests.load(client(1), Some(&[1; 15])), Err(RecordError::Size(15)));
    assert_eq!(rests.take(client(1), Unit::Bytes, 1), Taken::Rest(rest(0, 0)));
    assert!(rests.due(s(100)).is_empty());
}

#[test]
fn one_session_at_a_time() {
    let mut rests = table();
    assert_eq!(rests.take(client(2), Unit::Bytes, 1), Taken::NotLoaded);
    assert_eq!(rests.take(client(1), Unit::Bytes, 1), Taken::Rest(rest(100, 50)));
    assert_eq!(rests.take(client(1), Unit::Bytes, 1), Taken::Rest(rest(100, 50)), "repeated");
    assert_eq!(rests.take(client(1), Unit::Seconds, 2), Taken::Busy { owner: 1 }, "the other unit too");
    let other_net = Client { net: 8, ..client(1) };
    rests.load(other_net, None).unwrap();
    assert_eq!(rests.take(other_net, Unit::Bytes, 2), Taken::Rest(rest(0, 0)));
    for owner in [0, 2] {
        assert!(!rests.update(client(1), owner, holding(rest(1, 1), 0), None, Urgency::Event));
        assert!(!rests.release(client(1), owner, holding(rest(1, 1), 0), None, s(99)));
    }
    assert!(rests.release(client(1), 1, holding(rest(60, 0), 0), None, s(99)));
    assert!(!rests.release(client(1), 1, holding(rest(1, 1), 0), None, s(99)), "twice");
    assert_eq!(rests.take(client(1), Unit::Seconds, 2), Taken::Rest(rest(60, 50)), "the other unit is kept");
}

#[test]
fn the_table_is_the_authority() {
    let mut rests = table();
    rests.take(client(1), Unit::Bytes, 1);
    rests.update(client(1), 1, holding(rest(40, 0), 0), None, Urgency::Change);
    rests.load(client(1), Some(&rest(100, 50).to_record())).unwrap();
    assert_eq!(rests.get(&client(1)), Some(rest(40, 50)));
}

#[test]
fn events_are_due_at_once_and_changes_every_ten_seconds() {
    let mut rests = table();
    rests.take(client(1), Unit::Bytes, 1);
    let update = |rests: &mut Rests, bytes, urgency| {
        assert!(rests.update(client(1), 1, holding(rest(bytes, 0), 0), None, urgency));
    };
    update(&mut rests, 100, Urgency::Event);
    assert_eq!(store(&mut rests, 0), [], "unchanged");
    update(&mut rests, 90, Urgency::Event);
    assert_eq!(store(&mut rests, 1), [rest(90, 50)]);
    update(&mut rests, 80, Urgency::Change);
    assert_eq!(store(&mut rests, 10), []);
    update(&mut rests, 70, Urgency::Change);
    assert_eq!(store(&mut rests, 11), [rest(70, 50)]);
    assert_eq!(store(&mut rests, 99), []);
    update(&mut rests, 60, Urgency::Change);
    assert_eq!(store(&mut rests, 99), [rest(60, 50)]);
    update(&mut rests, 50, Urgency::Change);
    update(&mut rests, 50, Urgency::Event);
    assert_eq!(store(&mut rests, 100), [rest(50, 50)], "an event without a further change");
}

#[test]
fn states_reach_the_store_in_their_order() {
    let mut rests = table();
    rests.take(client(1), Unit::Bytes, 1);
    rests.update(client(1), 1, holding(rest(90, 0), 0), None, Urgency::Event);
    let first = rests.due(s(0)).remove(0);
    rests.update(client(1), 1, holding(rest(80, 0), 0), None, Urgency::Event);
    assert!(rests.due(s(20)).is_empty(), "the first one is being written");
    assert_eq!(records(&rests.all_dirty()), [rest(80, 50)], "the process ends");
    rests.written(&client(1), first.version, true);
    let second = rests.due(s(20)).remove(0);
    assert_eq!(records(std::slice::from_ref(&second)), [rest(80, 50)]);
    rests.written(&client(1), second.version, false);
    assert!(rests.due(s(29)).is_empty(), "the store failed");
    assert_eq!(store(&mut rests, 30), [rest(80, 50)]);
    assert!(rests.all_dirty().is_empty());
}

#[test]
fn a_rest_is_dropped_when_the_store_has_it_and_nobody_uses_it() {
    let mut rests = table();
    rests.take(client(1), Unit::Bytes, 1);
    rests.due(s(0));
    assert_eq!(rests.len(), 1);
    rests.release(client(1), 1, holding(rest(30, 0), 5), Some(payment(1)), s(60));
    let write = rests.due(s(1)).remove(0);
    assert_eq!(write.pending, [Pending { payment: payment(1), rest: rest(5, 0) }]);
    rests.due(s(1));
    assert_eq!(rests.len(), 1, "being written");
    rests.written(&client(1), write.version, true);
    rests.due(s(2));
    assert_eq!(rests.len(), 1, "a payment waits");
    assert!(rests.confirm(&payment(1)));
    assert_eq!(store(&mut rests, 3), [rest(35, 50)]);
    rests.due(s(4));
    assert!(rests.is_empty());
    // Loaded and not taken.
    rests.load(client(2), None).unwrap();
    rests.due(s(5));
    assert!(rests.is_empty());
}

#[test]
fn pending_units_become_a_rest_when_their_payment_is_in_the_ledger() {
    let mut rests = table();
    rests.take(client(1), Unit::Seconds, 1);
    rests.release(client(1), 1, holding(rest(0, 3), 20), Some(payment(1)), s(60));
    assert_eq!(rests.get(&client(1)), Some(rest(100, 3)));
    assert_eq!(rests.waiting(), [(client(1), payment(1))]);
    assert!(!rests.confirm(&payment(2)));
    // While another session has the rest, its meter does not learn of them.
    assert_eq!(rests.take(client(1), Unit::Seconds, 2), Taken::Rest(rest(100, 3)));
    assert!(rests.confirm(&payment(1)) && !rests.confirm(&payment(1)));
    assert_eq!(rests.get(&client(1)), Some(rest(100, 23)));
    rests.update(client(1), 2, holding(rest(0, 1), 0), None, Urgency::Event);
    assert_eq!(store(&mut rests, 1), [rest(100, 21)]);
    rests.release(client(1), 2, holding(rest(0, 0), 0), None, s(0));
    assert_eq!(rests.take(client(1), Unit::Seconds, 3), Taken::Rest(rest(100, 20)));
}

#[test]
fn a_payment_that_does_not_reach_the_ledger_in_time_is_lost() {
    let mut rests = table();
    rests.take(client(1), Unit::Bytes, 1);
    rests.release(client(1), 1, holding(rest(10, 0), 20), Some(payment(1)), s(60));
    store(&mut rests, 1);
    assert_eq!(rests.expire(s(59)), []);
    let pending = Pending { payment: payment(1), rest: rest(20, 0) };
    assert_eq!(rests.expire(s(60)), [Expired { client: client(1), pending }]);
    assert!(!rests.confirm(&payment(1)) && rests.expire(s(61)).is_empty());
    let write = rests.due(s(61)).remove(0);
    assert_eq!((records(std::slice::from_ref(&write)), write.pending), (vec![rest(10, 50)], vec![]));
}

#[test]
fn pending_units_outlast_a_restart() {
    let mut rests = table();
    rests.take(client(1), Unit::Bytes, 1);
    rests.update(client(1), 1, holding(rest(0, 0), 70), Some(payment(1)), Urgency::Event);
    let killed = rests.due(s(1)).remove(0);
    let mut rests = Rests::new(s(10));
    let [pending] = killed.pending[..] else { panic!("{:?}", killed.pending) };
    assert!(!rests.load_pending(client(1), pending, s(60)), "not loaded");
    rests.load(client(1), Some(&killed.record)).unwrap();
    assert!(rests.load_pending(client(1), pending, s(60)) && rests.load_pending(client(1), pending, s(60)));
    rests.due(s(1));
    assert!(rests.confirm(&payment(1)));
    assert_eq!(rests.get(&client(1)), Some(rest(70, 50)));
}

#[test]
fn waiting_payments_are_bounded() {
    let mut rests = table();
    for number in 0..MAX_PENDING as u8 {
        assert!(matches!(rests.take(client(1), Unit::Bytes, 1), Taken::Rest(_)));
        rests.release(client(1), 1, holding(rest(0, 0), 5), Some(payment(number)), s(u64::from(number)));
    }
    assert_eq!(rests.take(client(1), Unit::Bytes, 1), Taken::Unsettled);
    assert_eq!(rests.expire(s(0)).len(), 1);
    assert!(matches!(rests.take(client(1), Unit::Bytes, 1), Taken::Rest(_)));
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8, bool, u64),
    Update(u8, u64, i64, u64, bool),
    Release(u8, u64, i64, u64),
    Confirm(u8),
    Expire,
    Due,
    Written(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, owner) = (0_u8..3, 0_u64..3);
    prop_oneof![
        4 => (client.clone(), any::<bool>(), owner.clone()).prop_map(|(c, unit, o)| Step::Take(c, unit, o)),
        4 => (client.clone(), owner.clone(), 0_i64..99, 0_u64..3, any::<bool>())
            .prop_map(|(c, o, units, pending, event)| Step::Update(c, o, units, pending, event)),
        3 => (client, owner, 0_i64..99, 0_u64..3).prop_map(|(c, o, units, pending)| Step::Release(c, o, units, pending)),
        2 => (0_u8..200).prop_map(Step::Confirm),
        1 => Just(Step::Expire),
        4 => Just(Step::Due),
        3 => prop::bool::weighted(0.8).prop_map(Step::Written),
        1 => Just(Step::Restart),
    ]
}

/// What a client has by the plain rules: both units, its session, the units that wait.
#[derive(Clone, Debug, Default)]
struct Plain {
    units: [i64; 2],
    credit: [i64; 2],
    session: Option<(u64, usize)>,
    waiting: Vec<(PaymentId, usize, i64, u64)>,
}

impl Plain {
    fn rest(&self) -> Rest {
        rest(self.units[0] + self.credit[0], self.units[1] + self.credit[1])
    }
}

proptest! {
    #[test]
    fn the_table_equals_the_plain_rules(steps in prop::collection::vec(step(), 1..120)) {
        let mut rests = Rests::new(s(10));
        let mut plain: BTreeMap<u8, Plain> = (0..3).map(|number| (number, Plain::default())).collect();
        let mut stored: BTreeMap<Client, [u8; 16]> = BTreeMap::new();
        let mut writing: Vec<Write> = Vec::new();
        let mut next_payment = 0_u8;
        for (now, step) in (0_u64..).step_by(3).zip(steps) {
            match step {
                Step::Take(number, unit, owner) => {
                    let record = stored.get(&client(number)).map(|record| record.as_slice());
                    rests.load(client(number), record).unwrap();
                    let plain = plain.get_mut(&number).unwrap();
                    let kind = if unit { Unit::Seconds } else { Unit::Bytes };
                    let taken = rests.take(client(number), kind, owner);
                    match plain.session {
                        Some((other, _)) if other != owner => prop_assert_eq!(taken, Taken::Busy { owner: other }),
                        None if plain.waiting.len() == MAX_PENDING => prop_assert_eq!(taken, Taken::Unsettled),
                        _ => {
                            plain.session = Some((owner, usize::from(unit)));
                            prop_assert_eq!(taken, Taken::Rest(rest(plain.units[0], plain.units[1])));
                        }
                    }
                }
                Step::Update(number, owner, units, pending, event) => {
                    let plain = plain.get_mut(&number).unwrap();
                    let unit = plain.session.filter(|(id, _)| *id == owner).map(|(_, unit)| unit);
                    let urgency = if event { Urgency::Event } else { Urgency::Change };
                    let given = holding(rest(units, units), pending);
                    let is_its = rests.update(client(number), owner, given, Some(payment(200)), urgency);
                    prop_assert_eq!(is_its, unit.is_some());
                    if let Some(unit) = unit {
                        plain.units[unit] = units;
                    }
                }
                Step::Release(number, owner, units, pending) => {
                    let plain = plain.get_mut(&number).unwrap();
                    let unit = plain.session.filter(|(id, _)| *id == owner).map(|(_, unit)| unit);
                    let given = holding(rest(units, units), pending);
                    let paid = payment(next_payment);
                    prop_assert_eq!(rests.release(client(number), owner, given, Some(paid), s(now + 30)), unit.is_some());
                    if let Some(unit) = unit {
                        plain.units[unit] = units;
                        for unit in 0..2 {
                            plain.units[unit] += std::mem::take(&mut plain.credit[unit]);
                        }
                        plain.session = None;
                        if pending > 0 {
                            plain.waiting.push((paid, unit, pending as i64, now + 30));
                            next_payment += 1;
                        }
                    }
                }
                Step::Confirm(number) => {
                    let id = payment(number % next_payment.max(1));
                    let mut is_known = false;
                    for plain in plain.values_mut() {
                        for (_, unit, units, _) in plain.waiting.extract_if(.., |(waiting, ..)| *waiting == id) {
                            is_known = true;
                            let to = if plain.session.is_some() { &mut plain.credit } else { &mut plain.units };
                            to[unit] += units;
                        }
                    }
                    prop_assert_eq!(rests.confirm(&id), is_known);
                }
                Step::Expire => {
                    let mut expired = 0;
                    for plain in plain.values_mut() {
                        expired += plain.waiting.extract_if(.., |(.., until)| now >= *until).count();
                    }
                    prop_assert_eq!(rests.expire(s(now)).len(), expired);
                }
                Step::Due => {
                    for write in rests.due(s(now)) {
                        prop_assert!(writing.iter().all(|other| other.client != write.client), "two at once");
                        writing.push(write);
                    }
                }
                Step::Written(is_stored) => {
                    if let Some(write) = writing.pop() {
                        if is_stored {
                            stored.insert(write.client, write.record);
                        }
                        rests.written(&write.client, write.version, is_stored);
                    }
                }
                Step::Restart => {
                    // The process ends in order: all sessions end, all is stored.
                    for (number, plain) in &mut plain {
                        if let Some((owner, unit)) = plain.session.take() {
                            let last = holding(rest(plain.units[0], plain.units[1]).with(
                                if unit == 1 { Unit::Seconds } else { Unit::Bytes }, plain.units[unit]), 0);
                            prop_assert!(rests.release(client(*number), owner, last, None, s(now)));
                            for unit in 0..2 {
                                plain.units[unit] += std::mem::take(&mut plain.credit[unit]);
                            }
                        }
                    }
                    let mut left = BTreeMap::new();
                    for write in rests.all_dirty() {
                        stored.insert(write.client, write.record);
                        left.insert(write.client, write.pending);
                    }
                    writing.clear();
                    rests = Rests::new(s(10));
                    for (number, plain) in &plain {
                        if let Some(pending) = left.get(&client(*number)) {
                            prop_assert_eq!(pending.len(), plain.waiting.len());
                        }
                        let record = stored.get(&client(*number)).map(|record| record.as_slice());
                        rests.load(client(*number), record).unwrap();
                        for (id, unit, units, until) in &plain.waiting {
                            let units = if *unit == 1 { rest(0, *units) } else { rest(*units, 0) };
                            rests.load_pending(client(*number), Pending { payment: *id, rest: units }, s(*until));
                        }
                    }
                }
            }
            for (number, plain) in &plain {
                let stored = stored.get(&client(*number)).map_or(rest(0, 0), |record| Rest::from_record(record).unwrap());
                let known = rests.get(&client(*number)).unwrap_or(stored);
                prop_assert_eq!(known, plain.rest(), "client {}", number);
                prop_assert!(plain.session.is_none() || rests.get(&client(*number)).is_some(), "dropped while in use");
            }
            let waiting: usize = plain.values().map(|plain| plain.waiting.len()).sum();
            prop_assert_eq!(rests.waiting().len(), waiting);
        }
    }
}
