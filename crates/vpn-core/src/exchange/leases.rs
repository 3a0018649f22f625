//! Which session has which address: deciding requests, taking leases over, ending them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::session::Session;
use crate::lease::{Applicant, Lease, LeaseError, Limits, Pool, Reserved, Restored, Subnet, Token};
use crate::wire::{AddrReply, Capabilities, MAX_BUNDLE, problem};

mod unused;

use unused::Unused;

/// How long the client of a session has to answer a probe of its liveness. The client that requests its lease repeats
/// the request after a second.
const PROBE_TIMEOUT: Duration = Duration::from_millis(750);
/// The same for a client that is known by the hash of its key alone. Anybody can name that hash, so the session gets
/// more time: a client on a poor path must not lose its address to a stranger.
const KEY_PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a session is pinged during a probe. What it has acknowledged is seen at the next ping.
const PING_INTERVAL: Duration = Duration::from_millis(250);
/// The age at which a probe without an answer expires and is repeated.
const PROBE_EXPIRY: Duration = Duration::from_secs(10);
/// The longest time from a ping to the next look at its answer, while this process runs: a client repeats its request
/// after 2 s at the latest. After a pause of the process the answer may still have to be read: it is asked for anew.
const PROBE_GAP: Duration = Duration::from_secs(3);
/// The age at which a probe with an answer expires: until then a claim on another address of the same key is decided.
const ANSWER_EXPIRY: Duration = Duration::from_secs(3);

/// A client's request for an address.
#[derive(Clone, Debug)]
pub struct AddressRequest<'a, S> {
    /// The client's session.
    pub session: &'a S,
    /// Where the client comes from, and whether it pays.
    pub by: Applicant,
    /// The session already has an address.
    pub is_leased: bool,
    /// The client's capabilities, and the token of its last lease.
    pub caps: &'a Capabilities,
    /// The tokens made of the client's key hash, one for each of its sessions; none if it named no key. They count for a
    /// client without capabilities, which can keep no token.
    pub key_tokens: &'a [Token],
    /// The token of the address that is reserved for the client, which has proved its key; `None` without one.
    pub static_token: Option<Token>,
    /// A new random token; `None` if there are no random numbers.
    pub fresh_token: Option<Token>,
    /// The server's device is gone: the server gives no addresses.
    pub is_tunnel_down: bool,
}

/// The driver's answer to an address request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<S> {
    /// ADDR_REPLY with this lease. An evicted session has just lost the address to a take-over, and the driver closes
    /// it.
    Give {
        /// The lease.
        lease: Lease,
        /// The session that had the address until now.
        evicted: Option<S>,
        /// The session whose unused lease has ended for this one, and the address that it had. The driver closes it.
        unused: Option<(S, Ipv4Addr)>,
    },
    /// No answer, but a PING to this session, which holds the token's lease. The client, or the driver on its behalf,
    /// repeats the request.
    PingHolder(S),
    /// No answer: the holder of the lease was pinged, and still has time to answer. The request is repeated as above.
    Wait,
    /// No answer: the client may not use the service.
    NotAllowed,
    /// PROBLEM with this code, one of [`problem`].
    Problem(u32),
    /// PROBLEM "no free address", for this reason.
    NoAddress(LeaseError),
    /// The same, although an unused lease has ended for this one, as in [`Answer::Give`]. The driver closes its session.
    EndedInVain(LeaseError, (S, Ipv4Addr)),
    /// PROBLEM "no free address": without random numbers the token of a lease could be guessed.
    NoToken,
}

/// A session with a lease.
#[derive(Debug)]
struct Holder<S> {
    session: S,
    /// The number of the lease.
    lease: u64,
    /// When it began.
    since: Duration,
    /// When the probe of its client began, on behalf of another client that claims its address.
    probed: Option<Duration>,
    /// When its client was last pinged for this.
    pinged: Option<Duration>,
}

/// What a server asks of its sessions while it decides a request.
pub trait Sessions<S> {
    /// Returns when the client of a session last gave a sign of life; `None` if that session cannot be probed now.
    fn heard(&self, session: &S) -> Option<Duration>;

    /// Returns since when a session with a lease has carried no packet; `None` if its lease must not end for that, as
    /// the client pays.
    fn idle_since(&self, session: &S) -> Option<Duration>;
}

/// The rules of a server's leases.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRules {
    /// How long a returned address is kept for its client.
    pub hold: Duration,
    /// What one source may have.
    pub limits: Limits,
    /// How long a lease without a packet lasts when another client needs an address.
    pub unused_after: Duration,
}

