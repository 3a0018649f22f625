//! Which process holds a table.

use std::fmt;
use std::fs;

/// A process, told apart from a later one of the same number by the time of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) process: u32,
    /// When it has started, in the kernel's ticks since the boot.
    began: u64,
}

/// Where the state and the time of the start stand in /proc/PID/stat, counted behind the name, which may have blanks.
const STATE: usize = 0;
const BEGAN: usize = 19;

impl Owner {
    /// This process.
    pub(super) fn own() -> Owner {
        let process = std::process::id();
        Owner { process, began: began(process).unwrap_or_default() }
    }

    /// Reads what [`fmt::Display`] has written.
    pub(super) fn parse(text: &str) -> Option<Owner> {
        let (process, began) = text.strip_prefix("held by process ")?.split_once(", started at tick ")?;
        Some(Owner { process: process.parse().ok()?, began: began.parse().ok()? })
    }

    /// Whether the process runs. One in another process namespace is unknown and counts as ended.
    pub(super) fn is_running(self) -> bool {
        began(self.process) == Some(self.began)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held by process {}, started at tick {}", self.process, self.began)
    }
}

/// When a process has started; `None` if it has ended, also while its parent has not asked for its end yet.
fn began(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.nth(STATE)?;
    // The iterator has consumed the state.
    let began = fields.nth(BEGAN - STATE - 1)?;
    if matches!(state, "Z" | "X") { None } else { began.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner { process: child.id(), began: began(child.id()).unwrap() };
        let read = Owner::parse(&owner.to_string()).unwrap();
        assert_eq!(read, owner);
        assert!(read.is_running() && Owner::own().is_running());
        assert!(!Owner { began: owner.began + 1, ..owner }.is_running(), "another process of this number");
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while owner.is_running() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!owner.is_running(), "it is a zombie");
        child.wait().unwrap();
        assert!(!owner.is_running());
        assert_eq!(Owner::parse("held by process x, started at tick 1"), None);
    }
}
