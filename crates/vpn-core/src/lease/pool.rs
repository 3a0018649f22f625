//! The pool: hands out addresses, takes them back, and keeps a returned one for its client for a while.

use super::Token;
use super::slots::{Slot, Slots, State};
use super::subnet::Subnet;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::VecDeque;
use std::iter;
use std::net::Ipv4Addr;
use std::time::Duration;

/// An address that now belongs to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub addr: Ipv4Addr,
    /// The token that brings it back after the lease: the fresh one, or the one that was resumed.
    pub token: Token,
    /// Number of this lease: an address's next lease has another one.
    pub id: u64,
    /// Where the address came from.
    pub origin: Origin,
}

/// Where a leased address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client had it never, or too long ago.
    New,
    /// The client had it before, and got it back.
    Resumed,
    /// The client still had it, by a connection that it has left without the server's noticing. The lease of that
    /// connection has ended with this one.
    TakenOver,
}

/// Why there is no lease.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// Every address is leased.
    #[error("no free address")]
    Exhausted,
}

/// The addresses of one subnet: network, gateway and broadcast address never leave it.
///
/// Never used addresses go first, from .2 upward, then returned ones in the order of their return. A returned address
/// can be resumed for the hold time; it goes to somebody else within that time only when nothing else is left.
///
/// Every operation costs the same however large the subnet is, and memory grows with the addresses in use: 50 bytes for
/// each. Most of the time goes into waiting for memory, so a lease touches little of it: one slot, which its release
/// touches again, and one entry of the table of tokens, which stays as it is until the address is kept no longer.
///
/// A client that comes back within the hold time gets its address again by the token of its lease:
///
/// ```
/// use std::time::Duration;
/// use vpn_core::lease::{LeaseError, Origin, Pool, Subnet};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subnet = Subnet::parse("10.98.0.0", "255.255.255.252")?;
/// let mut pool = Pool::new(subnet, Duration::from_secs(3600));
/// let at = Duration::from_secs;
///
/// let lease = pool.lease(at(0), None, [1; 16])?;
/// assert_eq!(lease.addr.to_string(), "10.98.0.2");
/// // A /30 has one address for a client.
/// assert_eq!(pool.lease(at(1), None, [2; 16]), Err(LeaseError::Exhausted));
///
/// assert!(pool.release(lease.addr, lease.id, at(10)));
/// let again = pool.lease(at(20), Some(&lease.token), [3; 16])?;
/// assert_eq!((again.addr, again.origin), (lease.addr, Origin::Resumed));
/// // The first lease has ended, so it has nothing left to release.
/// assert!(!pool.release(lease.addr, lease.id, at(30)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    subnet: Subnet,
    hold: u64,
    /// Number of the next address that was never leased.
    fresh: u32,
    /// Leased addresses, and those that are kept for their clients.
    slots: Slots,
    leased: u32,
    /// Ends of the list of kept addresses, which is in the order of their return; 0: it is empty.
    oldest: u32,
    newest: u32,
    /// The numbers that tokens bring back: those in `slots`, where the token is. The server drew all tokens in here at
    /// random, so nobody can arrange collisions in a fast hash.
    by_token: HashTable<u32>,
    /// Returned before all that are kept, and kept no longer.
    free: VecDeque<u32>,
    next_lease: u64,
    /// The latest time seen, nanoseconds. Workers read the clock before they reach the pool, so an earlier one may
    /// follow.
    now: u64,
}

/// Number of the first address for a client: 0 is the network, 1 the gateway.
const FIRST_HOST: u32 = 2;

/// The network's number, which is no client's: the end of a list.
const NONE: u32 = 0;

/// How many outdated holds one operation drops at most: more than one, so that they cannot pile up, and few, so that
/// no operation pays for thousands of clients that left together.
const SWEEP: usize = 8;

impl Pool {
    /// A pool of all addresses of the subnet; a returned one can be resumed for `hold`.
    pub fn new(subnet: Subnet, hold: Duration) -> Pool {
        Pool {
            subnet,
            hold: nanoseconds(hold),
            fresh: FIRST_HOST,
            slots: Slots::default(),
            leased: 0,
            oldest: NONE,
            newest: NONE,
            by_token: HashTable::new(),
            free: VecDeque::new(),
            next_lease: 0,
            now: 0,
        }
    }

    /// Leases an address.
    ///
    /// `now` is monotonic time since any fixed origin. `resume` is the token of an earlier lease: its address comes
    /// back if it still is leased, or was returned less than the hold time ago and nobody got it since; and so does its
    /// token, because the reply that would tell a new one may be lost with the connection. A token that is unknown is
    /// answered like none. `fresh_token` is a new random token for the lease otherwise.
    pub fn lease(&mut self, now: Duration, resume: Option<&Token>, fresh_token: Token) -> Result<Lease, LeaseError> {
        self.advance(now);
        let (host, token, origin) = match resume.and_then(|token| Some((self.resume(token)?, *token))) {
            Some(((host, origin), token)) => (host, token, origin),
            None => (self.next_host().ok_or(LeaseError::Exhausted)?, fresh_token, Origin::New),
        };
        let id = self.next_lease;
        self.next_lease += 1;
        self.slots.set(host, Slot { token, state: State::Live { id } });
        if origin == Origin::New {
            self.know(host, token);
        }
        if origin != Origin::TakenOver {
            self.leased += 1;
        }
        Ok(Lease { addr: self.addr(host), token, id, origin })
    }

