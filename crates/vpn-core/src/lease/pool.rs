//! The pool: leases addresses, and keeps a returned address for its client for a while.

use super::Token;
use super::given::{Entry, Lease, LeaseError, Occupancy, Origin};
use super::record::{PageSet, TokenHash};
use super::shares::{Applicant, Limits, Shares};
use super::slots::{self, Slot, Slots, State};
use super::subnet::Subnet;
use crate::source::{Network, Source};
use hashbrown::HashTable;
use hashbrown::hash_table;
use std::collections::{HashMap, VecDeque};
use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The addresses of one subnet. The network, gateway and broadcast addresses are never leased.
///
/// No source has more than its share of the leases ([`Limits`]). Unused addresses are leased first, from the one behind
/// the gateway upward, then returned ones: those of the client's own source first, then others in the order of their
/// return. A source that has had as many addresses as its share, or has got new ones too fast, gets its own returned ones
/// even while there are unused ones, so that it cannot use up the pool by coming and going. A returned address can be
/// resumed while no other client has it (as RFC 2131, 4.3.1, advises), at least during the hold time; later only if it is
/// among the last 16,384 that were returned.
///
/// A reserved address ([`Pool::reserve`]) is leased to its client alone. It counts for no share and no rate.
///
/// What changes is told by pages ([`Pool::next_changed`]), which the owner stores. [`Pool::restore`] then keeps the
/// addresses for their clients, as if all had left when the pool before ended. The pool knows tokens by their hashes alone.
///
/// The cost of an operation grows with the logarithm of the addresses that can be resumed, and memory with the addresses
/// in use: some 80 bytes for each that is leased or can be resumed, as much again for each source, three times for IPv6.
///
/// A client that returns shows the token of its lease to get the same address:
///
/// ```
/// use std::time::Duration;
/// use vpn_core::lease::{Applicant, LeaseError, Limits, Origin, Pool, Subnet};
/// use vpn_core::source::Source;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let subnet = Subnet::parse("10.98.0.0", "255.255.255.252")?;
/// let mut pool = Pool::new(subnet, Duration::from_secs(3600), Limits::of_pool(subnet.capacity()));
/// let by = Applicant { source: Source::of([192, 0, 2, 7].into()), is_paid: false };
/// let other = Applicant { source: Source::of([192, 0, 2, 8].into()), is_paid: false };
/// let at = Duration::from_secs;
///
/// let lease = pool.lease(at(0), &by, None, [1; 16])?;
/// assert_eq!(lease.addr.to_string(), "10.98.0.2");
/// // A /30 has one address for clients.
/// assert_eq!(pool.lease(at(1), &other, None, [2; 16]), Err(LeaseError::Exhausted));
///
/// assert!(pool.release(lease.addr, lease.id, at(10)));
/// let again = pool.lease(at(20), &by, Some(&lease.token), [3; 16])?;
/// assert_eq!((again.addr, again.origin), (lease.addr, Origin::Resumed));
/// // The first lease has ended, so this release has no effect.
/// assert!(!pool.release(lease.addr, lease.id, at(30)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    subnet: Subnet,
    hold: u64,
    /// The number of the next unused address.
    fresh: u32,
    /// The leased addresses, and those that are kept for their clients.
    slots: Slots,
    leased: u32,
    /// The addresses that are one client's alone, with its token.
    reserved: HashMap<u32, TokenHash>,
    /// What each source has.
    shares: Shares,
    /// The ends of the list of kept addresses, in the order of their return; 0 if it is empty.
    oldest: u32,
    newest: u32,
    /// The length of that list.
    kept: usize,
    /// Maps a token's hash to the address's number; the hash itself is in `slots`.
    by_token: HashTable<u32>,
    /// Addresses below `fresh` that were returned and are no longer kept, in the order of their return.
    free: VecDeque<u32>,
    /// The pages with records that have changed since they were taken.
    changed: PageSet,
    next_lease: u64,
    /// The time of the last return, in nanoseconds.
    last_return: u64,
    /// The time on the pool's clock at which the caller's begins: not before the last return of the pool that was restored.
    began: u64,
    /// The latest time seen, in nanoseconds on the pool's clock. Workers read the clock before they lock the pool, so an
    /// earlier time may follow.
    now: u64,
}

/// The number of the first address for a client: 1 is the gateway.
const FIRST_HOST: u32 = 2;

/// The number of no address: marks the end of a list.
const NONE: u32 = 0;

/// How many returned addresses are kept for their clients beyond the hold time: 0.8 MB.
const REMEMBERED: usize = 16_384;

/// The largest number of expired holds that one operation removes: more than one, so that they cannot pile up, and few,
/// so that no operation pays for thousands of clients that left together.
const MAX_EXPIRED_PER_CALL: usize = 8;

