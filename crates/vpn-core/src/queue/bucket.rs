//! A token bucket: holds the packets of a queue to a rate.

use std::time::Duration;

/// A rate that is sold or configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, as [`Offload::billed`](crate::forward::Offload::billed) counts them; 0 counts as 1.
    pub bytes_per_second: u64,
}

impl Rate {
    /// Returns the bytes that pass in `time`.
    pub fn bytes_in(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.bytes_per_second.max(1)) * time.as_nanos() / u128::from(SECOND);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Returns the largest unit of a queue with this rate, in bytes: what passes in 2 ms.
    pub fn unit(&self) -> usize {
        usize::try_from(self.bytes_in(UNIT)).unwrap_or(usize::MAX)
    }

    /// Returns the time in which `bytes` pass.
    pub fn time_of(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * u128::from(SECOND) / u128::from(self.bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

const SECOND: u64 = 1_000_000_000;
/// The time in which one unit passes.
const UNIT: Duration = Duration::from_millis(2);
/// What may pass at once after a pause: the bytes of this time, and at least [`LEAST_DEPTH`]. More would be a queue in
/// front of the peer.
const DEPTH: u64 = 4_000_000;
/// Two packets of a common path, in bytes.
const LEAST_DEPTH: i64 = 3_028;

/// The bucket of one queue. Tokens are bytes. The packet that uses up the last one may use more: the next one then waits
/// until the debt is paid.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// Bytes per second; 0: unlimited.
    rate: u64,
    tokens: i64,
    /// Less than a token, in tokens per second times nanoseconds.
    fraction: u64,
    filled_at: u64,
}

impl Bucket {
    pub(super) fn set_rate(&mut self, rate: Option<Rate>) {
        let was_limited = self.rate != 0;
        self.rate = rate.map_or(0, |rate| rate.bytes_per_second.max(1));
        self.tokens = if was_limited { self.tokens.min(self.depth()) } else { self.depth() };
        self.fraction = 0;
    }

    /// Whether the next packet may leave.
    pub(super) fn is_open(&mut self, now: u64) -> bool {
        if self.rate != 0 {
            self.fill(now);
        }
        self.rate == 0 || self.tokens > 0
    }

    /// Counts a packet that left.
    pub(super) fn charge(&mut self, bytes: u64) {
        if self.rate != 0 {
            self.tokens = self.tokens.saturating_sub_unsigned(bytes);
        }
    }

    /// When the next packet may leave; `now` or before if it may now.
    pub(super) fn open_at(&self, now: u64) -> Duration {
        let missing = 1 - self.tokens;
        if self.rate == 0 || missing <= 0 {
            return Duration::from_nanos(now);
        }
        let missing = u128::from(missing.unsigned_abs()) * u128::from(SECOND) - u128::from(self.fraction);
        let time = u64::try_from(missing.div_ceil(self.rate.into())).unwrap_or(u64::MAX);
        Duration::from_nanos(self.filled_at.saturating_add(time))
    }

    fn fill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.filled_at);
        if passed == 0 {
            return;
        }
        self.filled_at = now;
        let gained = u128::from(passed) * u128::from(self.rate) + u128::from(self.fraction);
        let whole = i64::try_from(gained / u128::from(SECOND)).unwrap_or(i64::MAX);
        self.fraction = (gained % u128::from(SECOND)) as u64;
        self.tokens = self.tokens.saturating_add(whole);
        if self.tokens >= self.depth() {
            (self.tokens, self.fraction) = (self.depth(), 0);
        }
    }

    fn depth(&self) -> i64 {
        let bytes = u128::from(self.rate) * u128::from(DEPTH) / u128::from(SECOND);
        i64::try_from(bytes).unwrap_or(i64::MAX).max(LEAST_DEPTH)
    }
}
