//! The outcomes of runs, to check that the plans cover them all.

use std::collections::BTreeMap;

use vpn_core::exchange::Failure;

/// The number of each outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) up: u32,
    pub(crate) lost: u32,
    pub(crate) taken_over: u32,
    pub(crate) resumed: u32,
    pub(crate) exhausted: u32,
    /// Requests beyond a source's share, and unused leases that ended for another client.
    pub(crate) beyond_share: u32,
    pub(crate) unused: u32,
    /// Sessions that the server closed by itself, and events that waited for a process that did not run.
    pub(crate) closed_silent: u32,
    pub(crate) paused: u32,
    /// Failed starts, by cause.
    failed: BTreeMap<&'static str, u32>,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Coverage) {
        self.up += other.up;
        self.lost += other.lost;
        self.taken_over += other.taken_over;
        self.resumed += other.resumed;
        self.exhausted += other.exhausted;
        self.beyond_share += other.beyond_share;
        self.unused += other.unused;
        for (cause, count) in &other.failed {
            *self.failed.entry(cause).or_default() += count;
        }
    }

    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let counted = [
            ("up", self.up),
            ("lost", self.lost),
            ("taken over", self.taken_over),
            ("resumed", self.resumed),
            ("exhausted", self.exhausted),
            ("beyond share", self.beyond_share),
            ("unused", self.unused),
        ];
        let causes = ["no answer", "refused", "stopped", "no stream", "channel taken", "no device"];
        let failed = causes.map(|cause| (cause, self.failed.get(cause).copied().unwrap_or(0)));
        counted.into_iter().chain(failed).filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    pub(crate) fn failure(&mut self, failure: &Failure) {
        let cause = match failure {
            Failure::Connect(_) => "no stream",
            Failure::ChannelTaken => "channel taken",
            Failure::Refused(_) | Failure::Busy(_) => "refused",
            Failure::Device(_) => "no device",
            Failure::NoAnswer(_) => "no answer",
            Failure::Stopped => "stopped",
        };
        *self.failed.entry(cause).or_default() += 1;
    }
}
