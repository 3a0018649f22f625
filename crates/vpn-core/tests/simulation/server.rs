//! The server: drives `Session` and `Leases` as the service does, and keeps its own model of which session has which address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use vpn_core::exchange::{AddressRequest, Answer, LeaseRules, Leases, Session, SessionAction, Sessions, Terms};
use vpn_core::lease::{Applicant, LeaseError, Limits, Origin, Subnet};
use vpn_core::source::Source;
use vpn_core::wire::{
    self, Capabilities, FromClient, Request, ServiceError, Success, encode_control, error_code, op, pkt,
};

use crate::coverage::Coverage;
use crate::fault::{Fault, fault};
use crate::network::{Message, Stream};
use crate::plan::{HostPlan, Plan};

/// How long the service waits for a holder's answer before its lease is taken over.
const PROBE_TIMEOUT: Duration = Duration::from_millis(750);

/// An open session.
pub(crate) struct ServedSession {
    state: Session,
    pub(crate) address: Option<Ipv4Addr>,
    /// When the last packet from its client arrived.
    heard: Duration,
    usage_id: u32,
    /// The billing side has granted the service.
    granted: bool,
    /// When the session's move between two workers ends.
    away_until: Duration,
    /// The address that another session has taken over.
    lost: Option<Ipv4Addr>,
    /// When its client was first pinged since it was last heard, on behalf of another client.
    probed: Option<Duration>,
    by: Applicant,
    /// When it got its address. No packets are simulated, so every lease is unused.
    leased: Duration,
}

/// The sessions without the one that asks.
struct Others<'a> {
    now: Duration,
    sessions: &'a BTreeMap<Stream, ServedSession>,
}

impl Sessions<Stream> for Others<'_> {
    fn heard(&self, holder: &Stream) -> Option<Duration> {
        self.sessions.get(holder).filter(|holder| holder.away_until <= self.now).map(|holder| holder.heard)
    }

    fn idle_since(&self, holder: &Stream) -> Option<Duration> {
        self.sessions.get(holder).filter(|holder| !holder.by.is_paid).map(|holder| holder.leased)
    }
}

/// The messages and closed streams that result from an event.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) send: Vec<(Stream, Message)>,
    pub(crate) close: Vec<Stream>,
}

impl Effects {
    fn control(&mut self, stream: Stream, usage_id: u32, op: u32, value: u32) {
        self.send.push((stream, Message::Vpn(encode_control(op, usage_id, value).to_vec())));
    }
}

pub(crate) struct Server {
    terms: Terms,
    share: u32,
    unused_after: Duration,
    leases: Leases<Stream>,
    pub(crate) sessions: BTreeMap<Stream, ServedSession>,
    /// The model: the session that has each address.
    owners: BTreeMap<Ipv4Addr, Stream>,
}

