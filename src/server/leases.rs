//! The leases of sessions: given, kept, taken over by a returning client, ended. [`Leases`](vpn_core::exchange::Leases)
//! decides who gets which address.
//!
//! A session's address is written under the lock of the leases, so no two sessions have the same address at any moment.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Server;
use super::session::Session;
use crate::sdk::NOTICE;
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::worker;
use vpn_core::exchange::{AddressRequest, Answer, Sessions};
use vpn_core::forward::DropCause;
use vpn_core::lease::{Applicant, Lease, LeaseError, Origin};
use vpn_core::wire::{self, Capabilities, op, problem};

/// The requests for an address that all sessions of a source may send in a second; they may come back together.
pub(super) const ADDRESS_REQUESTS_OF_SOURCE: u32 = 256;

/// Identifies a session by its channel.
#[derive(Clone, Debug)]
pub(super) struct Owner(Arc<Channel>);

impl Owner {
    pub(super) fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.0)
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Owner) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What the leases ask of the sessions. It is asked under the lock of the leases, so it takes no other.
struct Holders;

impl Sessions<Owner> for Holders {
    fn heard(&self, Owner(holder): &Owner) -> Option<Duration> {
        // A session that is moving between workers is pinged when the client repeats its request.
        holder.worker().and_then(|_| holder.data::<Session>()).map(Session::shown_life)
    }

    fn idle_since(&self, Owner(holder): &Owner) -> Option<Duration> {
        holder.data::<Session>().and_then(Session::idle_since)
    }
}

/// A request of a client that will not repeat it.
pub(super) struct WaitingRequest {
    channel: Arc<Channel>,
    sock_id: i32,
}

impl Server {
    /// Counts a request of the client against the bounds.
    pub(super) fn may_ask_for_address(&self, session: &Session) -> Result<(), DropCause> {
        let now = self.now();
        let may_ask =
            session.address_requests.lock().take(now) && self.address_requests.lock().take(now, session.source);
        if may_ask { Ok(()) } else { Err(DropCause::TooOften) }
    }

    /// Answers a client's ADDR_REQUEST, on its worker.
    pub(super) fn address_request(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        sock_id: i32,
        caps: &Capabilities,
    ) -> Result<(), DropCause> {
        // The usage may have ended since the last check.
        self.refresh(channel);
        match self.decide(channel, session, caps) {
            Answer::Give { lease, evicted, unused } => {
                if let Some(Owner(evicted)) = evicted {
                    close_evicted(evicted);
                }
                if let Some((Owner(unused), address)) = unused {
                    self.close_unused(unused, address);
                }
                self.give(channel, session, sock_id, caps, &lease);
                Ok(())
            }
            Answer::PingHolder(Owner(holder)) => {
                self.ping_holder(holder);
                self.keep_request(channel, sock_id, caps);
                Ok(())
            }
            Answer::Wait => {
                self.keep_request(channel, sock_id, caps);
                Ok(())
            }
            Answer::NotAllowed => Err(DropCause::NotAllowed),
            Answer::Problem(code) => self.control(channel, op::PROBLEM, code),
            Answer::NoAddress(error) => self.refuse(channel, session, error),
            Answer::EndedInVain(error, (Owner(unused), address)) => {
                self.close_unused(unused, address);
                self.refuse(channel, session, error)
            }
            Answer::NoToken => {
                host::log_bounded!(
                    Error,
                    "the kernel provides no random numbers: a lease's token could be guessed, so no lease is given"
                );
                self.control(channel, op::PROBLEM, problem::NO_FREE_ADDR)
            }
        }
    }

    /// Keeps the request of a client without capabilities, which does not repeat it. A session has one request at most.
    fn keep_request(&self, channel: &Arc<Channel>, sock_id: i32, caps: &Capabilities) {
        if *caps == Capabilities::default() {
            self.forget_request(channel);
            self.waiting_requests.lock().push(WaitingRequest { channel: Arc::clone(channel), sock_id });
        }
    }

    pub(super) fn forget_request(&self, channel: &Arc<Channel>) {
        self.waiting_requests.lock().retain(|waiting| !Arc::ptr_eq(&waiting.channel, channel));
    }

    /// Decides the requests that wait, of the sessions on this worker.
    pub(super) fn repeat_requests(&self, worker: u32) {
        let is_here = |waiting: &mut WaitingRequest| waiting.channel.worker() == Some(worker);
        let due: Vec<_> = self.waiting_requests.lock().extract_if(.., is_here).collect();
        for WaitingRequest { channel, sock_id } in due {
            let Some(session) = channel.data::<Session>() else { continue };
            if let Err(cause) = self.address_request(&channel, session, sock_id, &Capabilities::default()) {
                self.count_drop(&channel, worker, cause, 0);
            }
        }
    }

    fn decide(&self, channel: &Arc<Channel>, session: &Session, caps: &Capabilities) -> Answer<Owner> {
        let key_tokens = session.client_key().and_then(|key| self.key_tokens.as_ref()?.of(&key));
        let fresh_token = random();
        let mut state = session.state.lock();
        let mut leases = self.leases.lock();
        let request = AddressRequest {
            session: &Owner(Arc::clone(channel)),
            by: Applicant { source: session.source, is_paid: session.is_paid() },
            is_leased: session.leased().is_some(),
            caps,
            static_token: self.static_token(session),
            key_tokens: key_tokens.as_ref().map_or(&[], |tokens| tokens.as_slice()),
            fresh_token,
            is_tunnel_down: self.tunnel.is_out(),
        };
        let mut answer = leases.request(self.now(), &mut state, &request, &Holders);
        let takes =
            |loser: &Owner, address, why| loser.0.data::<Session>().is_some_and(|session| session.evict(address, why));
        const UNUSED: &str = "another client needed its unused address";
        match &mut answer {
            Answer::Give { lease, evicted, unused } => {
                let address = lease.addr;
                // A session that is already ending needs no close.
                evicted.take_if(|loser| !takes(loser, address, "its client is back in another session"));
                unused.take_if(|(loser, address)| !takes(loser, *address, UNUSED));
                session.set_address(address);
                session.use_address(self.now());
            }
            Answer::EndedInVain(error, (loser, address)) if !takes(loser, *address, UNUSED) => {
                answer = Answer::NoAddress(*error);
            }
            _ => {}
        }
        answer
    }

