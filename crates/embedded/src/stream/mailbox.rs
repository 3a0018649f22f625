//! Packets that other threads write to a stream: one queue per stream, so that their order holds even while the stream
//! moves between workers.

use super::{COUNTERS, MAX_DATA, OUTPUT_LIMIT_UNSERVED, count};
use crate::budget::Account;
use crate::reactor::{Shared, Worker};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Most bytes of packets in one mailbox.
const LIMIT: usize = 1024 * 1024;

pub(crate) struct QueuedPacket {
    /// The channel's uuid.
    pub(crate) channel: u32,
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

/// Called on the worker of the stream with this uuid when the mailbox has packets.
pub(crate) type OnQueued = fn(&Rc<Worker>, u64);

/// Any thread posts; the stream's worker takes.
pub(crate) struct Mailbox {
    stream: u64,
    on_queued: OnQueued,
    state: Mutex<State>,
}

struct State {
    owner: Arc<Shared>,
    packets: VecDeque<QueuedPacket>,
    bytes: usize,
    account: Account,
    /// The client has a granted service: the mailbox has its whole size.
    served: bool,
    /// The stream's output that waits, as far as it was told; known without a granted service only.
    output: usize,
    /// A job that drains the mailbox is queued on the owner.
    announced: bool,
    closed: bool,
}

impl Mailbox {
    /// The mailbox of a stream with `peer`. `served` is true at the client's end.
    pub(crate) fn new(stream: u64, owner: &Arc<Shared>, peer: IpAddr, served: bool, on_queued: OnQueued) -> Self {
        let owner = Arc::clone(owner);
        let state = State {
            owner,
            packets: VecDeque::new(),
            bytes: 0,
            account: Account::of(peer),
            served,
            output: 0,
            announced: false,
            closed: false,
        };
        Mailbox { stream, on_queued, state: Mutex::new(state) }
    }

    /// The stream's uuid.
    pub(crate) fn stream(&self) -> u64 {
        self.stream
    }

    /// Queues a packet; returns the number of bytes accepted, 0 if the stream is gone or the mailbox is full.
    pub(crate) fn post(&self, channel: u32, kind: u8, data: &[u8]) -> usize {
        if data.len() > MAX_DATA {
            return 0;
        }
        let mut state = self.state.lock();
        if state.closed {
            return 0;
        }
        let bytes = state.bytes + data.len();
        if bytes > state.limit() || !state.account.covers(bytes) {
            count(&COUNTERS.output_full);
            return 0;
        }
        state.bytes += data.len();
        state.packets.push_back(QueuedPacket { channel, kind, data: data.to_vec() });
        if !state.announced {
            state.announced = true;
            let (stream, on_queued) = (self.stream, self.on_queued);
            state.owner.post(Box::new(move |worker| on_queued(worker, stream)));
        }
        data.len()
    }

    /// Removes the oldest packet. On None, the next packet is announced to the owner again.
    pub(crate) fn take(&self) -> Option<QueuedPacket> {
        let mut state = self.state.lock();
        let packet = state.packets.pop_front();
        match &packet {
            Some(packet) => {
                state.bytes -= packet.data.len();
                state.account.settle(state.bytes);
            }
            None => state.announced = false,
        }
        packet
    }

    /// Puts back a packet that the full output refused; the owner tries again when the output has drained.
    pub(crate) fn put_back(&self, packet: QueuedPacket) {
        let mut state = self.state.lock();
        state.bytes += packet.data.len();
        state.packets.push_front(packet);
        state.announced = true;
    }

    /// Announces later packets to `owner`, which drains the mailbox by itself when it receives the stream.
    pub(crate) fn set_owner(&self, owner: &Arc<Shared>) {
        let mut state = self.state.lock();
        state.owner = Arc::clone(owner);
        state.announced = true;
    }

    /// The client has a granted service, or no more.
    pub(crate) fn set_served(&self, served: bool) {
        self.state.lock().served = served;
    }

    /// Tells how much of the stream's output waits; together with it, the mailbox of a client without service keeps to
    /// the limit of such a client.
    pub(crate) fn set_output(&self, bytes: usize) {
        self.state.lock().output = bytes;
    }

    /// Gives back the memory of the budget that an idle mailbox does not need.
    pub(crate) fn trim(&self) {
        let state = self.state.lock();
        state.account.shrink(state.bytes);
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.packets.clear();
        state.bytes = 0;
        state.account.shrink(0);
    }
}

impl State {
    /// Most bytes of packets.
    fn limit(&self) -> usize {
        match (self.served, self.output + self.bytes) {
            (true, _) => LIMIT,
            // A packet that nothing waits before may have any size.
            (false, 0) => MAX_DATA,
            (false, _) => OUTPUT_LIMIT_UNSERVED.saturating_sub(self.output),
        }
    }
}
