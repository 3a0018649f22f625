//! The pool: hands out addresses, takes them back, and keeps a returned one for its client for a while.

use super::subnet::Subnet;
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

/// What a client shows to get its address back. Drawn at random by the server, secret between the two.
pub type Token = [u8; 16];

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
/// Every operation costs the same however large the subnet is, and memory grows with the addresses in use.
#[derive(Debug)]
pub struct Pool {
    subnet: Subnet,
    hold: Duration,
    /// Number of the next address that was never leased.
    fresh: u32,
    /// Leased addresses by number. The keys of the maps here are numbers and tokens that
    /// the server drew itself, none that a client chose, so nobody can arrange collisions in a fast hash.
    live: FxHashMap<u32, Live>,
    /// Returned, and kept for their clients: in order of return, each with a ticket that only grows.
    held: BTreeMap<u64, Held>,
    /// What a token brings back.
    by_token: FxHashMap<Token, Known>,
    /// Returned before all of `held`, and kept no longer.
    free: VecDeque<u32>,
    next_ticket: u64,
    next_lease: u64,
    /// The latest time seen. Workers read the clock before they reach the pool, so an earlier one may follow.
    now: Duration,
}

#[derive(Debug)]
struct Live {
    token: Token,
    id: u64,
}

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The number of a leased address.
    Live(u32),
    /// A ticket of `held`.
    Held(u64),
}

#[derive(Debug)]
struct Held {
    host: u32,
    returned: Duration,
    token: Token,
}

/// Number of the first address for a client: 0 is the network, 1 the gateway.
const FIRST_HOST: u32 = 2;

/// How many outdated holds one operation drops at most: more than one, so that they cannot pile up, and few, so that
/// no operation pays for thousands of clients that left together.
const SWEEP: usize = 8;

impl Pool {
    /// A pool of all addresses of the subnet; a returned one can be resumed for `hold`.
    pub fn new(subnet: Subnet, hold: Duration) -> Pool {
        Pool {
            subnet,
            hold,
            fresh: FIRST_HOST,
            live: FxHashMap::default(),
            held: BTreeMap::new(),
            by_token: FxHashMap::default(),
            free: VecDeque::new(),
            next_ticket: 0,
            next_lease: 0,
            now: Duration::ZERO,
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
        self.live.insert(host, Live { token, id });
        self.by_token.insert(token, Known::Live(host));
        Ok(Lease { addr: self.addr(host), token, id, origin })
    }

    /// Takes an address back from the lease of that number; `false` when it was not leased by it, so that a second
    /// release, and one of a lease that was taken over, change nothing.
    pub fn release(&mut self, addr: Ipv4Addr, id: u64, now: Duration) -> bool {
        self.advance(now);
        let Some(host) = self.subnet.host(addr) else { return false };
        if self.live.get(&host).is_none_or(|live| live.id != id) {
            return false;
        }
        let Some(Live { token, .. }) = self.live.remove(&host) else { return false };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.held.insert(ticket, Held { host, returned: self.now, token });
        self.by_token.insert(token, Known::Held(ticket));
        true
    }

    /// The address that is leased to who shows the token.
    pub fn leased_to(&self, token: &Token) -> Option<Ipv4Addr> {
        match *self.by_token.get(token)? {
            Known::Live(host) if self.live.get(&host)?.token == *token => Some(self.addr(host)),
            _ => None,
        }
    }

    /// Addresses that are leased.
    pub fn leased(&self) -> u32 {
        self.live.len() as u32
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
        self.subnet.host(addr).is_some_and(|host| self.live.contains_key(&host))
    }

    /// Addresses that were leased and came back, in the order in which they would be leased again.
    pub fn released(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.free.iter().copied().chain(self.held.values().map(|held| held.host)).map(|host| self.addr(host))
    }

    /// Moves time on and stops keeping some of the addresses whose hold time has passed.
    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        for _ in 0..SWEEP {
            match self.held.first_key_value() {
                Some((_, held)) if !self.is_kept(held) => {}
                _ => break,
            }
            if let Some(host) = self.pop_held() {
                self.free.push_back(host);
            }
        }
    }

    fn is_kept(&self, held: &Held) -> bool {
        self.now.saturating_sub(held.returned) < self.hold
    }

    fn resume(&mut self, token: &Token) -> Option<(u32, Origin)> {
        let ticket = match *self.by_token.get(token)? {
            Known::Live(host) => {
                // Were a token ever drawn twice, it might be another lease's by now.
                let is_its = self.live.get(&host).is_some_and(|live| live.token == *token);
                return is_its.then_some((host, Origin::TakenOver));
            }
            Known::Held(ticket) => ticket,
        };
        // The sweep is bounded, so an outdated hold may still be here.
        if !self.is_kept(self.held.get(&ticket)?) {
            return None;
        }
        self.by_token.remove(token);
        self.held.remove(&ticket).map(|held| (held.host, Origin::Resumed))
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

    fn pop_held(&mut self) -> Option<u32> {
        let (ticket, held) = self.held.pop_first()?;
        // Were a token ever drawn twice, its entry is the later hold's.
        if let Entry::Occupied(entry) = self.by_token.entry(held.token)
            && *entry.get() == Known::Held(ticket)
        {
            entry.remove();
        }
        Some(held.host)
    }

    fn addr(&self, host: u32) -> Ipv4Addr {
        // Numbers in the pool are below the broadcast address's, so this is never the network address.
        self.subnet.address(host).unwrap_or(self.subnet.network)
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
