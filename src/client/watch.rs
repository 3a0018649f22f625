//! Whether the host still carries the connection. Its administrator may delete the tunnel's device, move it to another
//! network namespace, set it down, or take its address or its route away. The host may move to another network, so that
//! its way to the server changes.

use std::net::IpAddr;

use host::outer_path::{Change, OuterPath};

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

/// Why a connection is lost whose host has left the address that it was made from.
const MOVED: &str = "this host has another address towards the server now";

/// How many of the connection's ticks lie between two questions to the kernel: 750 ms, so that a loss is seen within 2 s.
const TICKS: u32 = 3;

/// What the host says of a connection that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It carries nothing any more: why.
    Broken(&'static str),
    /// It may carry nothing any more: the server has to be asked.
    Doubtful,
}

/// Looks after a connection that is up, at each of its ticks.
pub(super) struct Watch {
    ticks: u32,
    was_down: bool,
    path: Option<OuterPath>,
}

impl Watch {
    /// Begins to look after a connection to a server with this outer address.
    pub(super) fn new(server: Option<IpAddr>) -> Watch {
        let begin = |server| {
            OuterPath::new(server)
                .inspect_err(|error| log::warn!("changes of the network are not noticed: {error}"))
                .ok()
        };
        Watch { ticks: 0, was_down: false, path: server.and_then(begin) }
    }

    /// Looks at the device, and returns why it carries nothing. One that is down counts when it is down at two questions in a row,
    /// because tools set a device down for a moment to change it. `has_failed` is what the kernel has reported by itself,
    /// `health` asks it.
    pub(super) fn device(&mut self, has_failed: bool, health: impl FnOnce() -> Health) -> Option<Finding> {
        if has_failed {
            return Some(Finding::Broken("the tunnel's device was deleted"));
        }
        self.ticks += 1;
        if !self.ticks.is_multiple_of(TICKS) {
            return None;
        }
        self.judge(health()).map(Finding::Broken)
    }

    /// Looks at the host's way to the server.
    pub(super) fn path(&mut self) -> Option<Finding> {
        match self.path.as_mut()?.look()? {
            Change::AddressGone => Some(Finding::Broken(MOVED)),
            Change::Moved | Change::Unreachable | Change::Resumed => Some(Finding::Doubtful),
        }
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
        let mut watch = Watch::new(None);
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
