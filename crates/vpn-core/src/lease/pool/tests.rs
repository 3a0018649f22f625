use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::time::Instant;

pub(super) const HOLD: Duration = Duration::from_secs(60);
pub(super) const UNBOUNDED: Limits = Limits { leases: u32::MAX, new_per_minute: u32::MAX };

fn by() -> Applicant {
    of_source(7)
}

pub(super) fn of_source(number: u8) -> Applicant {
    Applicant { source: Source::of([192, 0, 2, number].into()), is_paid: false }
}

pub(super) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn token(number: u64) -> Token {
    let mut token = [0x5a; 16];
    token[8..].copy_from_slice(&number.to_le_bytes());
    token
}

fn pool(prefix: u8) -> Pool {
    Pool::new(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix }, HOLD, UNBOUNDED)
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// Ends the current lease of an address.
fn release(pool: &mut Pool, addr: Ipv4Addr, now: Duration) -> bool {
    let id = match pool.subnet.number(addr).and_then(|host| pool.slots.get(host)).map(|slot| slot.state) {
        Some(State::Live { id }) => id,
        _ => u64::MAX,
    };
    pool.release(addr, id, now)
}

/// The parts of a lease that its client sees.
fn of(lease: &Lease) -> (Ipv4Addr, Token, Origin) {
    (lease.addr, lease.token, lease.origin)
}

/// Leases an address without a token and returns its last octet.
fn next(pool: &mut Pool, now: u64) -> u8 {
    let number = pool.next_lease;
    pool.lease(at(now), &by(), None, token(10_000 + number)).unwrap().addr.octets()[3]
}

#[test]
fn all_addresses_leave_once_and_the_reserved_ones_never() {
    for prefix in [24, 28, 29, 30] {
        let mut pool = pool(prefix);
        let capacity = pool.subnet().capacity();
        for number in 0..capacity {
            assert_eq!((pool.leased(), pool.available()), (number, capacity - number));
            let lease = pool.lease(at(0), &by(), None, token(number.into())).unwrap();
            assert_eq!(of(&lease), (host(2 + number as u8), token(number.into()), Origin::New));
            assert!(pool.is_leased(lease.addr));
        }
        assert_eq!(pool.lease(at(0), &by(), None, token(999)), Err(LeaseError::Exhausted));
        assert_eq!((pool.leased(), pool.available()), (capacity, 0));
        for reserved in [pool.subnet().network, pool.subnet().gateway(), pool.subnet().broadcast()] {
            assert!(!pool.is_leased(reserved) && !release(&mut pool, reserved, at(0)));
        }
    }
}

/// A network address with bits outside the netmask, as the C module takes it.
#[test]
fn addresses_up_to_a_moved_gateway_never_leave() {
    let mut pool = Pool::new(Subnet { network: host(4), prefix: 28 }, HOLD, UNBOUNDED);
    assert_eq!((pool.subnet().gateway(), pool.available()), (host(5), 9));
    for number in 6..15 {
        assert_eq!(next(&mut pool, 0), number);
    }
    assert_eq!(pool.lease(at(0), &by(), None, token(1)), Err(LeaseError::Exhausted));
    for reserved in [host(0), host(3), host(4), host(5), host(15)] {
        assert!(!pool.is_leased(reserved) && !release(&mut pool, reserved, at(0)), "{reserved}");
    }
    let kept = pool.leased_to(&token(10_000)).unwrap();
    assert!(kept == host(6) && release(&mut pool, kept, at(1)));
    assert_eq!(pool.released().collect::<Vec<_>>(), [kept]);
    assert_eq!(
        of(&pool.lease(at(2), &by(), Some(&token(10_000)), token(2)).unwrap()),
        (kept, token(10_000), Origin::Resumed)
    );
}

