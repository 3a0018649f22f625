//! What clients find after the server was restarted, whatever of its pages had been stored.

use super::tests::{HOLD, UNBOUNDED, at, of_source as by, token};
use super::*;
use crate::lease::record::{self, PAGE_RECORDS, Record};
use crate::lease::{PAGES, PageError};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

fn subnet(network: [u8; 4], prefix: u8) -> Subnet {
    Subnet { network: network.into(), prefix }
}

fn new(subnet: Subnet) -> Pool {
    Pool::new(subnet, HOLD, UNBOUNDED)
}

/// Stores all changed pages, and begins anew from what is stored.
fn restart(pool: &mut Pool, store: &mut BTreeMap<u16, Vec<u8>>, subnet: Subnet) -> Restored {
    store.extend(std::iter::from_fn(|| pool.next_changed()));
    *pool = new(subnet);
    pool.restore(store.clone())
}

#[test]
fn clients_get_their_addresses_back_in_any_order() {
    let (mut store, net) = (BTreeMap::new(), subnet([10, 0, 0, 0], 24));
    let mut pool = new(net);
    let mut leases: Vec<_> = (0..4).map(|n| pool.lease(at(0), &by(n as u8), None, token(n)).unwrap()).collect();
    let away = leases.remove(1);
    assert!(pool.release(away.addr, away.id, at(5)));
    for round in 0..3 {
        assert_eq!(restart(&mut pool, &mut store, net), Restored { kept: 4 + round, ..Restored::default() });
        assert_eq!((pool.leased(), pool.released().next()), (0, Some(away.addr)), "the first one that was returned");
        let stranger = pool.lease(at(0), &by(9), None, token(100 + round as u64)).unwrap();
        assert_eq!((stranger.addr, stranger.origin), (Ipv4Addr::new(10, 0, 0, 6 + round as u8), Origin::New));
        for lease in leases.iter().rev() {
            let again = pool.lease(at(1), &by(8), Some(&lease.token), token(99)).unwrap();
            assert_eq!((again.addr, again.token, again.origin), (lease.addr, lease.token, Origin::Resumed));
            assert_eq!(pool.source_of(again.addr), Some(by(8).source));
        }
    }
}

#[test]
fn a_hold_goes_on_after_a_restart() {
    let (mut store, net) = (BTreeMap::new(), subnet([10, 0, 0, 0], 16));
    let mut pool = new(net);
    let returned = pool.lease(at(0), &by(1), None, token(1)).unwrap();
    let leased = pool.lease(at(0), &by(1), None, token(2)).unwrap();
    assert!(pool.release(returned.addr, returned.id, at(100)));
    for _ in 0..3 {
        restart(&mut pool, &mut store, net);
        assert!(!pool.is_oldest_expired(), "the time in between does not count");
    }
    // So many are returned meanwhile that it is forgotten as soon as it may be.
    for number in 0..=REMEMBERED as u64 {
        let lease = pool.lease(at(30), &by(2), None, token(1000 + number)).unwrap();
        assert!(pool.release(lease.addr, lease.id, at(30)));
    }
    assert!(pool.knows(&token(1)) && pool.knows(&token(2)));
    for _ in 0..3 {
        assert!(!pool.release(leased.addr, 99, at(61)));
    }
    assert!(!pool.knows(&token(1)) && pool.knows(&token(1000 + REMEMBERED as u64)));
}

#[test]
fn what_no_longer_fits_is_left_out_and_the_rest_stays() {
    let (mut store, wide) = (BTreeMap::new(), subnet([10, 0, 0, 0], 22));
    let mut pool = new(wide);
    let leases: Vec<_> = (0..300).map(|n| pool.lease(at(0), &by(1), None, token(n)).unwrap()).collect();
    let narrow = subnet([10, 0, 0, 0], 24);
    let restored = restart(&mut pool, &mut store, narrow);
    assert_eq!((restored.kept, restored.unfit), (253, 47));
    assert!(leases.iter().all(|lease| pool.knows(&lease.token) == narrow.number(lease.addr).is_some_and(|n| n < 255)));
    assert!(pool.lease(at(0), &by(1), Some(&token(299)), token(900)).is_ok_and(|new| new.origin == Origin::New));
    assert_eq!(restart(&mut pool, &mut store, narrow).unfit, 0, "what did not fit is no longer stored");

    // Behind a moved gateway the addresses have other numbers, and stand in other pages.
    let moved = subnet([10, 0, 0, 200], 22);
    let restored = restart(&mut pool, &mut store, moved);
    assert_eq!((restored.kept, restored.unfit), (53, 200));
    assert_eq!(restart(&mut pool, &mut store, moved), Restored { kept: 53, ..Restored::default() });
    let again = pool.lease(at(0), &by(1), Some(&token(220)), token(0)).unwrap();
    assert_eq!((again.addr, again.origin), (Ipv4Addr::new(10, 0, 0, 222), Origin::Resumed));
}

