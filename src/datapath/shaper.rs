//! Holds what one peer sends to the TUN queue to a rate: what exceeds it waits, as before a slow line.

use std::time::Duration;

use vpn_core::forward::{Load, Offload};
use vpn_core::queue::{Events, Limits, Queue, Rate, Tuning};
use vpn_core::wire::Ipv4View;

use super::outlet::Shared;

/// What waits at most, as the time in which the rate passes it: more than the bursts of flows that react.
const MOST: Duration = Duration::from_secs(1);
/// The bound is at least this many bytes: two super-packets.
const LEAST: usize = 128 * 1024;

/// The queue in front of a TUN queue, of one peer.
pub(crate) struct Shaper {
    queue: Queue,
    rate: Option<Rate>,
    /// The most bytes that wait at any rate.
    limit: usize,
}

impl Shaper {
    /// Creates one without a limit, of which at most `limit` bytes wait.
    pub(crate) fn new(limit: usize) -> Shaper {
        Shaper { queue: Queue::new(Limits { bytes: limit }), rate: None, limit }
    }

    /// Sets or removes the rate limit.
    pub(crate) fn set_rate(&mut self, rate: Option<Rate>) {
        if self.rate != rate {
            self.rate = rate;
            self.queue.set_rate(rate);
            self.bound();
        }
    }

    /// Changes the most bytes that wait at any rate.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        if self.limit != limit {
            self.limit = limit;
            self.bound();
        }
    }

    fn bound(&mut self) {
        let most = self.rate.map_or(usize::MAX, |rate| usize::try_from(rate.bytes_in(MOST)).unwrap_or(usize::MAX));
        self.queue.limit(Limits { bytes: most.max(LEAST).min(self.limit) });
    }

    /// Appends a packet of a peer whose path demands this `tuning`. The caller counts `events`.
    pub(crate) fn push(
        &mut self,
        shared: &mut Shared,
        packet: &[u8],
        described: (&Ipv4View, &Offload),
        tuning: Tuning,
        events: &mut Events,
    ) {
        let now = shared.now();
        self.queue.tune(self.rate.map_or(tuning, |rate| tuning.at_rate(rate)));
        let unit = self.rate.map_or(usize::MAX, |rate| rate.unit());
        self.queue.push(&mut shared.memory, now, packet, described, unit, events);
    }

    /// Writes the next packet that the rate allows to the front of `space`, with its header, and returns their length. The
    /// caller counts `events`.
    pub(crate) fn pop(&mut self, shared: &mut Shared, space: &mut [u8], events: &mut Events) -> Option<usize> {
        let now = shared.now();
        self.queue.pop(&mut shared.memory, now, space, events)
    }

    /// The bytes that wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.bytes()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self, shared: &mut Shared) -> Load {
        self.queue.clear(&mut shared.memory)
    }
}
