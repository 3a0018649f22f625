use super::*;
use crate::lease::Origin;
use crate::source::Source;

const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 30 };
const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const UNUSED_AFTER: Duration = Duration::from_secs(300);

fn leases_of(subnet: Subnet) -> Leases<u32> {
    let limits = Limits::of_pool(subnet.capacity());
    Leases::new(subnet, &LeaseRules { hold: Duration::from_secs(60), limits, unused_after: UNUSED_AFTER })
}

fn leases() -> Leases<u32> {
    leases_of(SUBNET)
}

/// The other sessions: when their clients were heard, and since when each is idle.
#[derive(Default)]
struct Others {
    heard: Option<Duration>,
    idle_since: HashMap<u32, Duration>,
}

impl Sessions<u32> for Others {
    fn heard(&self, _session: &u32) -> Option<Duration> {
        self.heard
    }

    fn idle_since(&self, session: &u32) -> Option<Duration> {
        self.idle_since.get(session).copied()
    }
}

fn from(number: u8) -> Applicant {
    Applicant { source: Source::of([192, 0, 2, number].into()), is_paid: false }
}

/// Returns the answer for session `number` with the token `resume`; the holder's last packet arrived at `heard`.
fn ask(leases: &mut Leases<u32>, now: u64, number: u32, resume: Option<Token>, heard: Option<u64>) -> Answer<u32> {
    ask_as(leases, now, number, resume, None, heard)
}

/// The same for a client that named a key with the token `key_token`.
fn ask_as(
    leases: &mut Leases<u32>,
    now: u64,
    number: u32,
    resume: Option<Token>,
    key_token: Option<Token>,
    heard: Option<u64>,
) -> Answer<u32> {
    let mut session = Session::new(ms(now));
    session.set_allowed(ms(now), true);
    let caps = Capabilities { resume, ..Capabilities::default() };
    let request = AddressRequest {
        session: &number,
        by: from(number as u8),
        is_leased: false,
        caps: &caps,
        key_tokens: key_token.as_slice(),
        static_token: None,
        fresh_token: Some([number as u8; 16]),
        is_tunnel_down: false,
    };
    leases.request(ms(now), &mut session, &request, &Others { heard: heard.map(ms), ..Others::default() })
}

