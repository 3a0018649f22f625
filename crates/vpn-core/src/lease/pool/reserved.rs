//! Reservations that come and go while addresses are leased.

use std::net::{IpAddr, Ipv4Addr};

use super::super::Token;
use super::super::record::TokenHash;
use super::super::slots::{self, Slot, State};
use super::Pool;
use crate::source::Source;

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The address is its client's from now on.
    Now,
    /// Another client has it now: it is its client's when that lease ends.
    AfterLease,
    /// The address is not for clients, or is reserved already.
    Not,
}

impl Pool {
    /// Reserves an address for the client that shows this token, as [`Pool::reserve`] does, at any time. One that is kept
    /// for another client is kept no longer; one that is leased stays leased.
    pub fn reserve_now(&mut self, addr: Ipv4Addr, token: &Token) -> Reserved {
        let host = self.subnet.number(addr).filter(|host| self.is_for_clients(*host));
        let Some(host) = host.filter(|host| !self.reserved.contains_key(host)) else { return Reserved::Not };
        let token = TokenHash::of(token);
        self.changed.add(slots::page(host));
        if let Some(Slot { source, state: State::Live { .. }, .. }) = self.slots.get(host).copied() {
            self.shares.end(source);
            self.reserved.insert(host, token);
            return Reserved::AfterLease;
        }
        self.stop_keeping(host);
        self.free.retain(|free| *free != host);
        let nobody = Source::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.slots.set(host, Slot { token, source: nobody, state: State::Reserved });
        self.index_token(host, token);
        self.reserved.insert(host, token);
        Reserved::Now
    }

    /// Ends the reservation of an address; does nothing without one. A client that has it keeps it until its lease ends,
    /// but its token, which may be reserved another address, leads to it no longer: the address gets `fresh_token`.
    pub fn unreserve(&mut self, addr: Ipv4Addr, fresh_token: &Token) {
        let Some(host) = self.subnet.number(addr) else { return };
        let Some(token) = self.reserved.remove(&host) else { return };
        self.changed.add(slots::page(host));
        let Some(slot) = self.slots.get_mut(host) else { return };
        match slot.state {
            State::Live { .. } => {
                let (fresh, source, is_static) = (TokenHash::of(fresh_token), slot.source, slot.token == token);
                if is_static {
                    slot.token = fresh;
                    self.forget_token(host, token);
                    self.index_token(host, fresh);
                }
                self.shares.lease(source);
            }
            State::Reserved | State::Held { .. } => {
                self.forget_token(host, token);
                self.slots.remove(host);
                // Otherwise it is unused.
                if host < self.fresh {
                    self.free.push_back(host);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Applicant, Limits, Origin, Subnet};
    use std::time::Duration;

    const STATIC: Token = [200; 16];

    struct Given(Pool);

    impl Given {
        /// A pool of .2 to .6.
        fn new() -> Given {
            let subnet = Subnet::parse("10.98.0.0", "255.255.255.248").unwrap();
            Given(Pool::new(subnet, Duration::from_secs(60), Limits::of_source(5)))
        }

        fn lease(&mut self, source: u8, resume: Option<Token>, fresh: u8) -> (u8, u64, Origin) {
            let by = Applicant { source: Source::of([192, 0, 2, source].into()), is_paid: false };
            let lease = self.0.lease(Duration::from_secs(1), &by, resume.as_ref(), [fresh; 16]).unwrap();
            (lease.addr.octets()[3], lease.id, lease.origin)
        }

        fn release(&mut self, last: u8, id: u64) {
            assert!(self.0.release(addr(last), id, Duration::from_secs(2)));
        }

        fn leased_of(&self, source: u8) -> u64 {
            self.0.leased_of(Source::of([192, 0, 2, source].into()))
        }
    }

    fn addr(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 98, 0, last)
    }

    #[test]
    fn an_unused_address_is_its_clients_at_once() {
        let mut pool = Given::new();
        assert_eq!(pool.0.reserve_now(addr(2), &STATIC), Reserved::Now);
        assert_eq!(pool.0.reserve_now(addr(2), &STATIC), Reserved::Not);
        assert_eq!(pool.0.reserve_now(addr(1), &STATIC), Reserved::Not);
        assert_eq!(pool.lease(1, None, 1).0, 3);
        let (last, id, origin) = pool.lease(2, Some(STATIC), 2);
        assert_eq!((last, origin, pool.leased_of(2)), (2, Origin::Static, 0));
        pool.release(2, id);
        pool.0.unreserve(addr(2), &[9; 16]);
        pool.0.unreserve(addr(2), &[9; 16]);
        assert!(!pool.0.knows(&STATIC));
        let rest: Vec<_> = (10..14).map(|fresh| pool.lease(3, None, fresh).0).collect();
        assert_eq!(rest, [4, 5, 6, 2], "everybody may have it again");
    }

    #[test]
    fn a_kept_address_is_kept_no_longer() {
        let mut pool = Given::new();
        let (_, id, _) = pool.lease(1, None, 1);
        pool.release(2, id);
        assert_eq!(pool.0.reserve_now(addr(2), &STATIC), Reserved::Now);
        assert!(!pool.0.knows(&[1; 16]));
        let others: Vec<_> = (10..14).map(|fresh| pool.lease(1, None, fresh).0).collect();
        assert_eq!(others, [3, 4, 5, 6]);
        let by = Applicant { source: Source::of([192, 0, 2, 9].into()), is_paid: true };
        assert!(pool.0.lease(Duration::from_secs(3), &by, None, [3; 16]).is_err(), "it is reserved");
        assert_eq!(pool.lease(2, Some(STATIC), 4).0, 2);
    }

    #[test]
    fn a_leased_address_stays_until_its_lease_ends() {
        let mut pool = Given::new();
        let (_, id, _) = pool.lease(1, None, 1);
        assert_eq!(pool.0.reserve_now(addr(2), &STATIC), Reserved::AfterLease);
        assert!(pool.0.is_leased(addr(2)) && !pool.0.knows(&STATIC));
        // Its client takes its own session over.
        let (last, again, origin) = pool.lease(1, Some([1; 16]), 2);
        assert_eq!((last, origin, pool.leased_of(1)), (2, Origin::TakenOver, 0));
        assert!(!pool.0.release(addr(2), id, Duration::from_secs(2)));
        pool.release(2, again);
        assert!(!pool.0.knows(&[1; 16]));
        assert_eq!(pool.lease(2, Some(STATIC), 3).0, 2);
    }

    /// The operator moves a client to another address while it is connected.
    #[test]
    fn a_reservation_moves_to_another_address() {
        let mut pool = Given::new();
        pool.0.reserve_now(addr(3), &STATIC);
        let (_, id, _) = pool.lease(2, Some(STATIC), 1);
        pool.0.unreserve(addr(3), &[9; 16]);
        assert_eq!(pool.0.reserve_now(addr(5), &STATIC), Reserved::Now);
        assert_eq!(pool.leased_of(2), 1, "it is a lease as any other now");
        assert_eq!(pool.0.leased_to(&STATIC), None);
        let (last, _, origin) = pool.lease(2, Some(STATIC), 2);
        assert_eq!((last, origin), (5, Origin::Static));
        pool.release(3, id);
        assert_eq!(pool.leased_of(2), 0);
        assert_eq!(pool.lease(2, Some([9; 16]), 3).0, 3);
    }
}
