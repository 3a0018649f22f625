//! Programs on a host: starts them so that they end with this process, waits for them, and reads their CPU time.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::failure::Failure;

/// The time limit of every wait for a program.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);

/// A tick of /proc/PID/stat in seconds (`USER_HZ`).
const TICK: f64 = 0.01;

/// A program that is ready to start.
pub(crate) struct Prepared {
    command: Command,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Prepared {
    /// Prepares `command` with its output in files of `directory`; `host` is for messages.
    pub(crate) fn new(command: &Command, directory: &Path, host: &str) -> Result<Prepared, Failure> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{program} on the {host}");
        let file = |kind: &str| directory.join(format!("{number}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        let failed = || Failure::during(format!("output of {name}"));

        let own = std::env::current_exe().map_err(Failure::during("this program's own path"))?;
        let mut wrapped = Command::new(own);
        wrapped.arg("run").arg("--parent").arg(std::process::id().to_string()).arg("--").arg(command.get_program());
        wrapped.args(command.get_args()).env_remove("RUST_LOG").env("TMPDIR", directory).stdin(Stdio::null());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.stdout(File::create(&out).map_err(failed())?).stderr(File::create(&err).map_err(failed())?);
        // Ctrl-C goes only to this process, which then ends the others.
        wrapped.process_group(0);
        Ok(Prepared { command: wrapped, name, out, err })
    }

    /// Starts the program in the namespace of the calling thread, for that thread's lifetime.
    pub(crate) fn start(mut self) -> Result<Running, Failure> {
        let child = self.command.spawn().map_err(Failure::during(format!("start {}", self.name)))?;
        Ok(Running { child, name: self.name, out: self.out, err: self.err })
    }
}

/// A running program. Dropping it ends the program.
pub(crate) struct Running {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Waits until `done` returns a value.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut done: impl FnMut(&Self) -> Option<T>) -> Result<T, Failure> {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            // Reads the state before calling `done`: the program may have done its work and then ended.
            let ended = self.child.try_wait().map_err(Failure::during(&self.name))?;
            if let Some(result) = done(self) {
                return Ok(result);
            }
            if let Some(status) = ended {
                return Err(self.failure(&format!("ended ({status}) before {what}")));
            }
            if Instant::now() > deadline {
                return Err(self.failure(&format!("took longer than {WAIT_TIMEOUT:?} for {what}")));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for the program's end, and returns its output, even if its exit code reports a failure.
    pub(crate) fn output(mut self, patience: Duration) -> Result<String, Failure> {
        match self.wait_until(Instant::now() + patience) {
            true => Ok(self.stdout()),
            false => Err(self.failure(&format!("does not end in {patience:?}"))),
        }
    }

    /// Returns the CPU time so far, in seconds: in user space and in the kernel, of all threads, including ended ones.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(&path).map_err(Failure::during(&path))?;
        // The name in parentheses may contain anything; fields 14 and 15 of proc_pid_stat(5), after fields 1 and 2.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        match ticks[..] {
            [user, system] => Ok((user + system) * TICK),
            _ => Err(Failure::Failed(format!("{path} is not as proc_pid_stat(5) says"))),
        }
    }

    /// Whether a socket listens on the TCP port on the program's host.
    pub(crate) fn sees_listener(&self, port: u16) -> bool {
        const LISTEN: &str = "0A";
        let wanted = format!(":{port:04X}");
        ["tcp", "tcp6"].iter().any(|table| {
            let sockets = fs::read_to_string(format!("/proc/{}/net/{table}", self.pid())).unwrap_or_default();
            sockets.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTEN)
            })
        })
    }

    pub(crate) fn failure(&self, what: &str) -> Failure {
        let (said, log) = (self.stdout(), self.log());
        let lines: Vec<&str> = said.lines().chain(log.lines()).collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
        Failure::Failed(format!("{} {what}; it said:\n  {last}", self.name))
    }

    fn wait_until(&mut self, deadline: Instant) -> bool {
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        const GRACE: Duration = Duration::from_secs(5);
        if self.wait_until(Instant::now()) {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !self.wait_until(Instant::now() + GRACE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A program, and the process that it must not outlive.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(long)]
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

/// Replaces this process by the program, which the kernel kills when the thread that started it ends.
pub(crate) fn become_program(options: &Options) -> Result<ExitCode, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::during("the parent's death signal"))?;
    if getppid().map(Pid::as_raw_pid) != Some(options.parent) {
        return Err(Failure::Failed("the parent has gone already".into()));
    }
    let (program, arguments) = options.command.split_first().expect("clap requires it");
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::Failed(format!("{}: {error}", program.display())))
}