#[test]
fn a_slash_30_recovers_from_exhaustion() {
    let mut pool = pool(30);
    for round in 0..5 {
        assert_eq!(next(&mut pool, round), 2);
        assert_eq!(pool.lease(at(round), &by(), None, token(1)), Err(LeaseError::Exhausted));
        assert!(release(&mut pool, host(2), at(round)));
    }
}

#[test]
fn release_is_idempotent() {
    let mut pool = pool(24);
    assert!(!release(&mut pool, host(2), at(0)), "never leased");
    assert_eq!(next(&mut pool, 0), 2);
    assert!(!release(&mut pool, Ipv4Addr::new(10, 0, 1, 2), at(0)), "outside");
    assert!(release(&mut pool, host(2), at(1)));
    assert!(!release(&mut pool, host(2), at(1)));
    assert_eq!(pool.released().collect::<Vec<_>>(), [host(2)]);
    assert!(!pool.is_leased(host(2)));
}

#[test]
fn never_used_first_then_the_oldest_return() {
    let mut pool = pool(29);
    for expected in 2..=4 {
        assert_eq!(next(&mut pool, 0), expected);
    }
    for (number, now) in [(3, 1), (2, 2)] {
        assert!(release(&mut pool, host(number), at(now)));
    }
    assert_eq!(next(&mut pool, 200), 5, "unused, although the hold time of others is over");
    assert_eq!(next(&mut pool, 200), 6);
    assert_eq!(pool.released().collect::<Vec<_>>(), [host(3), host(2)]);
    assert!(release(&mut pool, host(6), at(200)));
    assert_eq!(next(&mut pool, 200), 3);
    assert_eq!(next(&mut pool, 200), 2);
    assert_eq!(next(&mut pool, 200), 6, "kept, but no other address is left");
    assert_eq!(pool.lease(at(200), &by(), None, token(0)), Err(LeaseError::Exhausted));
}

#[test]
fn a_client_gets_its_address_back() {
    let mut pool = pool(24);
    let first = pool.lease(at(0), &by(), None, token(1)).unwrap();
    next(&mut pool, 0);
    assert!(release(&mut pool, first.addr, at(10)));
    let again = pool.lease(at(69), &by(), Some(&token(1)), token(2)).unwrap();
    assert_eq!(of(&again), (first.addr, token(1), Origin::Resumed));
    assert_eq!(pool.released().count(), 0);
    // The same token works again after another loss.
    assert!(release(&mut pool, first.addr, at(70)));
    assert_eq!(pool.lease(at(71), &by(), Some(&token(1)), token(3)).unwrap().origin, Origin::Resumed);
}

#[test]
fn an_address_is_resumed_after_the_hold_time_while_it_is_free() {
    for hold in [HOLD, Duration::ZERO] {
        let mut pool = Pool::new(Subnet { network: host(0), prefix: 24 }, hold, UNBOUNDED);
        let first = pool.lease(at(0), &by(), None, token(1)).unwrap();
        assert!(release(&mut pool, first.addr, at(10)));
        let again = pool.lease(at(100_000), &by(), Some(&token(1)), token(2)).unwrap();
        assert_eq!(of(&again), (first.addr, token(1), Origin::Resumed));
    }
}

#[test]
fn many_expired_holds_are_forgotten_in_the_order_of_return() {
    let mut pool = pool(16);
    let leases: Vec<_> =
        (0..REMEMBERED as u64 + 40).map(|number| pool.lease(at(0), &by(), None, token(number)).unwrap()).collect();
    for lease in &leases {
        assert!(release(&mut pool, lease.addr, at(1)));
    }
    assert_eq!(pool.held().count(), leases.len(), "none has expired");
    next(&mut pool, 62);
    assert_eq!(pool.held().count(), leases.len() - MAX_EXPIRED_PER_CALL, "the sweep is bounded");
    for number in 0..10 {
        assert!(!pool.release(host(1), number, at(62)));
    }
    assert_eq!(pool.held().count(), REMEMBERED);
    assert!(!pool.knows(&token(39)) && pool.knows(&token(40)));
    // The order of reuse does not depend on the progress of the sweep.
    let order: Vec<_> = pool.released().collect();
    assert_eq!(order, leases.iter().map(|lease| lease.addr).collect::<Vec<_>>());
}