/// Nobody else gets the address, and its client gets it whatever else its source has.
#[test]
fn a_reserved_address_is_its_clients_alone() {
    let net = subnet([10, 0, 0, 0], 29);
    let mut pool = Pool::new(net, HOLD, Limits { leases: 1, new_per_minute: 1 });
    let (mine, reserved) = (token(1), Ipv4Addr::new(10, 0, 0, 3));
    assert!(pool.reserve(reserved, &mine) && !pool.reserve(reserved, &token(2)));
    let others = [[10, 0, 0, 0], [10, 0, 0, 1], [10, 0, 0, 7], [10, 0, 0, 8]].map(Ipv4Addr::from);
    assert!(others.iter().all(|addr| !pool.reserve(*addr, &token(2))));
    let paid = Applicant { is_paid: true, ..by(1) };
    let all: Vec<_> = (10..14).map(|n| pool.lease(at(0), &paid, None, token(n)).unwrap().addr.octets()[3]).collect();
    assert_eq!((all, pool.available()), (vec![2, 4, 5, 6], 1));
    assert_eq!(pool.lease(at(0), &paid, None, token(20)), Err(LeaseError::Exhausted));
    let lease = pool.lease(at(0), &by(1), Some(&mine), token(21)).unwrap();
    assert_eq!((lease.addr, lease.token, lease.origin), (reserved, mine, Origin::Static));
    let again = pool.lease(at(0), &by(2), Some(&mine), token(22)).unwrap();
    assert_eq!((again.addr, again.origin), (reserved, Origin::TakenOver));
    assert!(!pool.release(reserved, lease.id, at(1)) && pool.release(reserved, again.id, at(1)));
    assert_eq!(pool.lease(at(2), &paid, None, token(23)), Err(LeaseError::Exhausted));
    assert_eq!(pool.leased_of(by(2).source), 0);

    // What was another client's before the address was reserved.
    let mut before = new(net);
    (10..12).for_each(|n| assert!(before.lease(at(0), &by(1), None, token(n)).is_ok()));
    let page = before.next_changed().unwrap();
    let mut pool = new(net);
    assert!(pool.reserve(reserved, &mine));
    assert_eq!(pool.restore([page]), Restored { kept: 1, unfit: 1, damaged: vec![] });
    assert!(!pool.knows(&token(11)) && pool.lease(at(0), &by(1), Some(&mine), token(0)).is_ok());
}