/// The leases of a server, and the sessions `S` that hold them. No two sessions have the same address at any moment.
///
/// ```
/// use std::net::Ipv4Addr;
/// use std::time::Duration;
/// use vpn_core::exchange::{AddressRequest, Answer, LeaseRules, Leases, Session, Sessions};
/// use vpn_core::lease::{Applicant, Limits, Subnet};
/// use vpn_core::source::Source;
/// use vpn_core::wire::Capabilities;
///
/// // What the driver knows of its other sessions: here nothing.
/// struct Others;
/// impl Sessions<u32> for Others {
///     fn heard(&self, _session: &u32) -> Option<Duration> {
///         None
///     }
///     fn idle_since(&self, _session: &u32) -> Option<Duration> {
///         None
///     }
/// }
///
/// let now = Duration::from_secs(1);
/// let subnet = Subnet { network: Ipv4Addr::new(10, 98, 0, 0), prefix: 24 };
/// let rules = LeaseRules {
///     hold: Duration::from_secs(3600),
///     limits: Limits::of_pool(subnet.capacity()),
///     unused_after: Duration::from_secs(300),
/// };
/// let mut leases = Leases::new(subnet, &rules);
/// let mut ask = |number: u32, is_allowed: bool| {
///     let mut session = Session::new(now);
///     session.set_allowed(now, is_allowed);
///     let request = AddressRequest {
///         session: &number,
///         by: Applicant { source: Source::of([192, 0, 2, 7].into()), is_paid: false },
///         is_leased: false,
///         caps: &Capabilities::default(),
///         key_tokens: &[],
///         static_token: None,
///         // The driver draws it.
///         fresh_token: Some([number as u8; 16]),
///         is_tunnel_down: false,
///     };
///     leases.request(now, &mut session, &request, &Others)
/// };
/// assert_eq!(ask(1, false), Answer::NotAllowed);
/// let Answer::Give { lease, .. } = ask(1, true) else { panic!("no address") };
/// assert_eq!(lease.addr, Ipv4Addr::new(10, 98, 0, 2));
/// let Answer::Give { lease, .. } = ask(2, true) else { panic!("no address") };
/// assert_eq!(lease.addr, Ipv4Addr::new(10, 98, 0, 3));
/// ```
#[derive(Debug)]
pub struct Leases<S> {
    pool: Pool,
    holders: HashMap<Ipv4Addr, Holder<S>>,
    unused_after: Duration,
    unused: Unused,
}

impl<S: Clone + PartialEq> Leases<S> {
    /// Creates the leases of a subnet.
    pub fn new(subnet: Subnet, rules: &LeaseRules) -> Leases<S> {
        Leases {
            pool: Pool::new(subnet, rules.hold, rules.limits),
            holders: HashMap::new(),
            unused_after: rules.unused_after,
            unused: Unused::default(),
        }
    }

    /// Changes the rules, from now on: leases that are there stay, also where there are more than a new share allows.
    pub fn set_rules(&mut self, rules: &LeaseRules) {
        self.pool.set_rules(rules.hold, rules.limits);
        self.unused_after = rules.unused_after;
    }

    /// Returns the pool of addresses.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Keeps the addresses of the server before for their clients, before the first request ([`Pool::restore`]).
    pub fn restore(&mut self, pages: impl IntoIterator<Item = (u16, Vec<u8>)>) -> Restored {
        self.pool.restore(pages)
    }

    /// Returns a page to store ([`Pool::next_changed`]).
    pub fn next_changed(&mut self) -> Option<(u16, Vec<u8>)> {
        self.pool.next_changed()
    }

    /// Returns a page to those that are to be stored ([`Pool::not_stored`]).
    pub fn not_stored(&mut self, page: u16) {
        self.pool.not_stored(page);
    }

    /// Reserves an address for the client that shows this token, before [`Leases::restore`] ([`Pool::reserve`]).
    pub fn reserve(&mut self, addr: Ipv4Addr, token: &Token) -> bool {
        self.pool.reserve(addr, token)
    }

    /// Reserves an address at any time ([`Pool::reserve_now`]).
    pub fn reserve_now(&mut self, addr: Ipv4Addr, token: &Token) -> Reserved {
        self.pool.reserve_now(addr, token)
    }

    /// Ends a reservation ([`Pool::unreserve`]).
    pub fn unreserve(&mut self, addr: Ipv4Addr, fresh_token: &Token) {
        self.pool.unreserve(addr, fresh_token);
    }

