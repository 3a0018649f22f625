//! What a stream with bbr gets beside bbr: a ceiling for its rate, and a renewal in place of its stops.

use std::time::Duration;

use crate::sdk::channel::Channel;
use vpn_core::queue::{Ceiling, Path, Phase, Renewal};

/// What a stream is doing.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// Packets are on the path.
    pub(super) is_busy: bool,
    /// Packets wait for the path.
    pub(super) is_full: bool,
    /// Packets are sent again.
    pub(super) repairs: bool,
}

/// The steering of one stream's bbr.
pub(super) struct Bbr {
    ceiling: Ceiling,
    /// `None`: this bbr cannot be renewed.
    renewal: Option<Renewal>,
    /// The bound that the kernel was told.
    told: u64,
}

impl Bbr {
    /// Returns the steering of this stream; `None` if it has another congestion control.
    pub(super) fn of(channel: &Channel) -> Option<Bbr> {
        let is_bbr = channel.congestion().as_deref() == Some("bbr");
        is_bbr.then(|| Bbr { ceiling: Ceiling::default(), renewal: Some(Renewal::default()), told: u64::MAX })
    }

    /// Tells the kernel what follows from the path.
    pub(super) fn look(&mut self, now: Duration, path: &Path, state: State, channel: &Channel) {
        let ceiling = self.ceiling.of(now, path, state.is_full);
        let is_renewed = self.is_due(now, path, state, channel);
        let rate = self.renewal.as_ref().map_or(ceiling, |renewal| renewal.bound().min(ceiling));
        // Before the renewal, or its first packets would leave at several times the rate.
        if rate.abs_diff(self.told) > self.told / 32 || is_renewed {
            channel.set_rate_limit(rate);
            self.told = rate;
        }
        if is_renewed {
            self.renew(channel);
        }
    }

    fn is_due(&mut self, now: Duration, path: &Path, state: State, channel: &Channel) -> bool {
        let Some(renewal) = &mut self.renewal else { return false };
        if !renewal.asks(now, path, state.is_busy, state.repairs) {
            return false;
        }
        let Some(bbr) = channel.bbr() else {
            self.renewal = None;
            return false;
        };
        renewal.decide(now, Phase::of(bbr.window_gain), bbr.rate)
    }

    /// Has bbr begin anew. The kernel keeps a control that is set again as it is: so another one is set in between, one
    /// that every kernel has and every process may choose.
    fn renew(&mut self, channel: &Channel) {
        if let Err(error) = channel.set_congestion(c"reno").and_then(|()| channel.set_congestion(c"bbr")) {
            host::log_bounded!(Warn, "bbr cannot be set again on the stream of {}: {error}", channel.peer());
            self.renewal = None;
        }
    }
}
