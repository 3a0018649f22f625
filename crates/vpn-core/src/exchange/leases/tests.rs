use super::*;
use crate::lease::Origin;

const SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 30 };
const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn leases() -> Leases<u32> {
    Leases::new(SUBNET, Duration::from_secs(60))
}

/// Returns the answer for session `number` with the token `resume`; the holder's last packet arrived at `heard`.
fn ask(leases: &mut Leases<u32>, now: u64, number: u32, resume: Option<Token>, heard: Option<u64>) -> Answer<u32> {
    let mut session = Session::new(ms(now));
    session.set_allowed(ms(now), true);
    let caps = Capabilities { resume, ..Capabilities::default() };
    let request = AddressRequest {
        session: &number,
        is_leased: false,
        caps: &caps,
        fresh_token: Some([number as u8; 16]),
        is_tunnel_down: false,
    };
    leases.request(ms(now), &mut session, &request, |_| heard.map(ms))
}

fn given(answer: Answer<u32>) -> (Ipv4Addr, Origin, Option<u32>) {
    match answer {
        Answer::Give { lease, evicted } => (lease.addr, lease.origin, evicted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_address_for_one_session() {
    let mut leases = leases();
    assert_eq!(given(ask(&mut leases, 0, 1, None, None)), (ADDR, Origin::New, None));
    assert_eq!(ask(&mut leases, 1, 2, None, None), Answer::Problem(problem::NO_FREE_ADDR));
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
    assert_eq!(ask(&mut leases, 1749, 2, token, Some(999)), Answer::Wait);
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
    assert_eq!(ask(&mut leases, 2000, 2, token, Some(1000)), Answer::Problem(problem::NO_FREE_ADDR));
    // The holder is probed again after a while.
    assert_eq!(ask(&mut leases, 11_000, 2, token, Some(1000)), Answer::Problem(problem::NO_FREE_ADDR));
    assert_eq!(ask(&mut leases, 11_001, 2, token, Some(1000)), Answer::PingHolder(1));
}

#[test]
fn a_holder_that_cannot_be_probed_now_is_probed_later() {
    let mut leases = leases();
    ask(&mut leases, 0, 1, None, None);
    let token = Some([1; 16]);
    assert_eq!(ask(&mut leases, 1000, 2, token, None), Answer::Wait);
    assert_eq!(ask(&mut leases, 2000, 2, token, Some(0)), Answer::PingHolder(1));
}

#[test]
fn the_order_of_checks_before_an_address_is_given() {
    let mut leases = leases();
    let mut session = Session::new(ms(0));
    let caps = Capabilities { keep_alive: Some(5), ..Capabilities::default() };
    let mut request =
        AddressRequest { session: &1, is_leased: true, caps: &caps, fresh_token: None, is_tunnel_down: true };
    let mut ask = |session: &mut Session, request: &AddressRequest<'_, u32>| {
        leases.request(ms(0), session, request, |_| panic!("no session has a lease"))
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
