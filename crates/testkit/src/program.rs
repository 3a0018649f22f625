//! Runs the program `cellframe-vpn` for tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::TEST_TIMEOUT;

/// The program, by the path that cargo gives to tests and benches: `Program(env!("CARGO_BIN_EXE_cellframe-vpn"))`.
#[derive(Clone, Copy, Debug)]
pub struct Program(pub &'static str);

impl Program {
    /// Returns a command that starts the program, with its state and temporary files in `directory`.
    pub fn command(self, directory: &Path) -> Command {
        let mut command = Command::new(self.0);
        // Hides the user's and the system's state from the program.
        command.env("XDG_STATE_HOME", directory).env("TMPDIR", directory).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(self, directory: &Path, arguments: &[&str]) -> Output {
        self.command(directory).args(arguments).output().unwrap()
    }
}

/// Returns the exit code. Panics if a signal ended the program.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

/// Returns the program's stdout.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the program's stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Sends a signal to a program that this process started.
pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the program's end and returns the exit code; `None` after `timeout`, or if a signal ended the program.
pub fn wait(child: &mut Child, timeout: Duration) -> Option<i32> {
    let deadline = Instant::now() + timeout;
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

/// Returns the ids of processes whose environment names the test's directory: the demo and its children.
pub fn processes_of(directory: &Path) -> Vec<String> {
    let mark = directory.to_str().unwrap();
    let own = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let is_ours = entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        // A zombie has an empty environment; it counts as ended.
        if is_ours
            && let Ok(environment) = fs::read(entry.path().join("environ"))
            && String::from_utf8_lossy(&environment).contains(mark)
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// A running program with its output. Dropping it kills the program.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts the command by `spawn`, with its output in the files `name`.out and `name`.err of `directory`.
    pub fn start(directory: &Path, name: &str, mut command: Command, spawn: impl FnOnce(Command) -> Child) -> Running {
        let number = fs::read_dir(directory).unwrap().count();
        let file = |kind: &str| directory.join(format!("{name}-{number}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        Running { child: spawn(command), out, err }
    }

    /// The stdout so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// The stderr so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until the stdout contains this text.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |running| running.stdout().contains(text));
    }

    /// Waits until the stderr contains this text.
    pub fn wait_for_log(&mut self, text: &str) {
        self.wait_until(text, |running| running.log().contains(text));
    }

    /// Waits until `done` holds. Panics with all output if the program ends first, or after [`TEST_TIMEOUT`].
    pub fn wait_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !done(self) {
            let ended = self.child.try_wait().unwrap();
            let alive = ended.is_none() && Instant::now() < deadline;
            assert!(alive || done(self), "no {what:?}, {ended:?}:\n{}\n{}", self.stdout(), self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end and returns the exit code; `None` after [`TEST_TIMEOUT`], or if a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        wait(&mut self.child, TEST_TIMEOUT)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