    /// Returns the session that has an address.
    pub fn holder(&self, addr: Ipv4Addr) -> Option<&S> {
        self.holders.get(&addr).map(|holder| &holder.session)
    }

    /// Returns when the lease of an address began, if a session has it.
    pub fn since(&self, addr: Ipv4Addr) -> Option<Duration> {
        self.holders.get(&addr).map(|holder| holder.since)
    }

    /// Decides a request for an address. `state` is the state machine of the requesting session, `sessions` answers for
    /// the others.
    ///
    /// A client gets the address of the token that it shows, unless a living session has it. A client without
    /// capabilities gets that of its key hash in the same way. A key hash does not lead to the leases of clients that keep
    /// tokens: anybody can name it. Before both goes the address that is reserved for a client.
    ///
    /// If there is no address, or the client's source has its share, the longest unused lease ends for it: of any source,
    /// or of its own. One whose client pays never does.
    pub fn request(
        &mut self,
        now: Duration,
        state: &mut Session,
        request: &AddressRequest<'_, S>,
        sessions: &impl Sessions<S>,
    ) -> Answer<S> {
        if !state.is_allowed() {
            return Answer::NotAllowed;
        }
        if request.is_tunnel_down {
            return Answer::Problem(problem::TUNNEL_DOWN);
        }
        if request.is_leased {
            return Answer::Problem(problem::ALREADY_ASSIGNED_ADDR);
        }
        let shown = request.caps.resume.filter(|token| self.pool.knows(token));
        let (tokens, patience) = match *request.caps == Capabilities::default() {
            true => (request.key_tokens, KEY_PROBE_TIMEOUT),
            false => (shown.as_slice(), PROBE_TIMEOUT),
        };
        let mut claim = None;
        for token in request.static_token.iter().chain(tokens) {
            match self.probe_holder(now, token, patience, |session| sessions.heard(session)) {
                TokenState::ProbeNeeded(holder) => return Answer::PingHolder(holder),
                TokenState::ProbePending => return Answer::Wait,
                TokenState::Free if self.pool.knows(token) => {
                    claim = Some(*token);
                    break;
                }
                // Its address has gone to another client: it gets a new one if no other token leads to an address.
                TokenState::Free => claim = claim.or(Some(*token)),
                TokenState::HolderAlive => {}
            }
        }
        let Some(fresh_token) = request.fresh_token else { return Answer::NoToken };
        let (token, mut unused) = (claim.unwrap_or(fresh_token), None);
        let mut leased = self.pool.lease(now, &request.by, claim.as_ref(), token);
        if let Err(error) = leased {
            unused = self.end_unused(now, &request.by, error, sessions);
            if unused.is_some() {
                leased = self.pool.lease(now, &request.by, claim.as_ref(), token);
            }
        }
        let (lease, unused) = match (leased, unused) {
            (Ok(lease), unused) => (lease, unused),
            (Err(error), Some(ended)) => return Answer::EndedInVain(error, ended),
            (Err(error), None) => return Answer::NoAddress(error),
        };
        state.leased(request.caps.keep_alive.is_some());
        let holder =
            Holder { session: request.session.clone(), lease: lease.id, since: now, probed: None, pinged: None };
        let evicted = self.holders.insert(lease.addr, holder).map(|former| former.session);
        Answer::Give { lease, evicted, unused }
    }

    /// Ends an unused lease whose end lets the applicant have one. Returns its session and its address.
    fn end_unused(
        &mut self,
        now: Duration,
        by: &Applicant,
        lack: LeaseError,
        sessions: &impl Sessions<S>,
    ) -> Option<(S, Ipv4Addr)> {
        let within = match lack {
            LeaseError::Exhausted => None,
            LeaseError::Share { network, .. } => Some(network).filter(|network| self.pool.may_replace(by, network)),
            LeaseError::Rate { .. } => return None,
        };
        if within.is_none() && lack != LeaseError::Exhausted {
            return None;
        }
        let Leases { pool, holders, unused_after, unused } = self;
        let unused_since = |addr: Ipv4Addr, holder: &Holder<S>| {
            // Nobody else gets a reserved one.
            if pool.is_reserved(addr) {
                return None;
            }
            let since = sessions.idle_since(&holder.session)?;
            (now.saturating_sub(since) >= *unused_after).then_some((addr, since))
        };
        let is_unused = |addr| holders.get(&addr).is_some_and(|holder| unused_since(addr, holder).is_some());
        let mut found = unused.next(pool, within.as_ref(), is_unused);
        if found.is_none() && unused.may_look(now) {
            unused.found(now, pool, holders.iter().filter_map(|(addr, holder)| unused_since(*addr, holder)));
            found = unused.next(pool, within.as_ref(), is_unused);
        }
        let addr = found?;
        let Holder { session, lease, .. } = holders.remove(&addr)?;
        pool.release(addr, lease, now);
        Some((session, addr))
    }

