//! Whether the tunnel's device is still there: the host's administrator may delete it, move it to another network
//! namespace, set it down, or take its address or its route away, and the connection then carries nothing.

/// How the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    /// The administrator has set it down, or taken its address or its route away: what has happened.
    Down(&'static str),
    /// It was deleted, or moved to another network namespace.
    Gone,
}

/// Why a connection is lost whose device is gone.
pub(super) const GONE: &str = "the tunnel's device was deleted, or moved to another network namespace";

/// How many of the connection's ticks lie between two questions to the kernel: 750 ms, so that a loss is seen within 2 s.
const TICKS: u32 = 3;

/// Looks after the device of a connection that is up, at each of its ticks.
#[derive(Default)]
pub(super) struct Watch {
    ticks: u32,
    was_down: bool,
}

impl Watch {
    /// Returns why the device carries nothing. One that is down counts when it is down at two questions in a row,
    /// because tools set a device down for a moment to change it. `has_failed` is what the kernel has reported by itself,
    /// `health` asks it.
    pub(super) fn tick(&mut self, has_failed: bool, health: impl FnOnce() -> Health) -> Option<&'static str> {
        if has_failed {
            return Some("the tunnel's device was deleted");
        }
        self.ticks += 1;
        if !self.ticks.is_multiple_of(TICKS) {
            return None;
        }
        self.judge(health())
    }

    fn judge(&mut self, health: Health) -> Option<&'static str> {
        match health {
            Health::Up => self.was_down = false,
            Health::Down(why) if std::mem::replace(&mut self.was_down, true) => return Some(why),
            Health::Down(_) => {}
            Health::Gone => return Some(GONE),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_be_down_for_a_moment_but_not_gone() {
        let mut watch = Watch::default();
        for (health, is_lost) in [
            (Health::Up, false),
            (Health::Down("down"), false),
            (Health::Up, false),
            (Health::Down("down"), false),
            (Health::Down("down"), true),
            (Health::Gone, true),
        ] {
            assert_eq!(watch.judge(health).is_some(), is_lost, "{health:?}");
        }
    }
}
