//! Waits: deadlines that a pause of the process does not use up (SIGSTOP, a debugger, a suspended machine), and pauses
//! between attempts.

use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};

/// The longest step of a wait, after which the waiting thread looks at its [`Patience`] again.
pub const STEP: Duration = Duration::from_millis(500);
/// A thread or timer that is so much later than it should be was stopped with its process.
pub const LATE: Duration = Duration::from_secs(1);

/// Returns how long the process did not run, when a thread that wanted to wake at `expected` wakes now; zero if it is
/// hardly late.
pub fn pause_since(expected: Instant) -> Duration {
    Some(expected.elapsed()).filter(|late| *late >= LATE).unwrap_or_default()
}

/// Draws a time from three to five quarters of `pause`, so that the many clients of a server that went away do not come
/// back at once.
pub fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    // Without random numbers the time is at the lower end.
    let _ = getrandom(random.as_mut_slice(), GetRandomFlags::empty());
    let [random] = random;
    pause * 3 / 4 + pause / 2 * u32::from(random) / 255
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
    fn a_pause_is_drawn_from_around_its_length() {
        let drawn: Vec<_> = (0..64).map(|_| jittered(Duration::from_secs(8)).as_millis()).collect();
        assert!(drawn.iter().all(|ms| (6_000..=10_000).contains(ms)), "{drawn:?}");
        assert!(drawn.iter().any(|ms| *ms != drawn[0]), "{drawn:?}");
    }

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