    /// Takes an address back from the lease of that number; `false` when it was not leased by it, so that a second
    /// release, and one of a lease that was taken over, change nothing.
    pub fn release(&mut self, addr: Ipv4Addr, id: u64, now: Duration) -> bool {
        self.advance(now);
        let Some(host) = self.subnet.host(addr) else { return false };
        let Some(slot) = self.slots.get_mut(host) else { return false };
        if !matches!(slot.state, State::Live { id: current } if current == id) {
            return false;
        }
        slot.state = State::Held { returned: self.now, older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = host,
            newest => self.link(newest, |_, newer| *newer = host),
        }
        self.newest = host;
        self.leased -= 1;
        true
    }

    /// The address that is leased to who shows the token.
    pub fn leased_to(&self, token: &Token) -> Option<Ipv4Addr> {
        let host = self.host_of(token)?;
        matches!(self.slots.get(host)?.state, State::Live { .. }).then(|| self.addr(host))
    }

    /// Addresses that are leased.
    pub fn leased(&self) -> u32 {
        self.leased
    }

    /// Addresses that can be leased now, kept ones included.
    pub fn available(&self) -> u32 {
        self.subnet.capacity() - self.leased()
    }

    /// The subnet.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// Whether the address is leased.
    pub fn is_leased(&self, addr: Ipv4Addr) -> bool {
        let slot = self.subnet.host(addr).and_then(|host| self.slots.get(host));
        slot.is_some_and(|slot| matches!(slot.state, State::Live { .. }))
    }

    /// Addresses that were leased and came back, in the order in which they would be leased again.
    pub fn released(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.free.iter().copied().chain(self.held()).map(|host| self.addr(host))
    }

    /// The addresses that are kept, in the order of their return.
    fn held(&self) -> impl Iterator<Item = u32> {
        let some = |host: u32| (host != NONE).then_some(host);
        iter::successors(some(self.oldest), move |host| match self.slots.get(*host)?.state {
            State::Held { newer, .. } => some(newer),
            State::Live { .. } => None,
        })
    }

    /// Moves time on and stops keeping some of the addresses whose hold time has passed.
    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(nanoseconds(now));
        for _ in 0..SWEEP {
            match self.slots.get(self.oldest) {
                Some(Slot { state: State::Held { returned, .. }, .. }) if !self.is_kept(*returned) => {}
                _ => break,
            }
            if let Some(host) = self.pop_held() {
                self.free.push_back(host);
            }
        }
    }

    fn is_kept(&self, returned: u64) -> bool {
        self.now.saturating_sub(returned) < self.hold
    }

    fn resume(&mut self, token: &Token) -> Option<(u32, Origin)> {
        let host = self.host_of(token)?;
        match self.slots.get(host)?.state {
            State::Live { .. } => Some((host, Origin::TakenOver)),
            // The sweep is bounded, so an outdated hold may still be here.
            State::Held { returned, .. } => self.is_kept(returned).then(|| {
                self.unlink(host);
                (host, Origin::Resumed)
            }),
        }
    }

    /// The next address in order: never used, returned and free, returned and kept. As all are kept equally long, the
    /// order of return is also the order in which the hold times pass.
    fn next_host(&mut self) -> Option<u32> {
        if self.fresh < self.subnet.host_mask() {
            let host = self.fresh;
            self.fresh += 1;
            return Some(host);
        }
        self.free.pop_front().or_else(|| self.pop_held())
    }

    /// Keeps the oldest no longer; its token is worth nothing from now on.
    fn pop_held(&mut self) -> Option<u32> {
        let host = self.oldest;
        let token = self.slots.get(host)?.token;
        self.unlink(host);
        // Were a token ever drawn twice, its entry is the later lease's.
        if let Ok(entry) = self.by_token.find_entry(hash(&token), |known| *known == host) {
            entry.remove();
        }
        self.slots.remove(host);
        Some(host)
    }

    /// Takes an address out of the list of kept ones.
    fn unlink(&mut self, host: u32) {
        let Some(Slot { state: State::Held { older, newer, .. }, .. }) = self.slots.get(host).copied() else { return };
        match older {
            NONE => self.oldest = newer,
            older => self.link(older, |_, its_newer| *its_newer = newer),
        }
        match newer {
            NONE => self.newest = older,
            newer => self.link(newer, |its_older, _| *its_older = older),
        }
    }

    /// Changes the neighbours, older and newer, of a kept address.
    fn link(&mut self, host: u32, change: impl FnOnce(&mut u32, &mut u32)) {
        if let Some(Slot { state: State::Held { older, newer, .. }, .. }) = self.slots.get_mut(host) {
            change(older, newer);
        }
    }

    fn host_of(&self, token: &Token) -> Option<u32> {
        self.by_token.find(hash(token), |host| self.has_token(*host, token)).copied()
    }

    /// From now on the token stands for this address.
    fn know(&mut self, host: u32, token: Token) {
        let slots = &self.slots;
        let is_its = |known: &u32| slots.get(*known).is_some_and(|slot| slot.token == token);
        let rehash = |known: &u32| slots.get(*known).map_or(0, |slot| hash(&slot.token));
        match self.by_token.entry(hash(&token), is_its, rehash) {
            Entry::Occupied(mut entry) => *entry.get_mut() = host,
            Entry::Vacant(entry) => {
                entry.insert(host);
            }
        }
    }

    fn has_token(&self, host: u32, token: &Token) -> bool {
        self.slots.get(host).is_some_and(|slot| slot.token == *token)
    }

    fn addr(&self, host: u32) -> Ipv4Addr {
        // Numbers in the pool are below the broadcast address's, so this is never the network address.
        self.subnet.address(host).unwrap_or(self.subnet.network)
    }
}

/// Tokens are random already; those of tests are not, so the halves are mixed.
fn hash(token: &Token) -> u64 {
    let token = u128::from_le_bytes(*token);
    let mixed = ((token >> 64) as u64 ^ token as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