#[test]
fn a_client_that_returns_before_its_loss_is_noticed_takes_its_lease_over() {
    let mut pool = pool(30);
    let lost = pool.lease(at(0), &by(), None, token(1)).unwrap();
    assert_eq!(
        pool.lease(at(1), &by(), None, token(2)),
        Err(LeaseError::Exhausted),
        "without the token it is another client"
    );
    let again = pool.lease(at(1), &by(), Some(&token(1)), token(3)).unwrap();
    assert_eq!(of(&again), (lost.addr, token(1), Origin::TakenOver));
    // Once the server notices the lost connection, that connection's lease no longer owns the address.
    assert!(!pool.release(lost.addr, lost.id, at(2)));
    assert!(pool.is_leased(again.addr));
    assert!(pool.release(again.addr, again.id, at(3)));
    assert_eq!(pool.lease(at(4), &by(), Some(&token(1)), token(4)).unwrap().origin, Origin::Resumed);
}

#[test]
fn the_token_of_an_address_that_another_client_got_is_invalid() {
    let mut pool = pool(30);
    let first = pool.lease(at(0), &by(), None, token(1)).unwrap();
    assert!(release(&mut pool, first.addr, at(0)));
    assert_eq!(pool.lease(at(1), &by(), None, token(2)).unwrap().addr, first.addr);
    assert_eq!(pool.lease(at(2), &by(), Some(&token(1)), token(3)), Err(LeaseError::Exhausted));
    assert!(release(&mut pool, first.addr, at(3)));
    assert_eq!(pool.lease(at(3), &by(), Some(&token(1)), token(4)).unwrap().origin, Origin::New);
}

#[test]
fn a_token_drawn_twice_does_no_harm() {
    let mut pool = pool(29);
    for _ in 0..5 {
        pool.lease(at(0), &by(), None, token(7)).unwrap();
    }
    for number in 2..=6 {
        assert!(release(&mut pool, host(number), at(1)));
    }
    assert_eq!(pool.lease(at(2), &by(), Some(&token(7)), token(7)).unwrap().addr, host(6));
    for expected in 2..=5 {
        assert_eq!(next(&mut pool, 2), expected);
    }
    assert_eq!((pool.available(), pool.by_token.len(), pool.held().count()), (0, 5, 0));
}

#[test]
fn the_end_of_a_hold_does_not_end_a_later_one_with_the_same_token() {
    let mut pool = pool(29);
    let [first, second] = [(); 2].map(|()| pool.lease(at(0), &by(), None, token(7)).unwrap().addr);
    assert!(release(&mut pool, first, at(0)) && release(&mut pool, second, at(50)));
    assert_eq!([(); 4].map(|()| next(&mut pool, 100)), [4, 5, 6, 2], "the last one was the first one's");
    let again = pool.lease(at(100), &by(), Some(&token(7)), token(8)).unwrap();
    assert_eq!((again.addr, again.origin), (second, Origin::Resumed));
}

#[test]
fn a_clock_read_earlier_than_another_does_no_harm() {
    let mut pool = pool(24);
    let first = pool.lease(at(100), &by(), None, token(1)).unwrap();
    let second = pool.lease(at(99), &by(), None, token(2)).unwrap();
    assert!(release(&mut pool, first.addr, at(101)) && release(&mut pool, second.addr, at(90)));
    assert_eq!(pool.released().collect::<Vec<_>>(), [first.addr, second.addr]);
    assert!(!pool.is_oldest_expired(), "kept since the latest time seen");
}

#[test]
fn a_subnet_without_client_addresses_leases_none() {
    for prefix in [31, 32, 40] {
        assert_eq!(pool(prefix).lease(at(0), &by(), None, token(0)), Err(LeaseError::Exhausted));
        assert_eq!(pool(prefix).available(), 0);
    }
}