    fn give(&self, channel: &Arc<Channel>, session: &Session, sock_id: i32, caps: &Capabilities, lease: &Lease) {
        self.lease_store.wake();
        self.figures.lease(lease.origin, session.journal.age(self.uptime()));
        session.show_place(channel, true);
        // Before the first packet arrives by the route.
        session.set_inner_mtu(caps.mtu, &self.settings());
        self.announce_route(channel);
        self.c_snapshot_is_stale.store(true, Ordering::Release);
        let terms = self.terms.load();
        session.set_bundle(terms.bundle(caps));
        channel.set_inner_address(Some(lease.addr));
        let usage_id = session.usage_id();
        let how = match lease.origin {
            Origin::New => "new",
            Origin::Resumed => "resumed",
            Origin::Static => "static",
            Origin::TakenOver => "taken over",
        };
        let inner = self.inner_address(Some(lease.addr));
        let level = session.journal.level(self.now(), "address leased");
        log::log!(level, "address leased: {}{inner}, {how}, {} in use", session.who(), self.leased());
        if inner.is_empty() {
            log::debug!("usage {usage_id} has address {}", lease.addr);
        }
        channel.send(TYPE_DATA, &terms.reply(lease, caps).encode(usage_id, sock_id));
    }

    fn refuse(&self, channel: &Channel, session: &Session, error: LeaseError) -> Result<(), DropCause> {
        self.figures.refuse(error.into());
        if !session.warned_pool_exhausted.swap(true, Ordering::Relaxed) {
            let level = session.journal.warning(self.now(), "address refused");
            log::log!(level, "address refused: {}, {error}", session.who());
        }
        self.control(channel, op::PROBLEM, problem::NO_FREE_ADDR)
    }

    /// Closes a session whose lease has ended for another client. If its stream is moving between workers, the session
    /// closes on arrival.
    fn close_unused(self: &Server, unused: Arc<Channel>, address: Ipv4Addr) {
        let route = unused.data::<Session>().and_then(|session| *session.route.lock());
        // If the address is another session's already, the table has that session's route.
        if let Some(route) = route {
            self.table.clear(address, route);
        }
        close_evicted(unused);
    }

    /// Logs the end of a session that had a service; others say nothing that an operator needs.
    pub(super) fn log_end(&self, channel: &Channel) {
        let Some(session) = channel.data::<Session>() else { return };
        let was_served = session.journal.was_served();
        let level = if was_served { session.journal.level(self.now(), "session ended") } else { log::Level::Debug };
        let (who, why, age) = (session.who(), session.journal.end(), session.journal.age(self.uptime()));
        let (up, down) = session.carried.both_ways();
        let inner = self.inner_address(session.leased());
        log::log!(
            target: NOTICE,
            level,
            "session ended: {who}{inner}, {why}, {up} bytes up, {down} bytes down, {:.1} s",
            age.as_secs_f32()
        );
    }

    /// Returns an inner address as lines show it, or nothing where the operator keeps them out of the log.
    pub(super) fn inner_address(&self, address: Option<Ipv4Addr>) -> String {
        match address {
            Some(address) if self.settings().log_addresses => format!(", address {address}"),
            _ => String::new(),
        }
    }

    /// Pings the holder of a lease on behalf of another client. If the PING is not sent, the holder counts as silent. A
    /// client that does not answer pings shows by its TCP's acknowledgement that it is alive.
    fn ping_holder(&self, holder: Arc<Channel>) {
        let Some(worker) = holder.worker() else { return };
        let started = self.started;
        worker::exec(worker, move || {
            let Some(session) = holder.data::<Session>() else { return };
            session.look_for_life(&holder, started.elapsed());
            holder.send(TYPE_DATA, &wire::encode_control(op::PING, session.usage_id(), 0));
        });
    }

    /// Sets the session's route, on its worker, if it has a lease.
    pub(super) fn announce_route(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        // The lock keeps other sessions from taking the lease over meanwhile.
        let leases = self.leases.lock();
        let Some(address) = session.leased() else { return };
        let Some(route) = self.adopt(channel) else { return };
        *session.route.lock() = Some(route);
        if !self.table.set(address, route) {
            host::log_bounded!(
                Error,
                "worker {} has more sessions than routes can address; one session receives no packets",
                route.worker
            );
        }
        drop(leases);
        self.apply_rates(channel);
    }

    /// Clears the session's route, on its worker.
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
        if let Some(address) = session.take_address() {
            self.leases.lock().end(self.now(), &Owner(Arc::clone(channel)), address);
            self.lease_store.wake();
            self.c_snapshot_is_stale.store(true, Ordering::Release);
            channel.set_inner_address(None);
        }
    }
}

/// Closes a session that has lost its lease. If its stream is moving between workers, the session closes on arrival.
fn close_evicted(evicted: Arc<Channel>) {
    if let Some(worker) = evicted.worker() {
        worker::exec(worker, move || evicted.close());
    }
}

pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    (filled == Ok(N)).then_some(bytes)
}
