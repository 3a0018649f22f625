//! Packets that other threads write to a stream: one queue a stream, so that their order holds even while the stream
//! moves from worker to worker.

use super::{COUNTERS, MAX_DATA, count};
use crate::reactor::{Shared, Worker};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Most bytes of packets that wait here.
const LIMIT: usize = 1024 * 1024;

pub(crate) struct Mail {
    /// The channel's uuid.
    pub(crate) channel: u32,
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

/// Called on the worker that has a stream with this uuid when there is mail for it.
pub(crate) type OnMail = fn(&Rc<Worker>, u64);

/// Any thread posts; the stream's worker takes.
pub(crate) struct Mailbox {
    stream: u64,
    on_mail: OnMail,
    state: Mutex<State>,
}

struct State {
    owner: Arc<Shared>,
    mail: VecDeque<Mail>,
    bytes: usize,
    /// The owner has a job under way that will look.
    announced: bool,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn new(stream: u64, owner: &Arc<Shared>, on_mail: OnMail) -> Self {
        let owner = Arc::clone(owner);
        let state = State { owner, mail: VecDeque::new(), bytes: 0, announced: false, closed: false };
        Mailbox { stream, on_mail, state: Mutex::new(state) }
    }

    /// The stream's uuid.
    pub(crate) fn stream(&self) -> u64 {
        self.stream
    }

    /// Leaves a packet; the number of bytes accepted, 0 when the stream is gone or too much waits already.
    pub(crate) fn post(&self, channel: u32, kind: u8, data: &[u8]) -> usize {
        if data.len() > MAX_DATA {
            return 0;
        }
        let mut state = self.state.lock();
        if state.closed {
            return 0;
        }
        if state.bytes + data.len() > LIMIT {
            count(&COUNTERS.output_full);
            return 0;
        }
        state.bytes += data.len();
        state.mail.push_back(Mail { channel, kind, data: data.to_vec() });
        if !state.announced {
            state.announced = true;
            let (stream, on_mail) = (self.stream, self.on_mail);
            state.owner.post(Box::new(move |worker| on_mail(worker, stream)));
        }
        data.len()
    }

    /// The oldest packet. None ends the owner's look: the next packet is announced again.
    pub(crate) fn take(&self) -> Option<Mail> {
        let mut state = self.state.lock();
        let mail = state.mail.pop_front();
        match &mail {
            Some(mail) => state.bytes -= mail.data.len(),
            None => state.announced = false,
        }
        mail
    }

    /// Puts a packet back that the output had no room for; the owner looks again when the output has drained.
    pub(crate) fn put_back(&self, mail: Mail) {
        let mut state = self.state.lock();
        state.bytes += mail.data.len();
        state.mail.push_front(mail);
        state.announced = true;
    }

    /// From now on mail is announced to `owner`, which looks by itself when it gets the stream.
    pub(crate) fn set_owner(&self, owner: &Arc<Shared>) {
        let mut state = self.state.lock();
        state.owner = Arc::clone(owner);
        state.announced = true;
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.mail.clear();
        state.bytes = 0;
    }
}
