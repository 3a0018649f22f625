//! The client's side: connect, request service, get an address, detect a loss. `paying` has what it does about payment.

mod paying;
mod sending;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::action::{Action, Event, Failure, Grant, Notice, State};
use super::liveness::{Liveness, Verdict};
use super::offer::Offer;
use super::payment::{Agreement, Payment};
use crate::lease::{Subnet, Token};
use crate::wire::{AddrReply, Request, ServiceError, Success, error_code, op, pkt, problem};

/// The interval at which the driver passes in [`Event::Tick`], from [`Action::StartTicks`] on.
pub const TICK: Duration = Duration::from_millis(250);
/// The interval of the ticks while the client waits for the answer to REQUEST, and the first interval at which it
/// repeats that of a free order: a node loses what arrives with the first bytes of a stream.
pub const REQUEST_TICK: Duration = Duration::from_millis(100);
/// How long a server may be silent to which the host's way has changed.
const DOUBT: Duration = Duration::from_secs(3);
/// The longest interval between repetitions.
const REPEAT_MAX: Duration = Duration::from_secs(2);
/// The shortest interval at which ADDR_REQUEST is repeated, and the REQUEST of a paid order: a server may pay twice.
const REPEAT_MIN: Duration = Duration::from_secs(1);

/// The parameters of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The REQUEST; every repetition is identical.
    pub request: Request,
    /// The time limit for the server to give an address.
    pub start_timeout: Duration,
    /// The silence after which the client pings; the connection is lost when the server has answered nothing for twice as
    /// long again.
    pub keep_alive: Duration,
    /// The largest inner packet that this host sends, in bytes.
    pub mtu: u16,
    /// The device accepts super-packets, so the server may send bundles.
    pub bundles: bool,
    /// The networks in which the server may give a subnet, beside the private ones.
    pub allow: Vec<Subnet>,
    /// The token of the last lease from this server.
    pub resume: Option<Token>,
    /// The terms on which the client pays; `None` for a free order.
    pub agreement: Option<Agreement>,
    /// Whether REQUEST waits for [`Event::Proceed`] after the stream is up.
    pub is_held: bool,
}

/// One connection to one server: [`handle`](Exchange::handle) takes an event, [`next_action`](Exchange::next_action)
/// returns what follows.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::exchange::{Action, Event, Exchange, Notice, Settings, State};
/// use vpn_core::wire::{FromClient, Request, Success, parse_from_client, pkt};
///
/// let at = Duration::from_millis;
/// let request = Request { net_id: 7, srv_uid: 1, ..Request::default() };
/// let mut exchange = Exchange::new(Settings {
///     request: request.clone(),
///     start_timeout: at(10_000),
///     keep_alive: at(5_000),
///     mtu: 1390,
///     bundles: true,
///     allow: Vec::new(),
///     resume: None,
///     agreement: None,
///     is_held: false,
/// });
///
/// // The driver dials, and tells the state machine. When the stream is up, the client requests the service.
/// exchange.handle(at(0), Event::Dialled);
/// exchange.handle(at(20), Event::Connected);
/// let actions: Vec<Action> = std::iter::from_fn(|| exchange.next_action()).collect();
/// assert!(actions.contains(&Action::SendRequest(request.encode().to_vec())));
///
/// // The server grants it. The client asks for an address.
/// let granted = Success { usage_id: 5, net_id: 7, srv_uid: 1 }.encode();
/// exchange.handle(at(40), Event::ServicePacket { kind: pkt::SUCCESS, data: &granted });
/// let actions: Vec<Action> = std::iter::from_fn(|| exchange.next_action()).collect();
/// assert!(actions.contains(&Action::Report(Notice::Granted(5))));
/// let asks = |action: &Action| match action {
///     Action::SendPacket(packet) => matches!(parse_from_client(packet), Ok((_, FromClient::AddrRequest(_)))),
///     _ => false,
/// };
/// assert!(actions.iter().any(asks) && exchange.state() == State::AwaitingAddress);
/// ```
#[derive(Debug)]
pub struct Exchange {
    settings: Settings,
    state: State,
    /// Why the start has failed; the client then sends nothing.
    failure: Option<Failure>,
    usage_id: u32,
    /// The deadline of a start that waits for the server; `None` before [`Event::Dialled`].
    deadline: Option<Duration>,
    /// When the last request was sent, and how often it was repeated.
    last_sent: Duration,
    repeats: u32,
    liveness: Liveness,
    /// The silence after which the client pings.
    ping_after: Duration,
    /// The stream is up; REQUEST waits for [`Event::Proceed`].
    is_ready: bool,
    payment: Option<Payment>,
    /// When the service was first granted.
    granted: Option<Duration>,
    /// The server has begun to answer REQUEST, which is not repeated from then on.
    is_answered: bool,
    /// The driver was told to renew.
    is_renewing: bool,
    /// A refused receipt was reported.
    has_refused: bool,
    /// Why a connection that was up was lost.
    loss: Option<String>,
    actions: VecDeque<Action>,
}

