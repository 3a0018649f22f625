//! A deadline that a pause of the process does not use up: SIGSTOP, a debugger, a suspended machine.

use std::time::{Duration, Instant};

/// The longest step of a wait, after which the waiting thread looks at its [`Patience`] again.
pub const STEP: Duration = Duration::from_millis(500);
/// A thread or timer that is so much later than it should be was stopped with its process.
pub const LATE: Duration = Duration::from_secs(1);

/// Returns how long the process did not run, when a thread that wanted to wake at `expected` wakes now; zero if it is
/// hardly late.
pub fn pause_since(expected: Instant) -> Duration {
    Some(expected.elapsed()).filter(|late| *late >= LATE).unwrap_or_default()
}

/// The time that is left of a wait. The thread that waits asks for it at least every [`STEP`].
///
/// Between two looks that are further apart than a step and a second, the process did not run. What it waits for may
/// lie unread in a socket, or its peer was never asked: the deadline moves by that time.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    deadline: Instant,
    looked: Instant,
}

impl Patience {
    /// Begins a wait of this length.
    pub fn new(time: Duration) -> Patience {
        let now = Instant::now();
        Patience { deadline: now + time, looked: now }
    }

    /// Returns what is left; zero when the wait is over.
    pub fn left(&mut self) -> Duration {
        self.left_at(Instant::now())
    }

    /// Returns the length of the next step; `None` when the wait is over.
    pub fn step(&mut self) -> Option<Duration> {
        Some(self.left().min(STEP)).filter(|step| !step.is_zero())
    }

    fn left_at(&mut self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        if gap >= STEP + LATE {
            self.deadline += gap - STEP;
        }
        self.deadline.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_moves_the_deadline_and_a_late_look_does_not() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut patience = Patience { deadline: at(5_000), looked: start };
        assert_eq!(patience.left_at(at(500)), Duration::from_millis(4_500));
        assert_eq!(patience.left_at(at(1_900)), Duration::from_millis(3_100));
        // The process is stopped for 60 s.
        assert_eq!(patience.left_at(at(62_400)), Duration::from_millis(2_600));
        assert_eq!(patience.left_at(at(62_900)), Duration::from_millis(2_100));
        assert_eq!(patience.left_at(at(64_000)), Duration::from_millis(1_000));
        assert_eq!(patience.left_at(at(65_000)), Duration::ZERO);
    }
}
