//! Whether a peer is there: only a question that it leaves unanswered says no, never the time that has passed.

use std::time::Duration;

/// The longest time between two looks at a process that runs. The drivers look every 250 ms and every second; after a
/// longer gap the process was stopped or the machine was suspended, and no question from before counts.
pub const PAUSE: Duration = Duration::from_secs(2);

/// What follows from a look at a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No action.
    Wait,
    /// The peer is to be asked: PING.
    Ask,
    /// The peer has not answered; it has been silent for this long.
    Gone(Duration),
}

/// What is known about a peer's life.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When the peer last gave a sign of life.
    heard: Duration,
    /// The last look.
    looked: Duration,
    /// The bytes that waited for the peer at the last look.
    pending: usize,
    /// The first and the last question since the last sign of life.
    asked: Option<(Duration, Duration)>,
    /// Without a sign of life until then a peer that is doubted is gone.
    doubted_until: Option<Duration>,
}

impl Liveness {
    /// The peer is there at `now`.
    pub(super) fn new(now: Duration) -> Liveness {
        Liveness { heard: now, looked: now, pending: 0, asked: None, doubted_until: None }
    }

    /// The peer gave a sign of life.
    pub(super) fn hear(&mut self, at: Duration) {
        if at > self.heard {
            self.heard = at;
            self.asked = None;
            self.doubted_until = None;
        }
    }

    /// There is reason to think that the peer cannot be reached any more. The caller asks it now; it is gone without a
    /// sign of life `within` this time.
    pub(super) fn doubt(&mut self, now: Duration, within: Duration) {
        self.asked.get_or_insert((now, now));
        self.doubted_until = Some(now + within);
    }

    /// Returns when the peer last gave a sign of life.
    pub(super) fn heard(&self) -> Duration {
        self.heard
    }

    /// Notes that the driver looks, and how many bytes wait for the peer. A queue that gets shorter is a sign of life:
    /// an answer may wait behind the data. Returns the length of the pause of this process since the last look, or zero.
    pub(super) fn look(&mut self, now: Duration, pending: usize) -> Duration {
        let gap = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        let pause = Some(gap).filter(|gap| *gap > PAUSE).unwrap_or_default();
        if !pause.is_zero() {
            self.asked = None;
            self.doubted_until = None;
        }
        if pending < std::mem::replace(&mut self.pending, pending) {
            self.hear(now);
        }
        pause
    }

    /// Decides after a look. A peer that is silent for `ask_after` is asked, and asked again as often. It is gone when it
    /// has answered nothing since the first of these questions, for the rest of `give_up_after`, without a pause of this
    /// process between the looks.
    pub(super) fn judge(&mut self, now: Duration, ask_after: Duration, give_up_after: Duration) -> Verdict {
        let silent = now.saturating_sub(self.heard);
        if self.doubted_until.is_some_and(|until| now >= until) {
            return Verdict::Gone(silent);
        }
        if silent < ask_after {
            return Verdict::Wait;
        }
        match &mut self.asked {
            None => self.asked = Some((now, now)),
            Some((first, _)) if now.saturating_sub(*first) >= give_up_after.saturating_sub(ask_after) => {
                return Verdict::Gone(silent);
            }
            Some((_, last)) if now.saturating_sub(*last) >= ask_after => *last = now,
            Some(_) => return Verdict::Wait,
        }
        Verdict::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Duration = Duration::from_secs(5);
    const GIVE_UP: Duration = Duration::from_secs(15);

    /// Looks every second from `from` to `to`, and returns the questions and the end.
    fn looks(liveness: &mut Liveness, from: u64, to: u64) -> (Vec<u64>, Option<u64>) {
        let mut asked = Vec::new();
        for second in from..=to {
            let now = Duration::from_secs(second);
            liveness.look(now, 0);
            match liveness.judge(now, ASK, GIVE_UP) {
                Verdict::Wait => {}
                Verdict::Ask => asked.push(second),
                Verdict::Gone(_) => return (asked, Some(second)),
            }
        }
        (asked, None)
    }

    #[test]
    fn two_unanswered_questions_end_it() {
        let mut liveness = Liveness::new(Duration::ZERO);
        assert_eq!(looks(&mut liveness, 1, 60), (vec![5, 10], Some(15)));
    }

    #[test]
    fn an_answer_ends_the_questions() {
        let mut liveness = Liveness::new(Duration::ZERO);
        assert_eq!(looks(&mut liveness, 1, 11), (vec![5, 10], None));
        liveness.hear(Duration::from_secs(11));
        assert_eq!(looks(&mut liveness, 12, 60), (vec![16, 21], Some(26)));
    }

    #[test]
    fn a_pause_of_any_length_asks_before_it_ends_anything() {
        for pause in [3, 17, 25, 60, 600, 86_400] {
            // Before it asked, after the first question, and after the last one.
            for before in [1, 6, 14] {
                let mut liveness = Liveness::new(Duration::ZERO);
                assert_eq!(looks(&mut liveness, 1, before).1, None);
                let back = before + pause;
                let begin = back.max(5);
                let (asked, end) = looks(&mut liveness, back, back + 60);
                assert_eq!((asked, end), (vec![begin, begin + 5], Some(begin + 10)), "{before} s, then {pause} s");
            }
        }
    }

    #[test]
    fn a_peer_that_is_doubted_has_less_time() {
        let (mut silent, mut there) = (Liveness::new(Duration::ZERO), Liveness::new(Duration::ZERO));
        for peer in [&mut silent, &mut there] {
            assert_eq!(looks(peer, 1, 2), (vec![], None));
            peer.doubt(Duration::from_secs(2), Duration::from_secs(2));
        }
        assert_eq!(looks(&mut silent, 3, 60), (vec![], Some(4)));
        there.hear(Duration::from_secs(3));
        assert_eq!(looks(&mut there, 3, 60), (vec![8, 13], Some(18)));
    }

    #[test]
    fn what_waited_during_a_pause_is_an_answer() {
        let mut liveness = Liveness::new(Duration::ZERO);
        assert_eq!(looks(&mut liveness, 1, 14).1, None);
        // It was read before the timer ran.
        liveness.hear(Duration::from_secs(300));
        assert_eq!(looks(&mut liveness, 300, 304), (vec![], None));
    }
}