#[test]
fn memory_grows_with_use_not_with_the_subnet() {
    let mut pool = pool(8);
    assert_eq!((pool.slots.chunks(), pool.by_token.capacity(), pool.free.capacity()), (0, 0, 0));
    // A day of short sessions: each gets an unused address.
    for number in 0..100_000 {
        let lease = pool.lease(at(number), &by(), None, token(number)).unwrap();
        assert!(release(&mut pool, lease.addr, at(number)));
    }
    assert!(pool.held().count() <= REMEMBERED + 1 && pool.by_token.len() == pool.held().count());
    let bytes = pool.slots.bytes() + pool.by_token.allocation_size();
    assert!(bytes < 1_600_000, "{bytes}");
    assert_eq!(pool.released().count(), 100_000);
}

#[test]
fn a_slash_8_with_65_000_leases_takes_less_than_6_mb() {
    let mut pool = pool(8);
    let bytes = |pool: &Pool| pool.slots.bytes() + pool.by_token.allocation_size() + pool.free.capacity() * 4;
    assert_eq!(bytes(&pool), 0);
    for number in 0..65_000 {
        pool.lease(at(0), &by(), None, token(number)).unwrap();
    }
    assert!(bytes(&pool) < 6_000_000, "{}", bytes(&pool));
}

/// `cargo test --release --lib lease:: -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: meaningful in a release build on a quiet machine"]
fn lease_and_release_take_less_than_2_us() {
    for (name, prefix, live) in [("idle /24", 24, 0), ("busy /16", 16, 60_000), ("busy /8", 8, 100_000)] {
        let mut pool = pool(prefix);
        let mut number = 0_u64;
        let mut fresh = || {
            number += 1;
            // Tokens are as random as real ones: the cost of the maps depends on it.
            u128::from(number).wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).to_le_bytes()
        };
        for _ in 0..live {
            pool.lease(at(0), &by(), None, fresh()).unwrap();
        }
        // Takes the best of five, so that a pause of the machine does not count.
        const ROUNDS: u32 = 200_000;
        let mut now = Duration::ZERO;
        let mut series = || {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                // Keeps 5000 addresses at any time if the subnet is large enough.
                now += Duration::from_millis(12);
                let lease = pool.lease(now, &by(), None, fresh()).unwrap();
                assert!(release(&mut pool, lease.addr, now));
            }
            start.elapsed() / ROUNDS
        };
        let each = (0..5).map(|_| series()).min().unwrap_or(Duration::MAX);
        println!("{name}: lease + release {each:?}, {} kept", pool.held().count());
        assert!(each < Duration::from_micros(2), "{name}: {each:?}");
    }
}

/// A pool in which a source may have four leases, and as many new ones in a minute.
fn shared(prefix: u8, new_per_minute: u32) -> Pool {
    Pool::new(Subnet { network: host(0), prefix }, HOLD, Limits { leases: 4, new_per_minute })
}

#[test]
fn a_source_has_its_share_and_no_more() {
    let mut pool = shared(28, 100);
    let leases: Vec<_> = (0..4).map(|number| pool.lease(at(0), &by(), None, token(number)).unwrap()).collect();
    let full = pool.lease(at(0), &by(), None, token(9)).unwrap_err();
    assert_eq!(full.to_string(), "192.0.2.7 has 4 addresses, its share");
    let other = pool.lease(at(0), &of_source(8), None, token(10)).unwrap();
    // Neither a take-over nor a resumption of another source's lease gets around it; of its own they do not count.
    assert_eq!(pool.lease(at(0), &by(), Some(&other.token), token(11)), Err(full));
    assert_eq!(pool.lease(at(0), &by(), Some(&leases[0].token), token(11)).unwrap().origin, Origin::TakenOver);
    assert!(release(&mut pool, other.addr, at(1)));
    assert_eq!(pool.lease(at(1), &by(), Some(&other.token), token(11)), Err(full));
    assert!(release(&mut pool, leases[1].addr, at(1)));
    assert_eq!(pool.lease(at(1), &by(), Some(&other.token), token(11)).unwrap().addr, other.addr);
    assert_eq!((pool.leased_of(by().source), pool.leased_of(of_source(8).source)), (4, 0));
    // A paid lease is not refused, and counts.
    let paid = Applicant { is_paid: true, ..by() };
    assert!(pool.lease(at(1), &paid, None, token(12)).is_ok());
    assert_eq!(pool.leased_of(by().source), 5);
}

