//! Which session has which address: a request for one decided, a lease taken over, ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::session::Session;
use crate::lease::{Lease, Pool, Subnet, Token};
use crate::wire::{AddrReply, Capabilities, MAX_BUNDLE, problem};

/// How long the client of a session has to answer the question whether it still is there. The client that asks for its
/// lease repeats the request after a second.
const ANSWER_TIME: Duration = Duration::from_millis(750);
/// After so long the question is put anew.
const QUESTION_AGE: Duration = Duration::from_secs(10);

/// A client asks for an address.
#[derive(Clone, Debug)]
pub struct AddressRequest<'a, S> {
    /// Its session.
    pub session: &'a S,
    /// The session has an address.
    pub is_leased: bool,
    /// What the client can do, and the token of its last lease.
    pub caps: &'a Capabilities,
    /// A new random token; None when there are no random numbers.
    pub fresh_token: Option<Token>,
    /// The server's device is gone: no address is given any more.
    pub is_tunnel_down: bool,
}

/// What the driver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<S> {
    /// ADDR_REPLY with this lease. It was taken over from the evicted session, which has no address from now on and is
    /// to be closed.
    Give {
        /// The lease.
        lease: Lease,
        /// The session that had the address until now.
        evicted: Option<S>,
    },
    /// Nothing, but PING to this session, which has the lease that the token stands for.
    AskHolder(S),
    /// Nothing: the session that has the lease was asked, and has time to answer. The client repeats its request.
    Wait,
    /// Nothing: the client may not use the service.
    NotAllowed,
    /// PROBLEM with this code, one of [`problem`].
    Problem(u32),
    /// PROBLEM that no address is free: without a random token, a lease's could be guessed.
    NoToken,
}

/// A session that has a lease.
#[derive(Debug)]
struct Holder<S> {
    session: S,
    /// Number of the lease.
    lease: u64,
    /// When its client was last asked whether it still is there, on behalf of another that shows its token.
    asked: Option<Duration>,
}

/// The leases of a server, and the sessions `S` that have them. No two sessions have the same address at any moment.
#[derive(Debug)]
pub struct Leases<S> {
    pool: Pool,
    holders: HashMap<Ipv4Addr, Holder<S>>,
}

impl<S: Clone + PartialEq> Leases<S> {
    /// Addresses of the subnet; a returned one is kept for its client for `hold`.
    pub fn new(subnet: Subnet, hold: Duration) -> Leases<S> {
        Leases { pool: Pool::new(subnet, hold), holders: HashMap::new() }
    }

    /// The pool of addresses.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The session that has an address.
    pub fn holder(&self, addr: Ipv4Addr) -> Option<&S> {
        self.holders.get(&addr).map(|holder| &holder.session)
    }

    /// Decides a request for an address. `state` is the machine of the session that asks. `heard` tells when the client
    /// of another session was last heard; None when it cannot be asked at this moment.
    pub fn request(
        &mut self,
        now: Duration,
        state: &mut Session,
        request: &AddressRequest<'_, S>,
        heard: impl FnOnce(&S) -> Option<Duration>,
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
        let resume = match request.caps.resume.as_ref().map(|token| self.question(now, token, heard)) {
            Some(Question::Put(holder)) => return Answer::AskHolder(holder),
            Some(Question::Open) => return Answer::Wait,
            Some(Question::Gone) => request.caps.resume.as_ref(),
            Some(Question::Answered) | None => None,
        };
        if resume.is_none() && self.pool.available() == 0 {
            return Answer::Problem(problem::NO_FREE_ADDR);
        }
        let Some(fresh_token) = request.fresh_token else { return Answer::NoToken };
        let Ok(lease) = self.pool.lease(now, resume, fresh_token) else {
            return Answer::Problem(problem::NO_FREE_ADDR);
        };
        state.leased(request.caps.keep_alive.is_some());
        let holder = Holder { session: request.session.clone(), lease: lease.id, asked: None };
        let evicted = self.holders.insert(lease.addr, holder).map(|former| former.session);
        Answer::Give { lease, evicted }
    }

    /// Ends the lease of a session; false when it has the address no more, as after a take-over.
    pub fn end(&mut self, now: Duration, session: &S, addr: Ipv4Addr) -> bool {
        let Entry::Occupied(entry) = self.holders.entry(addr) else { return false };
        if entry.get().session != *session {
            return false;
        }
        let Holder { lease, .. } = entry.remove();
        self.pool.release(addr, lease, now)
    }

    /// Whether the lease of a token is in use: the session that has it is asked first.
    fn question(&mut self, now: Duration, token: &Token, heard: impl FnOnce(&S) -> Option<Duration>) -> Question<S> {
        let Some(holder) = self.pool.leased_to(token).and_then(|addr| self.holders.get_mut(&addr)) else {
            return Question::Gone;
        };
        let Some(heard) = heard(&holder.session) else { return Question::Open };
        match holder.asked {
            Some(asked) if now.saturating_sub(asked) <= QUESTION_AGE => match heard >= asked {
                true => Question::Answered,
                false if now.saturating_sub(asked) < ANSWER_TIME => Question::Open,
                false => Question::Gone,
            },
            _ => {
                holder.asked = Some(now);
                Question::Put(holder.session.clone())
            }
        }
    }
}

/// Whether the lease that a token stands for is in use.
enum Question<S> {
    /// By no session, or by one whose client does not answer: the token's owner may have it.
    Gone,
    /// By a session whose client lives: two clients have the same token, as after a copied state directory.
    Answered,
    /// By a session whose client has been asked, and has time to answer.
    Open,
    /// By a session whose client is to be asked now.
    Put(S),
}

/// What a server tells its clients together with an address.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The subnet of the addresses.
    pub subnet: Subnet,
    /// Largest inner packet, bytes.
    pub mtu: u16,
    /// Name servers inside the tunnel.
    pub dns: Vec<Ipv4Addr>,
    /// Silence of a client before it is pinged.
    pub keep_alive: Duration,
    /// The server takes bundles.
    pub bundles: bool,
}

impl Terms {
    /// Largest bundle that a client with these capabilities gets, bytes; 0: none.
    pub fn bundle(&self, asked: &Capabilities) -> u16 {
        asked.bundle.filter(|_| self.bundles).unwrap_or(0)
    }

    /// The reply to a client's request. To a client that announced nothing it is byte-identical to the legacy reply.
    pub fn reply(&self, lease: &Lease, asked: &Capabilities) -> AddrReply {
        let gateway = self.subnet.gateway();
        if *asked == Capabilities::default() {
            return AddrReply { addr: lease.addr, gateway, netmask: None, caps: None };
        }
        let accepted = Capabilities {
            bundle: (self.bundle(asked) > 0).then_some(MAX_BUNDLE as u16),
            mtu: asked.mtu.map(|theirs| theirs.min(self.mtu)),
            dns: self.dns.clone(),
            keep_alive: asked.keep_alive.map(|_| self.keep_alive.as_secs() as u16),
            resume: Some(lease.token),
        };
        AddrReply { addr: lease.addr, gateway, netmask: Some(self.subnet.mask()), caps: Some(accepted) }
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