    /// Ends the lease of a session; returns false if the session no longer has the address, as after a take-over.
    pub fn end(&mut self, now: Duration, session: &S, addr: Ipv4Addr) -> bool {
        let Entry::Occupied(entry) = self.holders.entry(addr) else { return false };
        if entry.get().session != *session {
            return false;
        }
        let Holder { lease, .. } = entry.remove();
        self.pool.release(addr, lease, now)
    }

    /// Probes whether the holder of a token's lease is alive.
    fn probe_holder(
        &mut self,
        now: Duration,
        token: &Token,
        patience: Duration,
        heard: impl Fn(&S) -> Option<Duration>,
    ) -> TokenState<S> {
        let Some(holder) = self.pool.leased_to(token).and_then(|addr| self.holders.get_mut(&addr)) else {
            return TokenState::Free;
        };
        let Some(heard) = heard(&holder.session) else { return TokenState::ProbePending };
        let may_ping = holder.pinged.is_none_or(|pinged| now.saturating_sub(pinged) >= PING_INTERVAL);
        let expiry = |began| if heard >= began { ANSWER_EXPIRY } else { PROBE_EXPIRY };
        let is_recent = holder.pinged.is_some_and(|pinged| now.saturating_sub(pinged) <= PROBE_GAP);
        let probed = holder.probed.filter(|began| is_recent && now.saturating_sub(*began) <= expiry(*began));
        if let Some(began) = probed {
            if heard >= began {
                return TokenState::HolderAlive;
            }
            if now.saturating_sub(began) >= patience {
                return TokenState::Free;
            }
        } else if may_ping {
            holder.probed = Some(now);
        }
        if !may_ping {
            return TokenState::ProbePending;
        }
        holder.pinged = Some(now);
        TokenState::ProbeNeeded(holder.session.clone())
    }
}

/// The state of a token's lease.
enum TokenState<S> {
    /// No session has the lease, or its client did not answer: the token's owner may have it.
    Free,
    /// The holder's client is alive: two clients have the same token, as after a copied state directory.
    HolderAlive,
    /// The holder's client has been pinged, and still has time to answer.
    ProbePending,
    /// The holder's client has to be pinged now.
    ProbeNeeded(S),
}

/// The smallest MTU of a tunnel, in bytes: every host can receive an IPv4 packet of this size (RFC 791, 3.1).
pub const MIN_MTU: u16 = 576;

/// Returns the largest inner packet, in bytes, of two ends that offer these. `ours` is at least [`MIN_MTU`].
pub fn agreed_mtu(theirs: u16, ours: u16) -> u16 {
    theirs.max(MIN_MTU).min(ours)
}

/// The settings that a server sends together with an address.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The subnet of the addresses.
    pub subnet: Subnet,
    /// The largest inner packet, in bytes.
    pub mtu: u16,
    /// Name servers inside the tunnel.
    pub dns: Vec<Ipv4Addr>,
    /// The silence after which the server pings a client.
    pub keep_alive: Duration,
    /// Whether the server accepts bundles.
    pub bundles: bool,
}

impl Terms {
    /// Returns the largest bundle that a client with these capabilities gets, in bytes; 0 for none.
    pub fn bundle(&self, asked: &Capabilities) -> u16 {
        asked.bundle.filter(|_| self.bundles).unwrap_or(0)
    }

    /// Returns the reply to a client's request. For a client without capabilities it is byte-identical to the legacy
    /// reply.
    pub fn reply(&self, lease: &Lease, asked: &Capabilities) -> AddrReply {
        let gateway = self.subnet.gateway();
        if *asked == Capabilities::default() {
            return AddrReply { addr: lease.addr, gateway, netmask: None, caps: None };
        }
        let accepted = Capabilities {
            bundle: (self.bundle(asked) > 0).then_some(MAX_BUNDLE as u16),
            mtu: asked.mtu.map(|theirs| agreed_mtu(theirs, self.mtu)),
            dns: self.dns.clone(),
            keep_alive: asked.keep_alive.map(|_| self.keep_alive.as_secs() as u16),
            resume: Some(lease.token),
        };
        AddrReply { addr: lease.addr, gateway, netmask: Some(self.subnet.mask()), caps: Some(accepted) }
    }
}

#[cfg(test)]
mod tests;