fn given(answer: Answer<u32>) -> (Ipv4Addr, Origin, Option<u32>) {
    match answer {
        Answer::Give { lease, evicted, .. } => (lease.addr, lease.origin, evicted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_address_for_one_session() {
    let mut leases = leases();
    assert_eq!(given(ask(&mut leases, 0, 1, None, None)), (ADDR, Origin::New, None));
    assert_eq!(ask(&mut leases, 1, 2, None, None), Answer::NoAddress(LeaseError::Exhausted));
    assert_eq!((leases.holder(ADDR), leases.pool().leased()), (Some(&1), 1));
    assert!(!leases.end(ms(2), &2, ADDR), "not the session's address");
    assert!(leases.end(ms(2), &1, ADDR) && !leases.end(ms(2), &1, ADDR));
    assert_eq!((leases.holder(ADDR), leases.pool().leased()), (None, 0));
    assert_eq!(given(ask(&mut leases, 3, 2, Some([1; 16]), None)), (ADDR, Origin::Resumed, None));
}

#[test]
fn a_lease_whose_holder_does_not_answer_is_taken_over() {
    let mut leases = leases();
    ask(&mut leases, 0, 1, None, None);
    let token = Some([1; 16]);
    assert_eq!(ask(&mut leases, 1000, 2, token, Some(999)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 1249, 2, token, Some(999)), Answer::Wait);
    assert_eq!(ask(&mut leases, 1250, 2, token, Some(999)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 1499, 2, token, Some(999)), Answer::Wait);
    assert_eq!(ask(&mut leases, 1749, 2, token, Some(999)), Answer::PingHolder(1));
    assert_eq!(given(ask(&mut leases, 1750, 2, token, Some(999))), (ADDR, Origin::TakenOver, Some(1)));
    assert!(!leases.end(ms(1800), &1, ADDR), "the session has lost the address");
    assert_eq!((leases.holder(ADDR), leases.pool().leased()), (Some(&2), 1));
}

#[test]
fn a_holder_that_answers_keeps_its_lease() {
    let mut leases = leases();
    ask(&mut leases, 0, 1, None, None);
    let token = Some([1; 16]);
    assert_eq!(ask(&mut leases, 1000, 2, token, Some(0)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 2000, 2, token, Some(1000)), Answer::NoAddress(LeaseError::Exhausted));
    // The answer counts for a while, and then the holder is asked anew: it may have gone.
    assert_eq!(ask(&mut leases, 4000, 2, token, Some(1000)), Answer::NoAddress(LeaseError::Exhausted));
    assert_eq!(ask(&mut leases, 4001, 2, token, Some(1000)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 4002, 2, token, Some(4002)), Answer::NoAddress(LeaseError::Exhausted));
}

#[test]
fn a_probe_that_nobody_waits_for_expires() {
    let mut leases = leases();
    ask(&mut leases, 0, 1, None, None);
    let token = Some([1; 16]);
    assert_eq!(ask(&mut leases, 1000, 2, token, Some(0)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 11_001, 2, token, Some(0)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 11_250, 2, token, Some(0)), Answer::Wait);
    assert_eq!(given(ask(&mut leases, 11_751, 2, token, Some(0))).1, Origin::TakenOver);
}

#[test]
fn a_holder_that_cannot_be_probed_now_is_probed_later() {
    let mut leases = leases();
    ask(&mut leases, 0, 1, None, None);
    let token = Some([1; 16]);
    assert_eq!(ask(&mut leases, 1000, 2, token, None), Answer::Wait);
    assert_eq!(ask(&mut leases, 2000, 2, token, Some(0)), Answer::PingHolder(1));
}

/// A /29 with .2 to .6 for clients.
fn more_leases() -> Leases<u32> {
    let limits = Limits { leases: 10, new_per_minute: 100 };
    let rules = LeaseRules { hold: Duration::ZERO, limits, unused_after: UNUSED_AFTER };
    Leases::new(Subnet { prefix: 29, ..SUBNET }, &rules)
}

fn last(answer: Answer<u32>) -> (u8, Origin) {
    let (addr, origin, _) = given(answer);
    (addr.octets()[3], origin)
}

#[test]
fn a_client_without_a_token_gets_the_address_of_its_key_back() {
    let mut leases = more_leases();
    let [mine, other] = [Some([0xa; 16]), Some([0xb; 16])];
    assert_eq!(last(ask_as(&mut leases, 0, 1, None, mine, None)), (2, Origin::New));
    assert_eq!(last(ask_as(&mut leases, 0, 2, None, other, None)), (3, Origin::New));
    assert!(leases.end(ms(10), &1, ADDR));
    // The hold time of 0 is over, and unused addresses are left.
    assert_eq!(last(ask_as(&mut leases, 100_000, 3, None, mine, None)), (2, Origin::Resumed));
}

/// Anybody can name a key hash. A client that keeps tokens gets its address back by its token alone.
#[test]
fn a_key_leads_to_no_address_of_a_client_that_keeps_tokens() {
    let mut leases = more_leases();
    let key = Some([0xa; 16]);
    let caps = |resume| Capabilities { keep_alive: Some(5), resume, ..Capabilities::default() };
    let ask_with = |leases: &mut Leases<u32>, now, number, caps: &Capabilities| {
        let mut session = Session::new(ms(now));
        session.set_allowed(ms(now), true);
        let fresh_token = Some([number as u8; 16]);
        let request = AddressRequest {
            session: &number,
            by: from(number as u8),
            is_leased: false,
            caps,
            key_tokens: key.as_slice(),
            static_token: None,
            fresh_token,
            is_tunnel_down: false,
        };
        match leases.request(ms(now), &mut session, &request, &Others { heard: Some(ms(0)), ..Others::default() }) {
            Answer::Give { lease, .. } => (lease.addr.octets()[3], lease.token[0], lease.origin),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask_with(&mut leases, 0, 1, &caps(None)), (2, 1, Origin::New), "a token drawn at random");
    assert!(leases.end(ms(10), &1, ADDR));
    // A stranger names the key, without and with capabilities.
    assert_eq!(last(ask_as(&mut leases, 20, 2, None, key, None)), (3, Origin::New));
    assert!(leases.end(ms(30), &2, Ipv4Addr::new(10, 0, 0, 3)));
    assert_eq!(ask_with(&mut leases, 40, 3, &caps(None)), (4, 3, Origin::New), "nor is the key's token told");
    assert_eq!(ask_with(&mut leases, 50, 4, &caps(Some([1; 16]))), (2, 1, Origin::Resumed));
}

#[test]
fn two_sessions_of_one_key_get_two_addresses() {
    let mut leases = more_leases();
    let key = Some([0xa; 16]);
    assert_eq!(last(ask_as(&mut leases, 0, 1, None, key, None)), (2, Origin::New));
    assert_eq!(ask_as(&mut leases, 1000, 2, None, key, Some(0)), Answer::PingHolder(1));
    assert_eq!(last(ask_as(&mut leases, 1250, 2, None, key, Some(1001))), (3, Origin::New));
    // The key still leads to the first one's address, and the second one's token is its own.
    assert!(leases.end(ms(1300), &1, ADDR));
    assert_eq!(last(ask_as(&mut leases, 1300, 3, None, key, None)), (2, Origin::Resumed));
    assert!(leases.end(ms(1400), &2, Ipv4Addr::new(10, 0, 0, 3)));
    assert_eq!(last(ask(&mut leases, 1500, 4, Some([2; 16]), None)), (3, Origin::Resumed));
}

#[test]
fn each_session_of_a_key_gets_its_own_address_back() {
    let mut leases = more_leases();
    let tokens = [[0xa; 16], [0xb; 16]];
    let mut session = Session::new(ms(0));
    session.set_allowed(ms(0), true);
    let caps = Capabilities::default();
    let mut ask = |leases: &mut Leases<u32>, now: u64, number: u32| {
        let fresh_token = Some([number as u8; 16]);
        let request = AddressRequest {
            session: &number,
            by: from(number as u8),
            is_leased: false,
            caps: &caps,
            key_tokens: &tokens,
            static_token: None,
            fresh_token,
            is_tunnel_down: false,
        };
        // Every session answers at once.
        leases.request(ms(now), &mut session, &request, &Others { heard: Some(ms(now)), ..Others::default() })
    };
    let at = |last| Ipv4Addr::new(10, 0, 0, last);
    assert_eq!(last(ask(&mut leases, 0, 1)), (2, Origin::New));
    assert_eq!(ask(&mut leases, 1, 2), Answer::PingHolder(1));
    assert_eq!(last(ask(&mut leases, 251, 2)), (3, Origin::New));
    assert!(leases.end(ms(300), &2, at(3)));
    assert_eq!(last(ask(&mut leases, 301, 3)), (3, Origin::Resumed), "before a new address");
    // More sessions than tokens: a new address.
    assert_eq!(ask(&mut leases, 302, 4), Answer::PingHolder(3));
    assert_eq!(last(ask(&mut leases, 552, 4)), (4, Origin::New));
    assert!(leases.end(ms(600), &1, at(2)) && leases.end(ms(601), &3, at(3)));
    assert_eq!(last(ask(&mut leases, 602, 5)), (2, Origin::Resumed));
    assert_eq!(ask(&mut leases, 603, 6), Answer::PingHolder(5));
    assert_eq!(last(ask(&mut leases, 853, 6)), (3, Origin::Resumed));
}

#[test]
fn the_silent_session_of_a_key_loses_its_address_after_two_seconds() {
    let mut leases = more_leases();
    let key = Some([0xa; 16]);
    ask_as(&mut leases, 0, 1, None, key, None);
    assert_eq!(ask_as(&mut leases, 1000, 2, None, key, Some(0)), Answer::PingHolder(1));
    assert_eq!(ask_as(&mut leases, 2999, 2, None, key, Some(0)), Answer::PingHolder(1));
    assert_eq!(given(ask_as(&mut leases, 3000, 2, None, key, Some(0))), (ADDR, Origin::TakenOver, Some(1)));
}

#[test]
fn a_full_pool_gives_a_key_its_own_address_alone() {
    let mut leases = leases();
    let [mine, other] = [Some([0xa; 16]), Some([0xb; 16])];
    ask_as(&mut leases, 0, 1, None, mine, None);
    assert_eq!(ask_as(&mut leases, 1, 2, None, other, None), Answer::NoAddress(LeaseError::Exhausted));
    assert_eq!(ask_as(&mut leases, 1, 2, None, mine, Some(0)), Answer::PingHolder(1));
    assert_eq!(ask_as(&mut leases, 300, 2, None, mine, Some(2)), Answer::NoAddress(LeaseError::Exhausted));
}

#[test]
fn the_order_of_checks_before_an_address_is_given() {
    let mut leases = leases();
    let mut session = Session::new(ms(0));
    let caps = Capabilities { keep_alive: Some(5), ..Capabilities::default() };
    let mut request = AddressRequest {
        session: &1,
        by: from(1),
        is_leased: true,
        caps: &caps,
        key_tokens: &[],
        static_token: None,
        fresh_token: None,
        is_tunnel_down: true,
    };
    let mut ask = |session: &mut Session, request: &AddressRequest<'_, u32>| {
        leases.request(ms(0), session, request, &Others::default())
    };
    assert_eq!(ask(&mut session, &request), Answer::NotAllowed);
    session.set_allowed(ms(0), true);
    assert_eq!(ask(&mut session, &request), Answer::Problem(problem::TUNNEL_DOWN));
    request.is_tunnel_down = false;
    assert_eq!(ask(&mut session, &request), Answer::Problem(problem::ALREADY_ASSIGNED_ADDR));
    request.is_leased = false;
    assert_eq!(ask(&mut session, &request), Answer::NoToken);
    assert_eq!(leases.pool().leased(), 0);
}

#[test]
fn a_client_that_announces_nothing_gets_the_legacy_reply() {
    let terms = Terms {
        subnet: SUBNET,
        mtu: 1390,
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        keep_alive: Duration::from_secs(20),
        bundles: true,
    };
    let lease = Lease { addr: ADDR, token: [7; 16], id: 0, origin: Origin::New };
    let plain = terms.reply(&lease, &Capabilities::default());
    assert_eq!((plain.encode(1, 0).len(), plain.netmask), (28, None));
    let asked = Capabilities { mtu: Some(9000), bundle: Some(100), ..Capabilities::default() };
    let caps = terms.reply(&lease, &asked).caps.unwrap();
    assert_eq!((caps.mtu, caps.bundle, caps.keep_alive), (Some(1390), Some(MAX_BUNDLE as u16), None));
    assert_eq!((caps.resume, caps.dns), (Some([7; 16]), terms.dns.clone()));
    assert_eq!(terms.reply(&lease, &Capabilities { bundle: None, ..asked }).caps.unwrap().bundle, None);
}

#[test]
fn a_pause_of_the_server_takes_no_lease_over() {
    let mut leases = leases();
    ask(&mut leases, 0, 1, None, None);
    let token = Some([1; 16]);
    assert_eq!(ask(&mut leases, 1000, 2, token, Some(0)), Answer::PingHolder(1));
    // The server is stopped for 5 s. The holder's answer waits to be read.
    assert_eq!(ask(&mut leases, 6000, 2, token, Some(0)), Answer::PingHolder(1));
    assert_eq!(ask(&mut leases, 7000, 2, token, Some(6001)), Answer::NoAddress(LeaseError::Exhausted));
}

/// Returns the answer for session `number`, which pays or not, of the client at 192.0.2.`host`, at a second.
fn ask_from(
    leases: &mut Leases<u32>,
    second: u64,
    (number, host, is_paid): (u32, u8, bool),
    others: &Others,
) -> Answer<u32> {
    let now = Duration::from_secs(second);
    let mut session = Session::new(now);
    session.set_allowed(now, true);
    let request = AddressRequest {
        session: &number,
        by: Applicant { is_paid, ..from(host) },
        is_leased: false,
        caps: &Capabilities::default(),
        key_tokens: &[],
        static_token: None,
        fresh_token: Some(u128::from(number).to_le_bytes()),
        is_tunnel_down: false,
    };
    leases.request(now, &mut session, &request, others)
}

fn is_given(answer: &Answer<u32>) -> bool {
    matches!(answer, Answer::Give { .. })
}

fn ended(answer: Answer<u32>) -> Option<(u32, u8)> {
    match answer {
        Answer::Give { unused, .. } => unused.map(|(session, addr)| (session, addr.octets()[3])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_source_gets_a_quarter_of_the_default_pool() {
    let mut leases = leases_of(Subnet { network: Ipv4Addr::new(10, 98, 0, 0), prefix: 24 });
    let others = Others::default();
    let given = (0..253).filter(|number| is_given(&ask_from(&mut leases, 0, (*number, 1, false), &others))).count();
    assert_eq!(given, 63);
    let Answer::NoAddress(error) = ask_from(&mut leases, 60, (300, 1, false), &others) else { panic!("given") };
    assert_eq!(error.to_string(), "192.0.2.1 has 63 addresses, its share");
    assert!(is_given(&ask_from(&mut leases, 60, (301, 2, false), &others)));
    // A client that pays is not kept away by its neighbours.
    assert!(is_given(&ask_from(&mut leases, 60, (302, 1, true), &others)));
}

#[test]
fn an_unused_lease_of_the_own_source_ends_for_a_client_beyond_the_share() {
    let mut leases = leases_of(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 28 });
    let mut others = Others::default();
    // A quarter of 13 are three, and the least is four.
    assert!((1..=3).all(|number| is_given(&ask_from(&mut leases, 0, (number, 1, false), &others))));
    assert!(is_given(&ask_from(&mut leases, 0, (8, 1, false), &others)));
    assert!(is_given(&ask_from(&mut leases, 0, (9, 2, false), &others)));
    others.idle_since = [(1, ms(60_000)), (2, ms(50_000)), (9, ms(0))].into();
    assert!(!is_given(&ask_from(&mut leases, 349, (4, 1, false), &others)), "none is unused for 300 s");
    assert_eq!(ended(ask_from(&mut leases, 350, (4, 1, false), &others)), Some((2, 3)), "the longest of its own");
    assert_eq!((leases.pool().leased(), leases.holder(Ipv4Addr::new(10, 0, 0, 3))), (5, Some(&4)));
    // The others carry packets, or pay: they stay.
    others.idle_since.insert(4, ms(350_000));
    assert_eq!(ended(ask_from(&mut leases, 400, (5, 1, false), &others)), Some((1, 2)));
    assert!(!is_given(&ask_from(&mut leases, 500, (6, 1, false), &others)));
}

#[test]
fn an_unused_lease_of_the_largest_source_ends_when_the_pool_is_used_up() {
    let mut leases = leases_of(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 28 });
    let mut others = Others::default();
    for (number, host) in (0..13).zip([1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6]) {
        assert!(is_given(&ask_from(&mut leases, 0, (number, host, false), &others)));
    }
    let full = ask_from(&mut leases, 300, (20, 7, true), &others);
    assert_eq!(full, Answer::NoAddress(LeaseError::Exhausted), "every lease is in use, or paid");
    // Sessions 12 and 9 are idle for longer, but are all, or half, that their sources have.
    others.idle_since = [(12, ms(0)), (9, ms(1)), (4, ms(3)), (5, ms(2))].into();
    assert!(!is_given(&ask_from(&mut leases, 300, (20, 7, false), &others)), "not looked again within a second");
    assert_eq!(ended(ask_from(&mut leases, 302, (20, 7, false), &others)), Some((5, 7)));
    // Found at the same look, and checked again.
    others.idle_since.remove(&4);
    assert_eq!(ended(ask_from(&mut leases, 302, (21, 7, false), &others)).map(|(session, _)| session), Some(9));
    assert_eq!(leases.pool().leased(), 13);
}

/// Returns the answer for a session of the client at this address, at a second.
fn ask_at(
    leases: &mut Leases<u32>,
    second: u64,
    number: u32,
    address: &str,
    others: &impl Sessions<u32>,
) -> Answer<u32> {
    let now = Duration::from_secs(second);
    let mut session = Session::new(now);
    session.set_allowed(now, true);
    let request = AddressRequest {
        session: &number,
        by: Applicant { source: Source::of(address.parse().unwrap()), is_paid: false },
        is_leased: false,
        caps: &Capabilities::default(),
        key_tokens: &[],
        static_token: None,
        fresh_token: Some(u128::from(number).to_le_bytes()),
        is_tunnel_down: false,
    };
    leases.request(now, &mut session, &request, others)
}

/// One lease in each of 126 /64s looks small, and is all that a /48 may have.
#[test]
fn a_network_of_many_small_sources_loses_before_an_office() {
    let mut leases = leases_of(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 24 });
    let mut others = Others::default();
    for number in 0..2 {
        assert!(is_given(&ask_at(&mut leases, 0, number, "192.0.2.1", &others)));
    }
    for number in 2..128 {
        let address = format!("2001:db8:1:{:x}::1", number * 0x101);
        assert!(is_given(&ask_at(&mut leases, 0, number, &address, &others)), "{address}");
    }
    for number in 128..253 {
        let address = format!("192.0.2.{number}");
        assert!(is_given(&ask_at(&mut leases, 0, number, &address, &others)));
    }
    // The office is idle for longer.
    others.idle_since = (0..128).map(|number| (number, ms(u64::from(number)))).collect();
    for newcomer in 0..126 {
        let address = format!("198.51.100.{newcomer}");
        let lost = ended(ask_at(&mut leases, 400, 1000 + newcomer, &address, &others)).unwrap();
        assert_eq!(lost.0, 2 + newcomer);
    }
    assert_eq!(ended(ask_at(&mut leases, 400, 2000, "198.51.100.200", &others)).map(|(session, _)| session), Some(0));
}

/// Sessions that are idle at the first look at each, and counts the looks.
struct Counted {
    idle_looks: u32,
    looks: std::cell::Cell<u32>,
}

impl Sessions<u32> for Counted {
    fn heard(&self, _session: &u32) -> Option<Duration> {
        None
    }

    fn idle_since(&self, _session: &u32) -> Option<Duration> {
        self.looks.set(self.looks.get() + 1);
        (self.looks.get() <= self.idle_looks).then_some(Duration::ZERO)
    }
}

#[test]
fn requests_between_two_looks_cost_no_more_than_a_look() {
    const SHARE: u32 = 3000;
    let limits = Limits { leases: SHARE, new_per_minute: u32::MAX };
    let rules = LeaseRules { hold: Duration::ZERO, limits, unused_after: UNUSED_AFTER };
    let mut leases = Leases::new(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 16 }, &rules);
    let sessions = Counted { idle_looks: SHARE + 1, looks: Default::default() };
    for number in 0..SHARE {
        assert!(is_given(&ask_at(&mut leases, 0, number, "192.0.2.1", &sessions)));
    }
    // All are idle, and one ends for a newcomer. Then all are in use again, and the source does not stop asking.
    assert!(is_given(&ask_at(&mut leases, 400, SHARE, "192.0.2.1", &sessions)));
    let given = (0..256).filter(|more| is_given(&ask_at(&mut leases, 400, SHARE + 1 + more, "192.0.2.1", &sessions)));
    assert_eq!(given.count(), 0);
    assert!(sessions.looks.get() <= 2 * SHARE + 1, "{} looks", sessions.looks.get());
}

#[test]
fn a_session_whose_lease_ended_in_vain_is_named() {
    let mut leases = leases_of(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 30 });
    let mut others = Others::default();
    assert!(is_given(&ask_from(&mut leases, 0, (1, 1, false), &others)));
    others.idle_since = [(1, ms(0))].into();
    // The books of the pool name another lease, so that its end frees no address.
    leases.holders.get_mut(&ADDR).unwrap().lease = 99;
    let answer = ask_from(&mut leases, 400, (2, 2, false), &others);
    assert_eq!(answer, Answer::EndedInVain(LeaseError::Exhausted, (1, ADDR)));
}
