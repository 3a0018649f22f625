use super::*;
use proptest::prelude::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limits() -> GraceLimits {
    GraceLimits {
        window: s(100),
        time: s(10),
        bytes: 1000,
        source_at_once: 2,
        source_time: s(25),
        source_bytes: 2500,
        total_at_once: 3,
        total_bytes: 6000,
        sources: 4,
    }
}

fn host(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn limit(time: u64, bytes: u64) -> GraceLimit {
    GraceLimit { time: s(time), bytes }
}

#[test]
fn a_source_has_so_many_at_once_and_so_much_in_a_window() {
    let mut grace = Grace::new(limits());
    assert_eq!(grace.admit(s(0), host(1)), Ok(limit(10, 1000)));
    assert_eq!(grace.admit(s(0), host(1)), Ok(limit(10, 1000)));
    assert_eq!(grace.admit(s(0), host(1)), Err(GraceRefusal::SourceAtOnce));
    for _ in 0..2 {
        grace.release(s(10), host(1), limit(10, 1000), s(10), 1000);
    }
    assert_eq!(grace.admit(s(10), host(1)), Ok(limit(5, 500)), "the remainder");
    assert_eq!(grace.admit(s(10), host(1)), Err(GraceRefusal::SourceUsed), "reserved");
    grace.release(s(11), host(1), limit(5, 500), s(1), 500);
    assert_eq!(grace.admit(s(12), host(1)), Err(GraceRefusal::SourceUsed), "no bytes");
    assert_eq!(grace.admit(s(12), host(2)), Ok(limit(10, 1000)), "another source");
    assert_eq!(grace.admit(s(99), host(1)), Err(GraceRefusal::SourceUsed));
    assert_eq!(grace.admit(s(100), host(1)), Ok(limit(10, 1000)), "another window");
}

#[test]
fn what_was_reserved_and_not_used_can_be_used() {
    let mut grace = Grace::new(limits());
    for _ in 0..20 {
        let given = grace.admit(s(1), host(1)).unwrap();
        assert_eq!(given, limit(10, 1000));
        grace.release(s(1), host(1), given, s(0), 0);
    }
}

#[test]
fn all_sources_together_have_so_many_at_once_and_so_many_bytes() {
    let mut grace = Grace::new(limits());
    for last in 1..=3 {
        grace.admit(s(0), host(last)).unwrap();
    }
    assert_eq!(grace.admit(s(0), host(4)), Err(GraceRefusal::TotalAtOnce));
    for last in 1..=3 {
        grace.release(s(5), host(last), limit(10, 1000), s(5), 1000);
    }
    grace.admit(s(6), host(4)).unwrap();
    grace.release(s(7), host(4), limit(10, 1000), s(1), 2800);
    assert_eq!(grace.admit(s(8), host(1)), Ok(limit(10, 200)));
    assert_eq!(grace.admit(s(8), host(2)), Err(GraceRefusal::TotalUsed));
    grace.release(s(9), host(1), limit(10, 200), s(1), 100);
    assert_eq!(grace.admit(s(10), host(2)), Ok(limit(10, 100)));
}

#[test]
fn an_ipv6_network_is_one_source_and_a_mapped_address_its_ipv4_address() {
    let mut grace = Grace::new(GraceLimits { source_at_once: 1, total_at_once: 9, sources: 9, ..limits() });
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    grace.admit(s(0), ip("2001:db8:1:2::7")).unwrap();
    assert_eq!(grace.admit(s(0), ip("2001:db8:1:2:ffff::9")), Err(GraceRefusal::SourceAtOnce));
    grace.admit(s(0), ip("2001:db8:1:3::7")).unwrap();
    grace.admit(s(0), ip("192.0.2.1")).unwrap();
    assert_eq!(grace.admit(s(0), ip("::ffff:192.0.2.1")), Err(GraceRefusal::SourceAtOnce));
    grace.release(s(1), ip("2001:db8:1:2::1"), limit(10, 1000), s(1), 1);
    grace.admit(s(1), ip("2001:db8:1:2::7")).unwrap();
}

#[test]
fn remembered_sources_are_bounded() {
    let mut grace = Grace::new(limits());
    for last in 1..=4 {
        let given = grace.admit(s(1), host(last)).unwrap();
        grace.release(s(1), host(last), given, s(1), 1);
    }
    assert_eq!(grace.admit(s(2), host(5)), Err(GraceRefusal::Sources));
    assert!(grace.admit(s(50), host(1)).is_ok(), "a remembered one");
    assert!(grace.admit(s(101), host(5)).is_ok(), "three windows are over");
    assert_eq!(grace.sources(), 2, "the first one's grace lasts");
}

#[test]
fn a_release_without_a_grace_has_no_effect() {
    let mut grace = Grace::new(limits());
    grace.release(s(0), host(1), limit(10, 1000), s(10), 1000);
    assert_eq!(grace.sources(), 0);
    let given = grace.admit(s(0), host(1)).unwrap();
    grace.release(s(0), host(1), given, s(1), 10);
    grace.release(s(0), host(1), given, s(10), 1000);
    assert_eq!(grace.admit(s(0), host(1)), Ok(limit(10, 1000)));
    assert_eq!(grace.admit(s(0), host(1)), Ok(limit(10, 1000)));
}

proptest! {
    /// Any clients that use at most what they were given: in no window more is used than the bounds.
    #[test]
    fn no_interleaving_exceeds_the_bounds(
        steps in prop::collection::vec((0_u64..8, 1_u8..7, any::<bool>(), 0_u64..=100), 1..200),
    ) {
        let limits = limits();
        let mut grace = Grace::new(limits);
        let mut now = 0;
        let mut active: Vec<(u8, u64, GraceLimit)> = Vec::new();
        // Start of service, source, seconds and bytes.
        let mut ended: Vec<(u64, u8, u64, u64)> = Vec::new();
        for (pause, source, begins, percent) in steps {
            now += pause;
            if begins {
                if let Ok(given) = grace.admit(s(now), host(source)) {
                    prop_assert!(given.time <= limits.time && given.bytes <= limits.bytes);
                    prop_assert!(!given.time.is_zero() && given.bytes > 0);
                    active.push((source, now, given));
                }
            } else if let Some(at) = active.iter().position(|(of, ..)| *of == source) {
                let (source, from, given) = active.remove(at);
                let time = given.time.as_secs().min(now - from);
                let bytes = given.bytes * percent / 100;
                grace.release(s(now), host(source), given, s(time), bytes);
                ended.push((now, source, time, bytes));
            }
            prop_assert!(active.len() <= limits.total_at_once as usize && grace.sources() <= limits.sources);
            // Two windows of the table touch any span of one window's length.
            let recent = |(at, ..): &&(u64, u8, u64, u64)| now - at < limits.window.as_secs();
            let bytes: u64 = ended.iter().filter(recent).map(|(.., bytes)| bytes).sum();
            let reserved: u64 = active.iter().map(|(.., given)| given.bytes).sum();
            prop_assert!(bytes + reserved <= 2 * limits.total_bytes);
            for source in 1..7 {
                prop_assert!(active.iter().filter(|(of, ..)| *of == source).count() <= limits.source_at_once as usize);
                let own = || ended.iter().filter(recent).filter(|(_, of, ..)| *of == source);
                prop_assert!(own().map(|(_, _, time, _)| time).sum::<u64>() <= 2 * limits.source_time.as_secs());
                prop_assert!(own().map(|(.., bytes)| bytes).sum::<u64>() <= 2 * limits.source_bytes);
            }
        }
    }
}

#[test]
fn service_for_a_payment_that_did_not_come_is_grace() {
    let mut grace = Grace::new(limits());
    assert!(!grace.is_used(s(0), host(1)));
    grace.charge(s(0), host(1), s(20), 0);
    assert!(!grace.is_used(s(1), host(1)));
    assert_eq!(grace.admit(s(1), host(1)), Ok(limit(5, 1000)));
    grace.charge(s(2), host(1), s(5), 0);
    assert!(grace.is_used(s(2), host(1)));
    assert!(!grace.is_used(s(2), host(2)));
    grace.charge(s(3), host(2), s(0), 2500);
    assert!(grace.is_used(s(3), host(2)));
    assert!(!grace.is_used(s(103), host(2)), "the window is over");
}

#[test]
fn charges_take_no_place_that_there_is_not() {
    let mut grace = Grace::new(limits());
    for last in 0..9 {
        grace.charge(s(0), host(last), s(1), 1);
    }
    assert_eq!(grace.sources(), 4);
}