/// 260 leases one after another, none at the same time as another, of one source.
#[test]
fn a_source_that_churns_uses_its_own_addresses() {
    let mut pool = shared(24, u32::MAX);
    let away = pool.lease(at(0), &of_source(1), None, token(1)).unwrap();
    assert!(release(&mut pool, away.addr, at(1)));
    let mut seen = HashSet::new();
    for number in 0..260 {
        let lease = pool.lease(at(2), &by(), None, token(100 + number)).unwrap();
        assert!(seen.insert(lease.addr) || number >= 4);
        assert!(release(&mut pool, lease.addr, at(2)));
    }
    assert_eq!((seen.len(), pool.fresh), (4, FIRST_HOST + 5), "as many as it may have at once");
    let again = pool.lease(at(3), &of_source(1), Some(&away.token), token(2)).unwrap();
    assert_eq!(of(&again), (away.addr, away.token, Origin::Resumed));
}

#[test]
fn the_networks_around_an_ipv6_source_churn_as_one() {
    let mut pool = shared(24, u32::MAX);
    let away = pool.lease(at(0), &of_source(1), None, token(1)).unwrap();
    assert!(release(&mut pool, away.addr, at(1)));
    for number in 0..1000_u16 {
        let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, number.wrapping_mul(257), 0, 0, 0, 1);
        let by = Applicant { source: Source::of(address.into()), is_paid: false };
        let lease = pool.lease(at(2), &by, None, token(100 + u64::from(number))).unwrap();
        assert!(release(&mut pool, lease.addr, at(2)));
    }
    assert_eq!(pool.fresh, FIRST_HOST + 9, "a /48 has twice a share");
    assert!(pool.knows(&away.token));
}

#[test]
fn without_unused_addresses_a_source_gets_its_own_before_anothers() {
    let mut pool = shared(29, 100);
    let [theirs, mine] = [(1, 1), (7, 2)].map(|(source, number)| {
        let lease = pool.lease(at(0), &of_source(source), None, token(number)).unwrap();
        assert!(release(&mut pool, lease.addr, at(number)));
        lease.addr
    });
    (0..3).for_each(|number| assert!(pool.lease(at(3), &of_source(9), None, token(10 + number)).is_ok()));
    let mut next = |number| pool.lease(at(3), &by(), None, token(number)).map(|lease| lease.addr);
    assert_eq!([next(20), next(21), next(22)], [Ok(mine), Ok(theirs), Err(LeaseError::Exhausted)]);
}

#[test]
fn new_addresses_have_a_rate_and_known_ones_none() {
    let limits = Limits { leases: 100, new_per_minute: 6 };
    let mut pool = Pool::new(Subnet { network: host(0), prefix: 24 }, HOLD, limits);
    let mut ask = |now: u64, by: &Applicant, resume: Option<&Token>, number: u64| {
        pool.lease(at(now), by, resume, token(number)).map(|lease| lease.token)
    };
    let given = (0..100).filter(|number| ask(0, &by(), None, *number).is_ok()).count();
    assert_eq!(given, 6);
    assert_eq!(ask(9, &by(), None, 100).unwrap_err().to_string(), "192.0.2.7 gets new addresses too fast");
    assert!(ask(9, &of_source(1), None, 101).is_ok() && ask(10, &by(), None, 102).is_ok());
    let known = token(102);
    assert!((0..100).all(|_| ask(11, &by(), Some(&known), 103) == Ok(known)));
    assert!(ask(11, &Applicant { is_paid: true, ..by() }, None, 104).is_ok());
    assert!(ask(11, &by(), None, 105).is_err(), "a paid one earns no free one");
}

