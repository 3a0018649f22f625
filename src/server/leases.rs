//! Leases as sessions have them: given, kept, taken over by a client that has come back, ended.
//!
//! A session's address is written under the pool's lock, so that at no moment two sessions have the same one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Server;
use super::session::Session;
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::worker;
use vpn_core::lease::{Lease, LeaseError, Origin, Token};
use vpn_core::wire::{self, op};

/// How long the client of a session has to answer the question whether it still is there, milliseconds. Whoever asks for
/// its lease repeats that after a second.
const ANSWER_TIME: u64 = 750;
/// After so long the question is put anew, milliseconds.
const QUESTION_AGE: u64 = 10_000;

/// Who has the lease that a token stands for.
enum Holder {
    /// No session, or one whose client does not answer: the token's owner may have it.
    Gone,
    /// A session whose client lives. Two clients have the same token, as after a copied state directory.
    Alive,
    /// A session whose client has been asked.
    Asked,
}

impl Server {
    /// Gives a session an address; None while it is not known yet whether the one it asks for is in use.
    pub(super) fn give_lease(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        resume: Option<&Token>,
    ) -> Result<Option<Lease>, LeaseError> {
        let resume = match resume.map(|token| self.holder(token)) {
            Some(Holder::Asked) => return Ok(None),
            Some(Holder::Gone) => resume,
            Some(Holder::Alive) | None => None,
        };
        if resume.is_none() && self.pool.lock().available() == 0 {
            return Err(LeaseError::Exhausted);
        }
        let mut fresh = Token::default();
        if rustix::rand::getrandom(&mut fresh[..], rustix::rand::GetRandomFlags::empty()) != Ok(fresh.len()) {
            log::error!("no random numbers from the kernel: a lease's token could be guessed, so none is given");
            return Err(LeaseError::Exhausted);
        }
        let mut pool = self.pool.lock();
        let lease = pool.lease(self.now(), resume, fresh)?;
        let evicted = if lease.origin == Origin::TakenOver { self.evict(channel, lease.addr) } else { Vec::new() };
        session.set_lease(lease.addr, lease.id);
        drop(pool);
        for lost in evicted {
            // One that is between two workers is closed when it arrives.
            if let Some(owner) = lost.worker() {
                worker::exec(owner, move || lost.close());
            }
        }
        self.announce_route(channel);
        self.view_is_stale.store(true, Ordering::Release);
        Ok(Some(lease))
    }

    /// Whether the lease of a token is in use. The first question to its client goes out here.
    fn holder(&self, token: &Token) -> Holder {
        let Some(address) = self.pool.lock().leased_to(token) else { return Holder::Gone };
        let has_it = |channel: &&Arc<Channel>| channel.data::<Session>().and_then(Session::leased) == Some(address);
        let Some(channel) = self.open_channels.lock().iter().find(has_it).cloned() else { return Holder::Gone };
        let Some(session) = channel.data::<Session>() else { return Holder::Gone };
        // Between two workers: the next repetition finds it on one.
        let Some(owner) = channel.worker() else { return Holder::Asked };
        let (now, asked) = (self.now_ms(), session.asked.load(Ordering::Relaxed));
        if asked == 0 || now.saturating_sub(asked) > QUESTION_AGE {
            session.asked.store(now.max(1), Ordering::Relaxed);
            let ping = wire::encode_control(op::PING, session.usage_id(), 0);
            let channel = Arc::clone(&channel);
            worker::exec(owner, move || {
                // What does not go out is not answered.
                channel.send(TYPE_DATA, &ping);
            });
            return Holder::Asked;
        }
        match session.heard.load(Ordering::Relaxed) >= asked {
            true => Holder::Alive,
            false if now.saturating_sub(asked) < ANSWER_TIME => Holder::Asked,
            false => Holder::Gone,
        }
    }

    /// Takes an address from every other session that has it; those sessions. Under the pool's lock.
    fn evict(&self, winner: &Arc<Channel>, address: Ipv4Addr) -> Vec<Arc<Channel>> {
        let channels = self.open_channels.lock();
        let has_it = |channel: &&Arc<Channel>| {
            !Arc::ptr_eq(channel, winner) && channel.data::<Session>().is_some_and(|session| session.evict(address))
        };
        channels.iter().filter(has_it).cloned().collect()
    }

    /// Leads packets to the session, on its worker, if it has a lease.
    pub(super) fn announce_route(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        // Nobody may take the lease over in between.
        let pool = self.pool.lock();
        let Some(address) = session.leased() else { return };
        let Some(route) = self.adopt(channel) else { return };
        *session.route.lock() = Some(route);
        if !self.table.set(address, route) {
            log::error!("worker {} has more sessions than can be told apart; one gets no packets", route.worker);
        }
        drop(pool);
    }

    /// No more packets to the session, on its worker.
    pub(super) fn withdraw_route(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        let Some(route) = session.route.lock().take() else { return };
        if let Some(address) = session.leased() {
            self.table.clear(address, route);
        }
        self.disown(route, channel);
    }

    pub(super) fn end_lease(&self, channel: &Arc<Channel>) {
        self.withdraw_route(channel);
        let Some(session) = channel.data::<Session>() else { return };
        if let Some((address, id)) = session.take_lease() {
            self.pool.lock().release(address, id, self.now());
            self.view_is_stale.store(true, Ordering::Release);
            channel.set_inner_address(None);
        }
    }
}
