//! What a client has received, with the time of each packet.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use testkit::TEST_TIMEOUT;

/// Something that has reached the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A packet on channel 'R'.
    Service {
        /// Its type.
        kind: u8,
        /// Its data.
        data: Vec<u8>,
    },
    /// A packet on channel 'S' that is no VPN packet.
    Notice {
        /// Its type.
        kind: u8,
        /// Its data.
        data: Vec<u8>,
    },
    /// The stream has ended.
    End(String),
}

/// What a client has received.
pub(crate) struct Inbox {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    got: Vec<(Duration, Got)>,
    /// How much of it was taken.
    taken: usize,
    packets: Vec<(Duration, Vec<u8>)>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { start: Instant::now(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// The time since the client began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn add(&self, got: Got) {
        let now = self.now();
        self.state.lock().got.push((now, got));
        self.changed.notify_all();
    }

    pub(crate) fn add_packet(&self, packet: &[u8]) {
        let now = self.now();
        self.state.lock().packets.push((now, packet.to_vec()));
        self.changed.notify_all();
    }

    /// Everything but VPN packets so far.
    pub(crate) fn all(&self) -> Vec<(Duration, Got)> {
        self.state.lock().got.clone()
    }

    /// The VPN packets that nothing has waited for, with their times.
    pub(crate) fn packets(&self) -> Vec<(Duration, Vec<u8>)> {
        self.state.lock().packets.clone()
    }

    /// Waits for the next entry that `is_wanted`, and skips those before it.
    pub(crate) fn wait(&self, what: &str, is_wanted: impl Fn(&Got) -> bool) -> (Duration, Got) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut state = self.state.lock();
        loop {
            while let Some(entry) = state.got.get(state.taken).cloned() {
                state.taken += 1;
                if is_wanted(&entry.1) {
                    return entry;
                }
            }
            let timed_out = self.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!timed_out, "not within {TEST_TIMEOUT:?}: {what}; {:?}", short(&state.got));
        }
    }

    /// Waits for a VPN packet that `is_wanted`, and drops those before it.
    pub(crate) fn wait_packet(&self, what: &str, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut state = self.state.lock();
        loop {
            if let Some(at) = state.packets.iter().position(|(_, packet)| is_wanted(packet)) {
                return state.packets.drain(..=at).next_back().unwrap().1;
            }
            let timed_out = self.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!timed_out, "not within {TEST_TIMEOUT:?}: {what}; {:?}", short(&state.got));
        }
    }
}

/// The entries with the sizes in place of the data.
fn short(got: &[(Duration, Got)]) -> Vec<String> {
    got.iter()
        .map(|(time, got)| match got {
            Got::Service { kind, data } => format!("{time:.3?} R {kind:#x}, {} bytes", data.len()),
            Got::Notice { kind, data } => format!("{time:.3?} S {kind:#x}, {} bytes", data.len()),
            Got::End(reason) => format!("{time:.3?} end: {reason}"),
        })
        .collect()
}