/// Clients behind one address, each of which keeps no token.
#[test]
fn a_source_gets_what_it_returned_at_any_rate() {
    for (prefix, limits) in [(24, Limits::of_pool(253)), (16, Limits { leases: 16_383, new_per_minute: 64 })] {
        let mut pool = Pool::new(Subnet { network: host(0), prefix }, HOLD, limits);
        let away = pool.lease(at(0), &of_source(1), None, token(1)).unwrap();
        assert!(release(&mut pool, away.addr, at(0)));
        let mut seen = HashSet::<Ipv4Addr>::new();
        for round in 0..20 {
            // Twice a minute.
            let now = at(30 * round);
            let lease = |number| pool.lease(now, &by(), None, token(1000 * round + 100 + number)).unwrap().addr;
            let office: Vec<_> = (0..50).map(lease).collect();
            seen.extend(&office);
            office.into_iter().for_each(|addr| assert!(release(&mut pool, addr, now)));
        }
        assert!(pool.knows(&away.token), "a stranger keeps what it had");
        assert!(seen.len() <= 64 + 20 * 32, "{} addresses", seen.len());
    }
}

#[test]
fn the_default_share_of_a_small_pool() {
    let shares = [1, 2, 5, 13, 17, 29, 253].map(|capacity| Limits::of_pool(capacity).leases);
    assert_eq!(shares, [1, 1, 4, 4, 4, 7, 63]);
}

#[test]
fn the_books_of_sources_end_with_their_addresses() {
    let mut pool = Pool::new(Subnet { network: host(0), prefix: 8 }, Duration::ZERO, UNBOUNDED);
    for number in 0..40_000_u32 {
        let by = Applicant { source: Source::of(Ipv4Addr::from(number).into()), is_paid: false };
        let lease = pool.lease(at(2 * u64::from(number)), &by, None, token(number.into())).unwrap();
        assert!(release(&mut pool, lease.addr, at(2 * u64::from(number))));
    }
    let kept = pool.held().count();
    assert!(kept <= REMEMBERED + 1, "{kept}");
    assert_eq!(pool.shares.entries(), (0, kept, kept));
}

type Given = (Ipv4Addr, Token, Origin);

/// A naive model of the pool's rules. Sources are numbers; each may have `share` leases.
struct Model {
    capacity: u32,
    share: usize,
    used: u32,
    live: Vec<(Ipv4Addr, Token, u8)>,
    returned: Vec<(Ipv4Addr, Token, u8)>,
}

/// Why the model gives no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Address,
    Share,
}

impl Model {
    fn lease(&mut self, source: u8, resume: Option<Token>, fresh: Token) -> Result<Given, Lack> {
        let is_known = |entry: &(Ipv4Addr, Token, u8)| Some(entry.1) == resume;
        let of_source = |entry: &&(Ipv4Addr, Token, u8)| entry.2 == source;
        let live = self.live.iter().filter(of_source).count();
        let own = self.returned.iter().position(|entry| entry.2 == source);
        if let Some(entry) = self.live.iter_mut().find(|entry| is_known(entry)) {
            if entry.2 != source && live >= self.share {
                return Err(Lack::Share);
            }
            entry.2 = source;
            return Ok((entry.0, entry.1, Origin::TakenOver));
        }
        if live >= self.share {
            return Err(Lack::Share);
        }
        let lease = if let Some(index) = self.returned.iter().position(is_known) {
            let (addr, token, _) = self.returned.remove(index);
            (addr, token, Origin::Resumed)
        } else if let Some(own) = own.filter(|_| live + self.kept_of(source) >= self.share) {
            (self.returned.remove(own).0, fresh, Origin::New)
        } else if self.used < self.capacity {
            self.used += 1;
            (host(1 + self.used as u8), fresh, Origin::New)
        } else if !self.returned.is_empty() {
            (self.returned.remove(own.unwrap_or(0)).0, fresh, Origin::New)
        } else {
            return Err(Lack::Address);
        };
        self.live.push((lease.0, lease.1, source));
        Ok(lease)
    }