impl Server {
    pub(crate) fn new(plan: &Plan) -> Server {
        let subnet = Subnet { network: Ipv4Addr::new(10, 98, 0, 0), prefix: plan.prefix };
        let keep_alive = Duration::from_millis(plan.keep_alive);
        let unused_after = Duration::from_millis(plan.unused_after);
        let rules = LeaseRules {
            hold: Duration::from_millis(plan.hold),
            limits: Limits { leases: plan.share, new_per_minute: u32::MAX },
            unused_after,
        };
        Server {
            share: plan.share,
            unused_after,
            terms: Terms { subnet, mtu: 1390, dns: Vec::new(), keep_alive, bundles: true },
            leases: Leases::new(subnet, &rules),
            sessions: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    pub(crate) fn leased(&self) -> u32 {
        self.leases.pool().leased()
    }

    pub(crate) fn opened(&mut self, now: Duration, stream: Stream, host: &HostPlan) {
        let served = ServedSession {
            state: Session::new(now),
            address: None,
            lost: None,
            heard: now,
            usage_id: 0,
            granted: false,
            away_until: Duration::ZERO,
            probed: None,
            by: Applicant { source: Source::of([192, 0, 2, host.source].into()), is_paid: host.pays },
            leased: now,
        };
        self.sessions.insert(stream, served);
    }

    /// Ends a session, and returns its lease.
    pub(crate) fn closed(&mut self, now: Duration, stream: Stream) -> Result<(), Fault> {
        let Some(served) = self.sessions.remove(&stream) else { return Ok(()) };
        // A session's end may have begun before its lease was taken over.
        if let Some(lost) = served.lost
            && self.leases.end(now, &stream, lost)
        {
            return fault(format!("session {stream} returns {lost}, which it had lost"));
        }
        let Some(address) = served.address else { return Ok(()) };
        if !self.leases.end(now, &stream, address) || self.owners.remove(&address) != Some(stream) {
            return fault(format!("session {stream} had {address}, but cannot return it"));
        }
        if self.leases.pool().is_leased(address) {
            return fault(format!("{address} is leased after the end of session {stream}"));
        }
        Ok(())
    }

    pub(crate) fn message(
        &mut self,
        now: Duration,
        stream: Stream,
        message: &Message,
        token: [u8; 16],
        coverage: &mut Coverage,
    ) -> Result<Effects, Fault> {
        let mut effects = Effects::default();
        let Some(served) = self.sessions.get_mut(&stream) else { return Ok(effects) };
        match message {
            Message::Service(kind, body) => {
                let reply = served.request(now, stream, *kind, body);
                effects.send.extend(reply.map(|reply| (stream, reply)));
            }
            Message::Vpn(packet) => {
                served.heard = now;
                match wire::parse_from_client(packet).map(|(_, message)| message) {
                    Ok(FromClient::AddrRequest(caps)) => {
                        self.address_request(now, stream, &caps, token, coverage, &mut effects)?;
                    }
                    Ok(FromClient::Ping) => effects.control(stream, served.usage_id, op::PONG, 0),
                    Ok(FromClient::Pong) => {}
                    other => return fault(format!("a client sent {other:?}")),
                }
            }
        }
        Ok(effects)
    }

    fn address_request(
        &mut self,
        now: Duration,
        stream: Stream,
        caps: &Capabilities,
        token: [u8; 16],
        coverage: &mut Coverage,
        effects: &mut Effects,
    ) -> Result<(), Fault> {
        let Some(mut served) = self.sessions.remove(&stream) else { return Ok(()) };
        let request = AddressRequest {
            session: &stream,
            by: served.by,
            is_leased: served.address.is_some(),
            caps,
            key_tokens: &[],
            static_token: None,
            fresh_token: Some(token),
            is_tunnel_down: false,
        };
        let before = self.leased_of(&served.by);
        let was_full = self.leases.pool().available() == 0;
        let others = Others { now, sessions: &self.sessions };
        let answer = self.leases.request(now, &mut served.state, &request, &others);
        match answer {
            Answer::Give { lease, evicted, unused } => {
                if let Some((loser, address)) = unused {
                    if !was_full && before < self.share {
                        return fault(format!("{stream} ends the lease of {loser} without need"));
                    }
                    coverage.unused += 1;
                    self.end_unused(now, loser, address)?;
                    effects.close.push(loser);
                }
                served.leased = now;
                let owner = self.owners.insert(lease.addr, stream);
                if owner != evicted || owner.is_some() != (lease.origin == Origin::TakenOver) {
                    return fault(format!("{stream} gets {lease:?} from {evicted:?}, which was {owner:?}'s"));
                }
                served.address = Some(lease.addr);
                if let Some(evicted) = evicted {
                    coverage.taken_over += 1;
                    self.evict(now, evicted)?;
                    effects.close.push(evicted);
                }
                coverage.resumed += u32::from(lease.origin == Origin::Resumed);
                let reply = self.terms.reply(&lease, caps).encode(served.usage_id, 0);
                effects.send.push((stream, Message::Vpn(reply)));
            }
            Answer::PingHolder(holder) => {
                let Some(held) = self.sessions.get_mut(&holder) else { return fault("a closed session is probed") };
                held.probed = held.probed.filter(|probed| held.heard < *probed).or(Some(now));
                effects.control(holder, held.usage_id, op::PING, 0);
            }
            Answer::Wait | Answer::NotAllowed => {}
            Answer::Problem(code) => effects.control(stream, served.usage_id, op::PROBLEM, code),
            Answer::NoAddress(error) => {
                match error {
                    LeaseError::Exhausted => coverage.exhausted += 1,
                    LeaseError::Share { .. } if before < self.share || served.by.is_paid => {
                        return fault(format!("{stream} is refused: {error}, and has {before} of {}", self.share));
                    }
                    LeaseError::Share { .. } => coverage.beyond_share += 1,
                    LeaseError::Rate { .. } => return fault("there is no rate"),
                }
                effects.control(stream, served.usage_id, op::PROBLEM, wire::problem::NO_FREE_ADDR);
            }
            Answer::EndedInVain(error, (ended, _)) => {
                return fault(format!("the lease of {ended} ended for {stream}, which gets none: {error}"));
            }
            Answer::NoToken => return fault("the request had a token"),
        }
        self.sessions.insert(stream, served);
        Ok(())
    }

    /// Another session takes the address over.
    fn evict(&mut self, now: Duration, stream: Stream) -> Result<(), Fault> {
        let Some(evicted) = self.sessions.get_mut(&stream) else { return fault("a closed session had a lease") };
        let had_its_time = evicted.probed.is_some_and(|probed| probed + PROBE_TIMEOUT <= now && evicted.heard < probed);
        if !had_its_time {
            return fault(format!("session {stream} lost its lease, but its client is alive or was not probed"));
        }
        evicted.lost = evicted.address.take();
        Ok(())
    }

    /// An unused lease ends for another client.
    fn end_unused(&mut self, now: Duration, stream: Stream, address: Ipv4Addr) -> Result<(), Fault> {
        let Some(loser) = self.sessions.get_mut(&stream) else { return fault("a closed session had a lease") };
        if loser.by.is_paid || now.saturating_sub(loser.leased) < self.unused_after {
            return fault(format!("session {stream} loses its lease: paid {}, {:?}", loser.by.is_paid, loser.leased));
        }
        if loser.address != Some(address) {
            return fault(format!("session {stream} loses {address}, and has {:?}", loser.address));
        }
        loser.lost = loser.address.take();
        // Its client may have the address now, or another one.
        if self.owners.get(&address) == Some(&stream) {
            self.owners.remove(&address);
        }
        Ok(())
    }

    /// Returns the number of leases of the applicant's source.
    fn leased_of(&self, by: &Applicant) -> u32 {
        let of = |served: &&ServedSession| served.by.source == by.source && served.address.is_some();
        self.sessions.values().filter(of).count() as u32
    }

    /// Checks all sessions, once a second.
    pub(crate) fn tick(&mut self, now: Duration) -> Effects {
        let mut effects = Effects::default();
        for (stream, served) in &mut self.sessions {
            let (is_leased, keep_alive) = (served.address.is_some(), self.terms.keep_alive);
            match served.state.check(now, served.heard, 0, is_leased, keep_alive) {
                SessionAction::None => {}
                SessionAction::Ping => effects.control(*stream, served.usage_id, op::PING, 0),
                SessionAction::CloseUnused | SessionAction::CloseSilent(_) => effects.close.push(*stream),
            }
        }
        effects
    }

    pub(crate) fn set_granted(&mut self, now: Duration, stream: Stream, granted: bool) -> Effects {
        let mut effects = Effects::default();
        if let Some(served) = self.sessions.get_mut(&stream).filter(|served| served.usage_id != 0) {
            served.granted = granted;
            served.state.set_allowed(now, granted);
            if !granted {
                effects.send.push((stream, Message::Service(pkt::NOTIFY_STOPPED, Vec::new())));
            }
        }
        effects
    }

    /// Moves the session's stream to another worker.
    pub(crate) fn moves(&mut self, now: Duration, stream: Stream) {
        if let Some(served) = self.sessions.get_mut(&stream) {
            served.away_until = now + Duration::from_secs(1);
        }
    }

    /// Checks the invariants.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let mut leased = 0;
        for (stream, served) in &self.sessions {
            let Some(address) = served.address else { continue };
            leased += 1;
            let Subnet { network, .. } = self.terms.subnet;
            let reserved = [network, self.terms.subnet.gateway(), self.terms.subnet.broadcast()];
            if !self.terms.subnet.contains(address) || reserved.contains(&address) {
                return fault(format!("session {stream} has {address}"));
            }
            // Together with the count below this proves that no address has two sessions.
            if self.owners.get(&address) != Some(stream) || self.leases.holder(address) != Some(stream) {
                return fault(format!("session {stream} has {address}, which is {:?}'s", self.leases.holder(address)));
            }
        }
        for served in self.sessions.values() {
            let of_source = |other: &&ServedSession| other.by.source == served.by.source && other.address.is_some();
            let free = self.sessions.values().filter(of_source).filter(|other| !other.by.is_paid).count() as u32;
            let known = self.leases.pool().leased_of(served.by.source);
            if free > self.share || known != u64::from(self.leased_of(&served.by)) {
                return fault(format!("{} has {free} unpaid leases, and the pool knows {known}", served.by.source));
            }
        }
        if self.leased() != leased || self.owners.len() as u32 != leased {
            return fault(format!("{leased} sessions have an address, the pool has leased {}", self.leased()));
        }
        Ok(())
    }
}

impl ServedSession {
    /// Handles a packet on channel 'R' as the billing side does.
    fn request(&mut self, now: Duration, stream: Stream, kind: u8, body: &[u8]) -> Option<Message> {
        let request = Request::parse(body).ok().filter(|_| kind == pkt::REQUEST)?;
        let usage_id = stream as u32 + 1;
        if self.usage_id == usage_id && !self.granted {
            let code = error_code::TX_COND_NOT_ENOUGH;
            let error = ServiceError { net_id: request.net_id, srv_uid: request.srv_uid, usage_id, code };
            return Some(Message::Service(pkt::ERROR, error.encode().to_vec()));
        }
        (self.usage_id, self.granted) = (usage_id, true);
        self.state.set_allowed(now, true);
        let success = Success { usage_id, net_id: request.net_id, srv_uid: request.srv_uid };
        Some(Message::Service(pkt::SUCCESS, success.encode().to_vec()))
    }
}