#[test]
fn a_damaged_page_costs_its_own_leases_alone() {
    let (mut store, net) = (BTreeMap::new(), subnet([10, 0, 0, 0], 23));
    let mut pool = new(net);
    assert!((0..400).all(|n| pool.lease(at(0), &by(1), None, token(n)).is_ok()));
    store.extend(std::iter::from_fn(|| pool.next_changed()));
    assert_eq!(store.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    store.insert(1, b"something else".to_vec());
    store.get_mut(&2).unwrap()[20] ^= 1;
    let restored = new(net).restore(store);
    assert_eq!(restored.damaged, [(1, PageError::Foreign(14)), (2, PageError::Checksum)]);
    assert_eq!((restored.kept, restored.unfit), (400 - 2 * 128, 0));
}

#[test]
fn what_is_stored_is_bounded_and_the_leased_come_first() {
    // Page 0 has every 256th block of 128 addresses.
    let (net, block) = (subnet([10, 0, 0, 0], 8), u32::from(PAGES) * 128);
    let number = |n: u64| (n as u32 / 100) * block + 10 + n as u32 % 100;
    let record = |n: u64| Record {
        addr: net.numbered(number(n)),
        token: TokenHash::of(&token(n)),
        source: by(1).source,
        returned: Some(n + 1),
    };
    let records: Vec<_> = (0..6000).map(record).collect();
    let mut pool = new(net);
    assert_eq!(pool.restore([(0, record::encode(&records))]).kept, 6000);
    assert!((0..1000).all(|n| pool.lease(at(0), &by(1), Some(&token(n)), token(9999)).is_ok()));
    let (page, bytes) = pool.next_changed().unwrap();
    assert!(page == 0 && bytes.len() < 200_000, "{}", bytes.len());
    let mut pool = new(net);
    assert_eq!(pool.restore([(0, bytes)]).kept, PAGE_RECORDS);
    let lost: Vec<_> = (0..6000).filter(|n| !pool.knows(&token(*n))).collect();
    assert_eq!(lost, (1000..1000 + 6000 - PAGE_RECORDS as u64).collect::<Vec<_>>());
}

/// What is restored stands behind addresses that are unused, and is forgotten before these are used up.
#[test]
fn an_address_that_is_forgotten_before_it_is_reached_is_leased_once() {
    let net = subnet([10, 0, 0, 0], 17);
    let record = |n: u32| Record {
        addr: net.numbered(10_000 + n),
        token: TokenHash::of(&token(n.into())),
        source: by(1).source,
        returned: Some(1 + u64::from(n)),
    };
    let records: Vec<_> = (0..20_000).map(record).collect();
    let pages = records.chunks(PAGE_RECORDS).map(record::encode).zip(0..).map(|(bytes, page)| (page, bytes));
    let mut pool = new(net);
    assert_eq!(pool.restore(pages).kept, 20_000);
    let mut seen = HashSet::new();
    while let Ok(lease) = pool.lease(at(100), &by(2), None, token(100_000 + seen.len() as u64)) {
        assert!(seen.insert(lease.addr), "{} is leased twice", lease.addr);
    }
    assert_eq!(seen.len(), net.capacity() as usize);
}

#[derive(Clone, Debug)]
enum Step {
    Lease(u8),
    /// Shows the token of the n-th lease so far, whatever has become of it.
    Resume(u8, prop::sample::Index),
    Release(prop::sample::Index),
    /// Stores so many of the changed pages.
    Store(u8),
    /// A kill and a start, with what has been stored.
    Restart,
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..4).prop_map(Step::Lease),
        4 => (0_u8..4, any::<prop::sample::Index>()).prop_map(|(source, index)| Step::Resume(source, index)),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
        4 => (0_u8..4).prop_map(Step::Store),
        1 => Just(Step::Restart),
        1 => (0_u8..80).prop_map(Step::Wait),
    ]
}

/// What the model knows of an address: its client's token, and whether it is leased now.
type Known = BTreeMap<Ipv4Addr, (Token, Option<u64>)>;

/// The addresses of each stored page, as the model knew them then.
type Pages = BTreeMap<u16, Known>;

fn page_of(addr: Ipv4Addr) -> u16 {
    // Number 1 is the gateway's.
    ((u32::from(addr) & 0xff_ffff) / 128 % 256) as u16
}