impl Exchange {
    /// Creates the state machine of a connection that is not dialled yet.
    pub fn new(settings: Settings) -> Exchange {
        let Request { srv_uid, tx_cond, .. } = settings.request;
        let payment = settings.agreement.clone().map(|agreement| Payment::new(srv_uid, agreement, tx_cond));
        Exchange {
            ping_after: settings.keep_alive,
            payment,
            settings,
            state: State::Connecting,
            failure: None,
            usage_id: 0,
            deadline: None,
            last_sent: Duration::ZERO,
            repeats: 0,
            liveness: Liveness::new(Duration::ZERO),
            is_ready: false,
            granted: None,
            is_answered: false,
            is_renewing: false,
            has_refused: false,
            loss: None,
            actions: VecDeque::new(),
        }
    }

    /// Returns the state of the connection.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns why the start has failed, if it has.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Returns why a connection that was up was lost.
    pub fn loss(&self) -> Option<&str> {
        self.loss.as_deref()
    }

    /// Returns whether the stream is up, and REQUEST waits for [`Event::Proceed`].
    pub fn is_ready(&self) -> bool {
        self.is_ready && self.awaits_stream()
    }

    /// Returns when [`Event::Timeout`] is due, while the start waits for the server.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline.filter(|_| self.is_alive() && self.state < State::MakingTunnel)
    }

    /// Returns whether the connection waits for its stream: it accepts [`Event::Connected`].
    pub fn awaits_stream(&self) -> bool {
        self.is_alive() && self.state == State::Connecting
    }

    /// Returns false once the connection is lost or stopped, or its start has failed. No event makes it send again.
    pub fn is_alive(&self) -> bool {
        self.failure.is_none() && self.state <= State::Up
    }

    /// Returns the next action for the driver.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Handles an event at the time `now`. The driver performs the resulting actions before it passes in the next
    /// event.
    pub fn handle(&mut self, now: Duration, event: Event<'_>) {
        match event {
            Event::Dialled => self.deadline = Some(now + self.settings.start_timeout),
            Event::Connected => self.connected(now, self.settings.is_held),
            Event::Proceed if self.is_ready => self.connected(now, false),
            Event::Proceed => self.settings.is_held = false,
            Event::LastPayment(last) => self.pay(now, |payment, _| payment.ledger_says(&last)),
            Event::Signed { signed, signature } => self.signed(now, &signed, signature),
            Event::CannotSign(why) => self.cannot_sign(why),
            Event::ChannelTaken => self.fail(Failure::ChannelTaken),
            Event::ConnectFailed(errno) => self.fail(Failure::Connect(errno)),
            Event::Disconnected => {
                self.lose("the stream was closed");
            }
            Event::ServicePacket { kind, data } => self.service_packet(now, kind, data),
            Event::AddrReply { reply, packet, outer } => self.address_given(now, reply, packet, outer),
            Event::Problem(code) => self.problem(now, code),
            Event::Ping => self.pinged(now),
            Event::Tick { heard, pending } => self.tick(now, heard, pending),
            Event::Paused(time) => self.deadline = self.deadline.map(|deadline| deadline + time),
            Event::Timeout => self.time_out(now),
            Event::DeviceMade => self.device_made(),
            Event::OfferCollides(why) => self.refuse_offer(&why),
            Event::DeviceFailed(why) => self.fail(Failure::Device(why)),
            Event::Broken(why) if self.state == State::Up => self.lose_and_close(why),
            Event::Doubted if self.state == State::Up => {
                self.liveness.doubt(now, DOUBT);
                self.send_control(op::PING);
            }
            Event::Broken(_) | Event::Doubted => {}
            Event::Cancel => self.fail(Failure::Stopped),
            Event::Stop => self.stop(),
        }
    }

    fn connected(&mut self, now: Duration, is_held: bool) {
        if self.awaits_stream() {
            self.liveness.hear(now);
            self.is_ready = is_held;
            if is_held {
                return;
            }
            self.advance(State::Requesting);
            self.send_request(now);
            self.actions.push_back(Action::StartTicks);
        }
    }

    fn service_packet(&mut self, now: Duration, kind: u8, data: &[u8]) {
        self.liveness.hear(now);
        match kind {
            pkt::SUCCESS => match Success::parse(data) {
                Ok(success) if success.srv_uid == self.settings.request.srv_uid => self.granted(now, success.usage_id),
                Ok(other) => self.report(Notice::ForeignSuccess(other.srv_uid)),
                Err(error) => self.report(Notice::MalformedSuccess(error)),
            },
            pkt::ERROR => match ServiceError::parse(data) {
                Ok(ServiceError { code: code @ error_code::TX_COND_NOT_ENOUGH, .. })
                    if self.payment.is_some() && self.granted.is_some() =>
                {
                    self.report(Notice::AskedToRenew(code));
                    self.renew();
                }
                Ok(error) => self.refused_with(&error),
                Err(error) => self.report(Notice::MalformedError(error)),
            },
            pkt::NOTIFY_STOPPED => self.stopped(data),
            pkt::SIGN_REQUEST => self.sign_requested(now, data),
            kind => self.report(Notice::ServicePacketIgnored(kind)),
        }
    }

    fn granted(&mut self, now: Duration, usage_id: u32) {
        self.granted.get_or_insert(now);
        self.usage_id = usage_id;
        if self.is_alive() && self.state < State::AwaitingAddress {
            self.advance(State::AwaitingAddress);
            self.report(Notice::Granted(usage_id));
            self.repeats = 0;
            self.request_address(now);
        }
    }

    fn address_given(&mut self, now: Duration, reply: &AddrReply, packet: &[u8], outer: Option<IpAddr>) {
        self.liveness.hear(now);
        if self.state != State::AwaitingAddress || !self.is_alive() {
            return self.report(Notice::UnexpectedAddress);
        }
        let mut offer = match Offer::validate(reply, outer, &self.settings.allow) {
            Ok(offer) => offer,
            Err(error) => return self.refuse_offer(&error.to_string()),
        };
        let caps = reply.caps.as_ref();
        if let Some(seconds @ 1..=3600) = caps.and_then(|caps| caps.keep_alive) {
            self.ping_after = self.ping_after.min(Duration::from_secs(seconds.into()));
        }
        if !self.settings.bundles {
            // The server offers bundles that this client did not request.
            offer.bundle = 0;
        }
        let token = caps.and_then(|caps| caps.resume);
        let grant = Grant { offer, token, usage_id: self.usage_id, packet: packet.to_vec() };
        self.actions.push_back(Action::MakeDevice(grant));
        self.advance(State::MakingTunnel);
    }

    fn refuse_offer(&mut self, why: &str) {
        self.refused(format!("its address cannot be used: {why}"));
    }

    fn problem(&mut self, now: Duration, code: u32) {
        self.liveness.hear(now);
        match code {
            problem::NO_FREE_ADDR if self.state < State::MakingTunnel => self.busy("it has no free address".into()),
            problem::TUNNEL_DOWN => self.busy("its tunnel is down".into()),
            // The repeated request crossed the server's answer.
            problem::ALREADY_ASSIGNED_ADDR => {}
            code => self.report(Notice::Problem(code)),
        }
    }

    fn pinged(&mut self, now: Duration) {
        self.liveness.hear(now);
        if self.is_alive() {
            self.send_control(op::PONG);
        }
    }

    /// Repeats an unanswered request, or checks the server's liveness.
    fn tick(&mut self, now: Duration, heard: Duration, pending: usize) {
        self.liveness.hear(heard);
        if !self.is_alive() {
            return;
        }
        self.pay(now, |payment, served| payment.tick(now, served));
        let waited = now.saturating_sub(self.last_sent);
        let interval = |first: Duration| (first * (1 << self.repeats.min(5))).min(REPEAT_MAX);
        // 1 s, 1 s, 1 s, 2 s, 2 s, ...
        let slowly = interval(TICK).max(REPEAT_MIN);
        match self.state {
            State::Requesting if self.is_answered => {}
            // Of a free order after 0.1 s, 0.2 s, 0.4 s, 0.8 s, 1.6 s, 2 s, 2 s, ...
            State::Requesting if waited >= if self.payment.is_some() { slowly } else { interval(REQUEST_TICK) } => {
                self.repeats += 1;
                self.send_request(now);
            }
            State::AwaitingAddress if waited >= slowly => {
                self.repeats += 1;
                self.request_address(now);
            }
            State::Up => self.keep_alive(now, pending),
            _ => {}
        }
    }

    fn keep_alive(&mut self, now: Duration, pending: usize) {
        self.liveness.look(now, pending);
        match self.liveness.judge(now, self.ping_after, self.settings.keep_alive * 3) {
            Verdict::Wait => {}
            Verdict::Ask => self.send_control(op::PING),
            Verdict::Gone(_) => self.lose_and_close("the server is silent"),
        }
    }

    fn time_out(&mut self, now: Duration) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.fail(Failure::NoAnswer(match self.state {
            State::Connecting => "the connection",
            State::Requesting => "SUCCESS or ERROR to our REQUEST",
            _ => "an address",
        }));
    }

    fn device_made(&mut self) {
        // Otherwise the start was stopped or refused, or the connection lost, meanwhile: the driver removes the device.
        if self.state == State::MakingTunnel && self.is_alive() {
            self.advance(State::Up);
        }
    }

    fn stop(&mut self) {
        self.fail(Failure::Stopped);
        self.state = State::Stopping;
    }

    /// Fails a pending start.
    fn fail(&mut self, failure: Failure) {
        if self.state < State::Up {
            self.failure.get_or_insert(failure);
        }
    }

    /// Handles a refusal: the start fails, or the connection is lost.
    fn refused(&mut self, reason: String) {
        self.turned_away(reason, Failure::Refused);
    }

    /// The same for a refusal that time heals.
    fn busy(&mut self, reason: String) {
        self.turned_away(reason, Failure::Busy);
    }

    fn turned_away(&mut self, reason: String, failure: fn(String) -> Failure) {
        if self.state < State::Up {
            self.fail(failure(reason));
        } else {
            self.lose_and_close(&reason);
        }
    }

    /// Marks the connection as lost, and closes its stream.
    fn lose_and_close(&mut self, why: &str) {
        if self.lose(why) {
            self.actions.push_back(Action::CloseStream);
        }
    }

    /// Marks the connection as lost; returns false if it had already ended.
    fn lose(&mut self, why: &str) -> bool {
        if !self.is_alive() {
            return false;
        }
        let was_up = self.state == State::Up;
        self.fail(Failure::Connect(0));
        self.advance(State::Lost);
        if was_up {
            self.loss = Some(why.to_owned());
            self.report(Notice::Lost(why.to_owned()));
        }
        true
    }

    fn advance(&mut self, to: State) {
        let from = std::mem::replace(&mut self.state, to);
        self.report(Notice::Moved { from, to });
    }
}

#[cfg(test)]
mod tests;
