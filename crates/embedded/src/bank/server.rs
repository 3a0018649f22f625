//! The server's side of channel 'B'.
//!
//! A worker parses a request and checks its rate; a thread answers it, because the ledger writes to the disk. The thread
//! ends when nothing waits. Of each stream one request waits at a time, so that the queue is as bounded as the streams.
//!
//! What an account holds is told to whoever knows its address, the hash of its key: 256 bits that only its owner has, and
//! those to whom the owner gave it. It is the same on a Cellframe network, where the ledger is public. A transaction
//! counts by its signature, whoever brings it.

use super::{CHANNEL, PER_SECOND};
use crate::ctypes::dap_stream_ch;
use crate::cview::packets::{Packet, PacketHandler, proc_of};
use crate::ledger;
use crate::net::{self, NetRef};
use crate::panics;
use crate::reactor::Reactor;
use crate::services;
use crate::stream::conn::registry::{self, on_channel};
use crate::stream::{COUNTERS, count, procs};
use crate::threads;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use vpn_core::money::Token;
use vpn_core::money::bank::{Ask, BankAnswer, BankRequest, ChainState, Left, MAX_OFFERS, Offer, Prices, kind, refusal};
use vpn_core::rate::{Budget, Rates};
use vpn_core::source::Source;

/// How many transactions a source may bring in a minute: each costs a check of a signature, and a good one a write.
const TRANSACTIONS_PER_MINUTE: u32 = 120;
/// The most requests that wait for the thread, of all streams.
const WAITING_MAX: usize = 1024;

/// Registers the channel, unless the program has one with this letter.
pub(crate) fn register_channel() {
    if procs::find(CHANNEL).is_none() {
        procs::add(proc_of::<BankChannel>(CHANNEL));
    }
}

struct BankChannel;

impl PacketHandler for BankChannel {
    fn packet_in(ch: *mut dap_stream_ch, packet: &Packet<'_>) -> bool {
        let conn = on_channel(ch, |worker, conn, _| (Rc::clone(worker), Rc::clone(conn)));
        let Some((worker, conn)) = conn else { return false };
        if conn.client().is_some() {
            // The program opened this stream; it asks by a connection of its own.
            return false;
        }
        let verdict = DESK.lock().admit(conn.uuid, Source::of(conn.peer_ip()), worker.now(), packet);
        match verdict {
            Verdict::Dropped => count(&COUNTERS.service_dropped),
            Verdict::Refused(code, reason) => {
                let (kind, data) = refused(code, reason).encode();
                conn.write_packet(&worker, CHANNEL, kind, &data);
            }
            Verdict::Admitted(request) => {
                wait(Job { reactor: Arc::clone(&worker.reactor), stream: conn.uuid, request });
            }
        }
        true
    }

    fn closed(ch: *mut dap_stream_ch) {
        if let Some(stream) = on_channel(ch, |_, conn, _| conn.uuid) {
            DESK.lock().askers.remove(&stream);
        }
    }
}

static DESK: LazyLock<Mutex<Desk>> = LazyLock::new(|| {
    Mutex::new(Desk {
        began: Instant::now(),
        askers: BTreeMap::new(),
        transactions: Rates::new(TRANSACTIONS_PER_MINUTE, Duration::from_secs(60)),
        waiting: VecDeque::new(),
        is_manned: false,
    })
});

/// The clients that ask, and their questions that wait for an answer.
struct Desk {
    began: Instant,
    askers: BTreeMap<u64, Asker>,
    transactions: Rates,
    waiting: VecDeque<Job>,
    /// The thread runs.
    is_manned: bool,
}

/// A stream with channel 'B' that has asked.
struct Asker {
    budget: Budget,
    waits: bool,
}

struct Job {
    reactor: Arc<Reactor>,
    stream: u64,
    request: BankRequest,
}

enum Verdict {
    /// The stream asks too often, or before it has its answer.
    Dropped,
    Refused(u8, String),
    Admitted(BankRequest),
}