proptest! {
    /// In a subnet of several pages, of which each is stored when it pleases.
    #[test]
    fn no_address_is_given_twice_and_each_client_finds_its_own(
        prefix in prop_oneof![22_u8..=24, 28_u8..=30],
        filled in 0_u64..400,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let net = subnet([10, 0, 0, 0], prefix);
        // Two addresses are one client's each.
        let reserved: Vec<_> = [(3, 1 << 40), (6, 1 << 41)].map(|(host, number)| (net.numbered(host), token(number)))
            .into_iter().filter(|(addr, _)| net.number(*addr).is_some_and(|host| host < net.capacity() + 2)).collect();
        let is_reserved = |addr: &Ipv4Addr| reserved.iter().any(|(other, _)| other == addr);
        let begin = |pages: BTreeMap<u16, Vec<u8>>| {
            let mut pool = new(net);
            assert!(reserved.iter().all(|(addr, token)| pool.reserve(*addr, token) && !pool.reserve(*addr, token)));
            let restored = pool.restore(pages);
            (pool, restored)
        };
        let (mut pool, mut now) = (begin(BTreeMap::new()).0, at(1));
        let at_first: Known = reserved.iter().map(|(addr, token)| (*addr, (*token, None))).collect();
        let (mut known, mut stored, mut pages) = (at_first.clone(), BTreeMap::new(), Pages::new());
        let mut tokens: Vec<Token> = reserved.iter().map(|(_, token)| *token).collect();
        let capacity = net.capacity() as usize;
        let fill = (0..filled.min(capacity as u64 - 1)).map(|number| Step::Lease((number % 4) as u8));
        for (number, step) in fill.chain(steps).enumerate() {
            let fresh = token(number as u64);
            match step {
                Step::Lease(source) | Step::Resume(source, _) => {
                    let resume = match step {
                        Step::Resume(_, index) if !tokens.is_empty() => Some(*index.get(&tokens)),
                        _ => None,
                    };
                    let of_token: Vec<_> =
                        known.iter().filter(|(_, (token, _))| Some(*token) == resume).map(|(addr, _)| *addr).collect();
                    let leased = known.iter().filter(|(addr, (_, id))| id.is_some() && !is_reserved(addr)).count();
                    let lease = match pool.lease(now, &by(source), resume.as_ref(), fresh) {
                        Ok(lease) => lease,
                        Err(error) => {
                            prop_assert_eq!(error, LeaseError::Exhausted);
                            prop_assert!(of_token.is_empty() && leased == capacity - reserved.len());
                            continue;
                        }
                    };
                    match lease.origin {
                        Origin::New => {
                            prop_assert!(of_token.is_empty() && lease.token == fresh);
                            prop_assert!(known.get(&lease.addr).is_none_or(|(_, id)| id.is_none()), "leased twice");
                            // What is kept for a client is the last that others get.
                            prop_assert!(!known.contains_key(&lease.addr) || known.len() == capacity);
                            prop_assert!(!is_reserved(&lease.addr));
                        }
                        Origin::Resumed | Origin::TakenOver | Origin::Static => {
                            prop_assert!(of_token.contains(&lease.addr) && Some(lease.token) == resume);
                            let had = known.get(&lease.addr).and_then(|(_, id)| *id);
                            prop_assert_eq!(had.is_some(), lease.origin == Origin::TakenOver);
                        }
                    }
                    known.insert(lease.addr, (lease.token, Some(lease.id)));
                    tokens.push(lease.token);
                }
                Step::Release(index) => {
                    let live: Vec<_> = known.iter().filter_map(|(addr, (_, id))| Some((*addr, (*id)?))).collect();
                    if live.is_empty() {
                        continue;
                    }
                    let (addr, id) = *index.get(&live);
                    prop_assert!(pool.release(addr, id, now) && !pool.release(addr, id, now));
                    known.entry(addr).and_modify(|(_, id)| *id = None);
                }
                Step::Store(count) => {
                    for _ in 0..count {
                        let Some((page, bytes)) = pool.next_changed() else { break };
                        stored.insert(page, bytes);
                        let of_page = known.iter().filter(|(addr, _)| page_of(**addr) == page && !is_reserved(addr));
                        pages.insert(page, of_page.map(|(addr, known)| (*addr, *known)).collect());
                    }
                }
                Step::Restart => {
                    now = at(1);
                    let restored;
                    (pool, restored) = begin(stored.clone());
                    known = pages.values().flatten().map(|(addr, (token, _))| (*addr, (*token, None))).collect();
                    prop_assert_eq!(restored, Restored { kept: known.len(), ..Restored::default() });
                    known.extend(at_first.clone());
                }
                Step::Wait(seconds) => now += at(seconds.into()),
            }
            let live = known.values().filter(|(_, id)| id.is_some()).count();
            prop_assert_eq!((pool.leased() as usize, pool.available() as usize), (live, capacity - live));
            prop_assert!(known.iter().all(|(addr, (_, id))| pool.is_leased(*addr) == id.is_some()));
            if number % 16 == 0 {
                prop_assert!(known.values().all(|(token, _)| pool.knows(token)));
            }
            let mut released: Vec<_> = pool.released().collect();
            released.sort_unstable();
            let kept = known.iter().filter(|(addr, (_, id))| id.is_none() && !is_reserved(addr));
            prop_assert_eq!(released, kept.map(|(addr, _)| *addr).collect::<Vec<_>>());
            prop_assert!(pool.entries().map(|(addr, _)| addr).eq(known.keys().copied()));
        }
    }
}