impl Pool {
    /// Creates a pool of all addresses of the subnet. A returned address is kept for `hold`.
    pub fn new(subnet: Subnet, hold: Duration, limits: Limits) -> Pool {
        Pool {
            subnet,
            hold: nanoseconds(hold),
            fresh: FIRST_HOST,
            slots: Slots::default(),
            leased: 0,
            reserved: HashMap::new(),
            shares: Shares::new(limits),
            oldest: NONE,
            newest: NONE,
            kept: 0,
            by_token: HashTable::new(),
            free: VecDeque::new(),
            changed: PageSet::default(),
            next_lease: 0,
            last_return: 0,
            began: 0,
            now: 0,
        }
    }

    /// Reserves an address for the client that shows this token, before the pool is restored. Returns false if the address
    /// is not for clients, or is reserved already.
    pub fn reserve(&mut self, addr: Ipv4Addr, token: &Token) -> bool {
        let host = self.subnet.number(addr).filter(|host| self.is_for_clients(*host));
        let Some(host) = host.filter(|host| self.slots.get(*host).is_none()) else { return false };
        let (token, nobody) = (TokenHash::of(token), Source::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        self.slots.set(host, Slot { token, source: nobody, state: State::Reserved });
        self.index_token(host, token);
        self.reserved.insert(host, token).is_none()
    }

    /// Changes how long a returned address is kept, and the limits.
    pub fn set_rules(&mut self, hold: Duration, limits: Limits) {
        self.hold = nanoseconds(hold);
        self.shares.set_limits(limits);
    }

    /// Leases an address.
    ///
    /// `now` is the monotonic time since any fixed origin. `resume` is the token of an earlier lease. Its address is
    /// leased again if it still is leased, or if it is kept. The client then keeps its token, because a reply with a new
    /// one may be lost with the connection. An unknown token is treated like `None`. A new lease gets `fresh_token`.
    pub fn lease(
        &mut self,
        now: Duration,
        by: &Applicant,
        resume: Option<&Token>,
        fresh_token: Token,
    ) -> Result<Lease, LeaseError> {
        self.advance(now);
        let known = resume.and_then(|token| Some((*token, self.known(token)?)));
        let (host, token, hash, origin) = match known {
            Some((token, (host, slot))) => (host, token, slot.token, self.resume(by, host, slot)?),
            None => (self.new_host(now, by)?, fresh_token, TokenHash::of(&fresh_token), Origin::New),
        };
        let id = self.next_lease;
        self.next_lease += 1;
        self.slots.set(host, Slot { token: hash, source: by.source, state: State::Live { id } });
        if origin == Origin::New {
            self.index_token(host, hash);
        }
        if origin != Origin::TakenOver {
            self.leased += 1;
        }
        if !self.reserved.contains_key(&host) {
            self.shares.lease(by.source);
            self.changed.add(slots::page(host));
        }
        Ok(Lease { addr: self.addr(host), token, id, origin })
    }

    /// Ends the lease with this number. Returns `false` if the address is not leased under it, so a second release, or
    /// that of a lease that was taken over, has no effect.
    pub fn release(&mut self, addr: Ipv4Addr, id: u64, now: Duration) -> bool {
        self.advance(now);
        let Some(host) = self.subnet.number(addr) else { return false };
        let Some(slot) = self.slots.get_mut(host) else { return false };
        if !matches!(slot.state, State::Live { id: current } if current == id) {
            return false;
        }
        match self.reserved.get(&host).copied() {
            Some(token) => {
                let former = std::mem::replace(&mut slot.token, token);
                slot.state = State::Reserved;
                // It was reserved while another client had it.
                if former != token {
                    self.forget_token(host, former);
                    self.index_token(host, token);
                }
            }
            None => {
                let source = slot.source;
                self.keep(host, source);
            }
        }
        self.leased -= 1;
        true
    }

    /// Keeps an address, which was leased until now, as the newest of the kept ones.
    fn keep(&mut self, host: u32, source: Source) {
        let returned = self.now.max(self.last_return.saturating_add(1));
        self.last_return = returned;
        if let Some(slot) = self.slots.get_mut(host) {
            slot.state = State::Held { returned, older: self.newest, newer: NONE };
        }
        self.shares.keep(source, returned, host);
        match self.newest {
            NONE => self.oldest = host,
            newest => self.link(newest, |_, newer| *newer = host),
        }
        self.newest = host;
        self.kept += 1;
        self.changed.add(slots::page(host));
    }

    /// The address that is leased under this token.
    pub fn leased_to(&self, token: &Token) -> Option<Ipv4Addr> {
        let host = self.host_of(token)?;
        matches!(self.slots.get(host)?.state, State::Live { .. }).then(|| self.addr(host))
    }

    /// Whether an address is leased under this token, or kept for it.
    pub fn knows(&self, token: &Token) -> bool {
        self.host_of(token).is_some()
    }

    /// The source of the client that an address is leased to, or kept for.
    pub fn source_of(&self, addr: Ipv4Addr) -> Option<Source> {
        let host = self.subnet.number(addr)?;
        Some(self.slots.get(host)?.source)
    }

    /// The number of leased addresses of a source.
    pub fn leased_of(&self, source: Source) -> u64 {
        self.shares.leased(source)
    }

    /// How large a part of its share a source has, or that one of the networks around it which has the largest part; in
    /// parts of 2^32.
    pub fn part_of(&self, source: Source) -> u64 {
        self.shares.part(source)
    }

    /// Whether the end of a lease in this network lets the applicant have one, whose share is used up.
    pub fn may_replace(&self, by: &Applicant, network: &Network) -> bool {
        self.shares.may_replace(by, network)
    }

    /// The number of leased addresses.
    pub fn leased(&self) -> u32 {
        self.leased
    }

    /// The number of addresses that can be leased now, including the kept ones.
    pub fn available(&self) -> u32 {
        self.subnet.capacity() - self.leased()
    }

    /// How the addresses for clients are used now. The cost grows with the reserved ones.
    pub fn occupancy(&self) -> Occupancy {
        let is_idle = |host: &&u32| self.slots.get(**host).is_some_and(|slot| matches!(slot.state, State::Reserved));
        let reserved = self.reserved.keys().filter(is_idle).count() as u32;
        let (capacity, kept) = (self.subnet.capacity(), self.kept as u32);
        let free = capacity.saturating_sub(self.leased).saturating_sub(kept).saturating_sub(reserved);
        Occupancy { capacity, leased: self.leased, kept, reserved, free, all_reserved: self.reserved.len() as u32 }
    }

    /// The subnet.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// Whether the address is leased.
    pub fn is_leased(&self, addr: Ipv4Addr) -> bool {
        let slot = self.subnet.number(addr).and_then(|host| self.slots.get(host));
        slot.is_some_and(|slot| matches!(slot.state, State::Live { .. }))
    }

    /// Whether the address is one client's alone.
    pub fn is_reserved(&self, addr: Ipv4Addr) -> bool {
        self.subnet.number(addr).is_some_and(|host| self.reserved.contains_key(&host))
    }

    /// The returned addresses, in the order in which they are leased again to sources that returned none.
    pub fn released(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.free.iter().copied().chain(self.held()).map(|host| self.addr(host))
    }

    /// Returns the addresses that are leased, kept or reserved, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (Ipv4Addr, Entry)> {
        let entry = |(host, slot): (u32, &Slot)| {
            let is_reserved = self.reserved.contains_key(&host);
            let entry = match slot.state {
                State::Live { .. } => Entry::Leased { is_reserved },
                State::Reserved => Entry::Reserved,
                State::Held { returned, .. } => {
                    Entry::Kept { ago: Duration::from_nanos(self.now.saturating_sub(returned)) }
                }
            };
            (self.addr(host), entry)
        };
        self.slots.all().map(entry)
    }

