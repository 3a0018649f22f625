//! Memory of many sessions: the server's resident memory with all leased streams, compared with that of the idle
//! server.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use host::lab::enter_network;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::hosts::Hosts;
use testkit::program::Running;

use crate::PROGRAM;

/// Target of the documents: 10,000 sessions in less than 100 MB.
const MOST_PER_SESSION: f64 = 10_000.0;
/// Once a second a server renews the snapshot for C.
const SETTLING: Duration = Duration::from_secs(3);
/// Every five seconds it makes quiet streams release memory.
const RESTING: Duration = Duration::from_secs(10);

/// In bytes, from /proc/PID/smaps_rollup.
#[derive(Clone, Copy, Debug)]
struct Memory {
    resident: u64,
    /// Resident, with each shared page divided by the number of its users.
    proportional: u64,
}

pub(crate) struct Outcome {
    count: u32,
    idle: Memory,
    full: Memory,
    /// After each stream has sent packets and is quiet again.
    used: Memory,
    /// From the first connection to the last lease.
    seconds: f64,
}

pub(crate) fn measure(count: u32) -> Outcome {
    // The server's host: an empty network for this thread and its children.
    enter_network().unwrap();
    let hosts = Hosts::new(PROGRAM);
    let config = hosts.config(&format!(
        "[server]\nmax_streams_per_address={}\n[srv_vpn]\nnetwork_address=10.0.0.0\nnetwork_mask=255.255.0.0\nleases_per_address=65533\nnat=off\n",
        count + 1
    ));
    let (server, pin) = hosts.server_with("server", &["--config", &config]);
    eprintln!("sessions: one client comes and goes");
    // One client first, so that allocations for the first client do not count.
    drop(Streams::open(&hosts, &pin, 1));
    await_leases(&hosts, 0);
    let idle = settled(&server);
    eprintln!("sessions: {count} streams");
    let mut streams = Streams::open(&hosts, &pin, count);
    await_leases(&hosts, count);
    let full = settled(&server);
    eprintln!("sessions: some traffic on each");
    streams.use_all();
    thread::sleep(RESTING);
    let used = settled(&server);
    Outcome { count, idle, full, used, seconds: streams.seconds }
}

fn await_leases(hosts: &Hosts, count: u32) {
    let leases = || hosts.stat("server").matches("client addr").count();
    eventually(format!("{count} leases in use"), || leases() == count as usize);
}

/// Returns the largest of several readings of the memory.
fn settled(server: &Running) -> Memory {
    thread::sleep(SETTLING);
    Memory::of(server.child.id())
}

impl Memory {
    fn of(pid: u32) -> Memory {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        Memory { resident: bytes("Rss:"), proportional: bytes("Pss:") }
    }
}

/// The process that holds the streams. Dropping it kills the process.
struct Streams {
    child: Child,
    seconds: f64,
}

impl Streams {
    fn open(hosts: &Hosts, pin: &str, count: u32) -> Streams {
        let host = hosts.at(0);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["streams", "--server", &host.server.to_string(), "--pin", pin, "--count", &count.to_string()]);
        command.args(["--state-dir", &hosts.state("streams")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = host.run(move || command.spawn().unwrap());
        let mut streams = Streams { child, seconds: 0.0 };
        let mut said = String::new();
        BufReader::new(streams.child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let seconds = said.trim().strip_prefix(&format!("leases {count} ")).and_then(|seconds| seconds.parse().ok());
        streams.seconds = seconds.unwrap_or_else(|| panic!("the streams were not opened: {said:?}"));
        streams
    }

    fn use_all(&mut self) {
        writeln!(self.child.stdin.as_ref().unwrap()).unwrap();
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    fn per_session(&self, memory: Memory) -> f64 {
        memory.resident.saturating_sub(self.idle.resident) as f64 / f64::from(self.count)
    }

    /// With few sessions, one-time allocations weigh too much.
    pub(crate) fn is_met(&self) -> bool {
        self.count < 1000 || self.per_session(self.full) < MOST_PER_SESSION
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "sessions": self.count,
            "idle": {"resident": self.idle.resident, "proportional": self.idle.proportional},
            "full": {"resident": self.full.resident, "proportional": self.full.proportional},
            "used": {"resident": self.used.resident, "proportional": self.used.proportional},
            "bytes_per_session": self.per_session(self.full).round(),
            "bytes_per_used_session": self.per_session(self.used).round(),
            "seconds": self.seconds,
            "connections_per_second": (f64::from(self.count) / self.seconds).round(),
            "met": self.is_met(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        writeln!(f, "{} sessions", self.count)?;
        for (what, memory) in [("idle", self.idle), ("with all of them", self.full), ("after traffic", self.used)] {
            let (resident, proportional) = (mega(memory.resident), mega(memory.proportional));
            writeln!(f, "  {what:18}{resident:9.1} MB resident{proportional:9.1} MB proportional")?;
        }
        let met = if self.is_met() { "met" } else { "missed" };
        let most = MOST_PER_SESSION;
        writeln!(f, "  a session         {:9.0} bytes (target: less than {most}, {met})", self.per_session(self.full))?;
        writeln!(f, "    after traffic   {:9.0} bytes", self.per_session(self.used))?;
        let rate = f64::from(self.count) / self.seconds;
        write!(f, "  made in           {:9.1} s, {rate:.0} a second, both ends on this machine", self.seconds)
    }
}
