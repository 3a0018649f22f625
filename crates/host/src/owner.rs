//! Which process has put up something that outlives it. Another process tells by it what a killed one has left from what
//! is in use.

use std::fmt;
use std::fs;
use std::str::FromStr;

/// A process, so that no other is taken for it: numbers of processes come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's ticks since the machine did.
    started: u64,
    /// The kernel's name for this run of the machine.
    boot: String,
}

impl Owner {
    /// Returns this process.
    pub fn this() -> Owner {
        let pid = std::process::id();
        Owner { pid, started: started(pid).unwrap_or(0), boot: boot() }
    }

    /// Returns whether the process still runs. One of another process namespace does not count: its number says nothing
    /// here.
    pub fn is_running(&self) -> bool {
        self.boot == boot() && started(self.pid).is_some_and(|started| started == self.started)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.pid, self.started, self.boot)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Owner, ()> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().ok_or(());
        let (pid, started, boot) = (part()?, part()?, part()?);
        let is_boot = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !boot.bytes().all(is_boot) {
            return Err(());
        }
        let (pid, started) = (pid.parse().map_err(|_| ())?, started.parse().map_err(|_| ())?);
        Ok(Owner { pid, started, boot: boot.to_owned() })
    }
}

/// Returns when a process started; `None` for one that is gone, or that waits for its parent to notice its end.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything. Behind it: the state, and as the 20th the start.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok()).flatten()
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_known_by_its_start() {
        let this = Owner::this();
        assert!(this.is_running() && this.started > 0);
        assert_eq!(this.to_string().parse(), Ok(this.clone()));
        assert!(!Owner { started: this.started + 1, ..this.clone() }.is_running());
        assert!(!Owner { boot: "other".to_owned(), ..this }.is_running());
        for wrong in ["", "1", "1/2", "x/2/3", "1/2/a b", "1/x/3", "-1/2/3"] {
            assert_eq!(wrong.parse::<Owner>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_process_that_has_ended_does_not_run() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner { pid: child.id(), started: started(child.id()).unwrap(), boot: boot() };
        assert!(owner.is_running());
        child.kill().unwrap();
        // Before it is waited for, it is a zombie.
        while owner.is_running() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!owner.is_running());
    }
}