    /// The kept addresses, in the order of their return.
    fn held(&self) -> impl Iterator<Item = u32> {
        let some = |host: u32| (host != NONE).then_some(host);
        iter::successors(some(self.oldest), move |host| match self.slots.get(*host)?.state {
            State::Held { newer, .. } => some(newer),
            State::Live { .. } | State::Reserved => None,
        })
    }

    /// Advances the pool's clock, and stops keeping some of the addresses whose hold time is over, if there are many.
    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(self.began.saturating_add(nanoseconds(now)));
        for _ in 0..MAX_EXPIRED_PER_CALL {
            if self.kept <= REMEMBERED || !self.is_oldest_expired() {
                break;
            }
            let oldest = self.oldest;
            // A restored one that was not reached yet is unused again.
            if self.stop_keeping(oldest).is_some() && oldest < self.fresh {
                self.free.push_back(oldest);
            }
        }
    }

    fn is_oldest_expired(&self) -> bool {
        match self.slots.get(self.oldest) {
            Some(Slot { state: State::Held { returned, .. }, .. }) => self.now.saturating_sub(*returned) >= self.hold,
            _ => false,
        }
    }

    fn known(&self, token: &Token) -> Option<(u32, Slot)> {
        let host = self.host_of(token)?;
        Some((host, *self.slots.get(host)?))
    }

    /// Takes a known address out of the hands that it is in.
    fn resume(&mut self, by: &Applicant, host: u32, slot: Slot) -> Result<Origin, LeaseError> {
        match slot.state {
            State::Live { .. } if self.reserved.contains_key(&host) => Ok(Origin::TakenOver),
            State::Live { .. } => {
                self.shares.check_share(by, (slot.source != by.source).into())?;
                self.shares.end(slot.source);
                Ok(Origin::TakenOver)
            }
            State::Reserved => Ok(Origin::Static),
            State::Held { returned, .. } => {
                self.shares.check_share(by, 1)?;
                self.shares.forget(slot.source, returned, host);
                self.unlink(host);
                Ok(Origin::Resumed)
            }
        }
    }

    fn new_host(&mut self, now: Duration, by: &Applicant) -> Result<u32, LeaseError> {
        // The share comes last: its lack can be mended at once, by the end of another lease.
        let own = self.shares.own_kept_at_limit(now, by)?;
        self.shares.check_share(by, 1)?;
        let (host, former) = self.next_host(by.source, own).ok_or(LeaseError::Exhausted)?;
        self.shares.count_new(now, by, former);
        Ok(host)
    }

    /// Takes the next address: the kept one that a source at its limit has to use again, an unused one, one that is no
    /// longer kept, a kept one of the source, or the oldest kept one. Returns the source that it was kept for as well.
    fn next_host(&mut self, source: Source, own: Option<u32>) -> Option<(u32, Option<Source>)> {
        if own.is_none() {
            while self.is_for_clients(self.fresh) {
                let host = self.fresh;
                self.fresh += 1;
                // A restored one may be anywhere.
                if self.slots.get(host).is_none() {
                    return Some((host, None));
                }
            }
            if let Some(host) = self.free.pop_front() {
                return Some((host, None));
            }
        }
        let kept = own.or_else(|| self.shares.own_kept(source)).unwrap_or(self.oldest);
        self.stop_keeping(kept).map(|former| (kept, Some(former)))
    }

    /// Stops keeping an address. Its token becomes invalid. Returns the source that it was kept for; `None` if it was
    /// not.
    fn stop_keeping(&mut self, host: u32) -> Option<Source> {
        let Some(Slot { token, source, state: State::Held { returned, .. } }) = self.slots.get(host).copied() else {
            return None;
        };
        self.unlink(host);
        self.shares.forget(source, returned, host);
        self.forget_token(host, token);
        self.slots.remove(host);
        self.changed.add(slots::page(host));
        Some(source)
    }

    /// Removes an address from the list of kept ones.
    fn unlink(&mut self, host: u32) {
        let Some(Slot { state: State::Held { older, newer, .. }, .. }) = self.slots.get(host).copied() else { return };
        self.kept -= 1;
        match older {
            NONE => self.oldest = newer,
            older => self.link(older, |_, its_newer| *its_newer = newer),
        }
        match newer {
            NONE => self.newest = older,
            newer => self.link(newer, |its_older, _| *its_older = older),
        }
    }

    /// Changes the older and the newer neighbour of a kept address.
    fn link(&mut self, host: u32, change: impl FnOnce(&mut u32, &mut u32)) {
        if let Some(Slot { state: State::Held { older, newer, .. }, .. }) = self.slots.get_mut(host) {
            change(older, newer);
        }
    }

    fn host_of(&self, token: &Token) -> Option<u32> {
        let token = TokenHash::of(token);
        let has_token = |host: &u32| self.slots.get(*host).is_some_and(|slot| slot.token == token);
        self.by_token.find(token.number(), has_token).copied()
    }

    /// Makes the token resume this address.
    fn index_token(&mut self, host: u32, token: TokenHash) {
        let slots = &self.slots;
        let is_its = |known: &u32| slots.get(*known).is_some_and(|slot| slot.token == token);
        let rehash = |known: &u32| slots.get(*known).map_or(0, |slot| slot.token.number());
        match self.by_token.entry(token.number(), is_its, rehash) {
            hash_table::Entry::Occupied(mut entry) => *entry.get_mut() = host,
            hash_table::Entry::Vacant(entry) => {
                entry.insert(host);
            }
        }
    }

    /// The token no longer resumes this address.
    fn forget_token(&mut self, host: u32, token: TokenHash) {
        // If a token was drawn twice, the entry belongs to the later lease.
        if let Ok(entry) = self.by_token.find_entry(token.number(), |known| *known == host) {
            entry.remove();
        }
    }

    /// Whether a client may have the address with this number.
    fn is_for_clients(&self, host: u32) -> bool {
        host.checked_sub(FIRST_HOST).is_some_and(|behind| behind < self.subnet.capacity())
    }

    fn addr(&self, host: u32) -> Ipv4Addr {
        self.subnet.numbered(host)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

mod reserved;
mod stored;

pub use reserved::Reserved;
pub use stored::Restored;

#[cfg(test)]
mod restarts;
#[cfg(test)]
mod tests;