    fn kept_of(&self, source: u8) -> usize {
        self.returned.iter().filter(|entry| entry.2 == source).count()
    }

    fn release(&mut self, addr: Ipv4Addr) -> bool {
        let Some(index) = self.live.iter().position(|entry| entry.0 == addr) else { return false };
        let entry = self.live.remove(index);
        self.returned.push(entry);
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A client of this source asks.
    Lease(u8),
    /// It resumes with the token of the n-th lease so far, in whatever state that lease is, and whosever it was.
    Resume(u8, usize),
    Release(u8),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4).prop_map(Step::Lease),
        3 => (0_u8..4, 0_usize..1000).prop_map(|(source, index)| Step::Resume(source, index)),
        5 => (0_u8..18).prop_map(Step::Release),
        2 => (0_u8..80).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn behaves_as_the_naive_model(
        prefix in 28_u8..=30,
        share in 1_u32..16,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let limits = Limits { leases: share, new_per_minute: u32::MAX };
        let mut pool = Pool::new(Subnet { network: host(0), prefix }, HOLD, limits);
        let capacity = pool.subnet().capacity();
        let mut model =
            Model { capacity, share: share as usize, used: 0, live: Vec::new(), returned: Vec::new() };
        let reserved = [pool.subnet().network, pool.subnet().gateway(), pool.subnet().broadcast()];
        let mut tokens: Vec<Token> = Vec::new();
        let mut now = at(1);
        for (number, step) in steps.into_iter().enumerate() {
            let fresh = token(number as u64);
            match step {
                Step::Lease(source) | Step::Resume(source, _) => {
                    let resume = match step {
                        Step::Resume(_, index) if !tokens.is_empty() => Some(tokens[index % tokens.len()]),
                        _ => None,
                    };
                    let lease = pool.lease(now, &of_source(source), resume.as_ref(), fresh);
                    let lack = |error: &LeaseError| match error {
                        LeaseError::Exhausted => Lack::Address,
                        LeaseError::Share { .. } => Lack::Share,
                        LeaseError::Rate { .. } => panic!("no rate"),
                    };
                    let given = lease.as_ref().map(of).map_err(lack);
                    prop_assert_eq!(given, model.lease(source, resume, fresh));
                    tokens.extend(lease.map(|lease| lease.token));
                }
                Step::Release(number) => {
                    prop_assert_eq!(release(&mut pool, host(number), now), model.release(host(number)));
                }
                Step::Wait(seconds) => now += at(seconds.into()),
            }
            let live: HashSet<_> = model.live.iter().map(|entry| entry.0).collect();
            prop_assert_eq!(live.len(), model.live.len(), "no address twice");
            prop_assert!(reserved.iter().all(|addr| !live.contains(addr) && !pool.is_leased(*addr)));
            prop_assert!(live.iter().all(|addr| pool.is_leased(*addr)));
            prop_assert_eq!(pool.leased() as usize, live.len());
            prop_assert_eq!(pool.leased() + pool.available(), capacity);
            let order: Vec<_> = model.returned.iter().map(|entry| entry.0).collect();
            prop_assert_eq!(pool.released().collect::<Vec<_>>(), order);
            for source in 0..4 {
                let leased = model.live.iter().filter(|entry| entry.2 == source).count();
                prop_assert!(leased <= share as usize);
                prop_assert_eq!(pool.leased_of(of_source(source).source), leased as u64);
            }
        }
    }
}
