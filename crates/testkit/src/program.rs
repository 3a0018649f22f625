//! The program `cellframe-vpn` as a test starts it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::PATIENCE;

/// The program, by the path that cargo tells its tests and benches: `Program(env!("CARGO_BIN_EXE_cellframe-vpn"))`.
#[derive(Clone, Copy, Debug)]
pub struct Program(pub &'static str);

impl Program {
    /// A command that starts it, with its state and temporary files in `directory`.
    pub fn command(self, directory: &Path) -> Command {
        let mut command = Command::new(self.0);
        // Neither the user's state nor the system's.
        command.env("XDG_STATE_HOME", directory).env("TMPDIR", directory).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(self, directory: &Path, arguments: &[&str]) -> Output {
        self.command(directory).args(arguments).output().unwrap()
    }
}

/// The exit code. Panics when a signal ended the program.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

/// What it said on stdout.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Sends a signal to a program that this process started.
pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The exit code; None when it does not end in time or is ended by a signal.
pub fn wait(child: &mut Child, patience: Duration) -> Option<i32> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        sleep(Duration::from_millis(5));
    }
}

/// Process ids whose environment names the test's directory: the demo and all it started.
pub fn processes_of(directory: &Path) -> Vec<String> {
    let mark = directory.to_str().unwrap();
    let own = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let is_ours = entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        // A zombie's environment is empty: it is gone but for its exit code.
        if is_ours
            && let Ok(environment) = fs::read(entry.path().join("environ"))
            && String::from_utf8_lossy(&environment).contains(mark)
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// A program that goes on running, and what it says. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts the command by `spawn`, with its output in files of `directory` that are called after `name`.
    pub fn start(directory: &Path, name: &str, mut command: Command, spawn: impl FnOnce(Command) -> Child) -> Running {
        let number = fs::read_dir(directory).unwrap().count();
        let file = |kind: &str| directory.join(format!("{name}-{number}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        Running { child: spawn(command), out, err }
    }

    /// What it has said on stdout so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// What it has said on stderr so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until it says this on stdout.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |running| running.said().contains(text));
    }

    /// Waits until it says this on stderr.
    pub fn wait_for_log(&mut self, text: &str) {
        self.wait_until(text, |running| running.log().contains(text));
    }

    /// Waits until this is done. Panics with all that was said when the program ends before, or after [`PATIENCE`].
    pub fn wait_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let ended = self.child.try_wait().unwrap();
            let alive = ended.is_none() && Instant::now() < deadline;
            assert!(alive || done(self), "no {what:?}, {ended:?}:\n{}\n{}", self.said(), self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end: the exit code. None when it does not end in time or is ended by a signal.
    pub fn exit_code(&mut self) -> Option<i32> {
        wait(&mut self.child, PATIENCE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