impl Desk {
    fn admit(&mut self, stream: u64, source: Source, now: Instant, packet: &Packet<'_>) -> Verdict {
        let now = now.saturating_duration_since(self.began);
        let new = || Asker { budget: Budget::per_second(PER_SECOND), waits: false };
        let asker = self.askers.entry(stream).or_insert_with(new);
        if asker.waits || !asker.budget.take(now) {
            return Verdict::Dropped;
        }
        let request = match BankRequest::parse(packet.kind, packet.data) {
            Ok(request) => request,
            Err(error) => return Verdict::Refused(refusal::MALFORMED, format!("the request is malformed: {error}")),
        };
        if packet.kind == kind::SUBMIT && !self.transactions.take(now, source) {
            let reason = format!("more than {TRANSACTIONS_PER_MINUTE} transactions in a minute from this address");
            return Verdict::Refused(refusal::BUSY, reason);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Verdict::Refused(refusal::BUSY, "too many requests wait".to_owned());
        }
        asker.waits = true;
        Verdict::Admitted(request)
    }
}

/// Gives a request to the thread, which is started unless it runs.
fn wait(job: Job) {
    let mut desk = DESK.lock();
    desk.waiting.push_back(job);
    if desk.is_manned {
        return;
    }
    match threads::spawn("vpn-bank", work) {
        Ok(_) => desk.is_manned = true,
        Err(error) => {
            host::log_bounded!(Warn, "no thread for the bank's requests, they wait for the next one: {error}");
        }
    }
}

fn work() {
    loop {
        let mut desk = DESK.lock();
        let Some(job) = desk.waiting.pop_front() else {
            desk.is_manned = false;
            return;
        };
        drop(desk);
        let answer = panics::catch(|| answer(&job.request)).unwrap_or_else(|panic| {
            host::log_bounded!(Error, "bank: internal error, a request failed: {panic}");
            refused(refusal::BUSY, "the server has failed at this request".to_owned())
        });
        reply(&job, &answer);
    }
}

/// Sends the answer on the stream's worker. A stream that has ended gets none.
fn reply(job: &Job, answer: &BankAnswer) {
    let stream = job.stream;
    let Some(owner) = job.reactor.owner(stream) else { return };
    let (kind, data) = answer.encode();
    owner.post(Box::new(move |worker| {
        if let Some(asker) = DESK.lock().askers.get_mut(&stream) {
            asker.waits = false;
        }
        if let Some(conn) = registry::find(stream) {
            conn.write_packet(worker, CHANNEL, kind, &data);
        }
    }));
}

fn refused(code: u8, reason: String) -> BankAnswer {
    BankAnswer::Refused { code, reason }
}

fn answer(request: &BankRequest) -> BankAnswer {
    let Some(net) = net::find_by_id(request.net_id) else {
        return refused(refusal::NETWORK, format!("network {:#x} is not known here", request.net_id));
    };
    match &request.ask {
        Ask::Prices => BankAnswer::Prices(prices(net)),
        Ask::Balance { key_hash, token } => BankAnswer::Balance {
            value: ledger::balance(net.id(), key_hash, token),
            locked: ledger::locked(net.id(), key_hash, token),
            counter: ledger::counter(net.id(), key_hash),
        },
        Ask::Submit(transaction) => match ledger::submit(net.id(), transaction) {
            Ok(hash) => BankAnswer::Submitted(hash),
            Err(why) => refused(refusal::LEDGER, why.to_string()),
        },
        Ask::Chain(hash) => BankAnswer::Chain(chain(net, hash)),
    }
}

fn prices(net: NetRef) -> Prices {
    let offers = ledger::orders(net.id()).into_iter().filter_map(|(hash, order)| {
        let token = Token::new(&order.token).ok()?;
        (order.is_ours && order.value > 0).then_some(Offer {
            hash,
            unit: order.unit,
            units: order.units,
            value: order.value,
            token,
        })
    });
    Prices {
        gives_free: services::find(ledger::VPN_UID).is_some_and(|service| service.allows_free()),
        payment_fee: ledger::net_fee(net.id()),
        offers: offers.take(MAX_OFFERS).collect(),
    }
}

fn chain(net: NetRef, hash: &[u8; 32]) -> ChainState {
    let Some(means) = ledger::means(net.id(), hash) else { return ChainState::Unknown };
    let left = means.last.and_then(|last| {
        let output = ledger::means(net.id(), &last)?.output?;
        (output.srv_uid == ledger::VPN_UID).then_some(())?;
        Some(Left {
            last,
            key_hash: output.client_key,
            value: output.value,
            fee: output.fee.saturating_add(ledger::net_fee(net.id())),
            max_unit_price: output.max_unit_price,
            unit: output.unit,
            token: Token::new(&output.token).ok()?,
        })
    });
    left.map_or(ChainState::Spent, ChainState::Open)
}
