//! The program `cellframe-vpn` as a test starts it.
//!
//! Use from an integration test: `#[path = "support/program.rs"] mod program;`
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The program, with its state and temporary files in `directory`.
pub(crate) fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellframe-vpn"));
    // Neither the user's state nor the system's.
    command.env("XDG_STATE_HOME", directory).env("TMPDIR", directory).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Output {
    program(directory).args(arguments).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Says that a test could not be run, or fails where it must.
pub(crate) fn skip(test: &str, why: &str) {
    let must_not = std::env::var("VPN_TESTS_MUST_NOT_SKIP").is_ok_and(|value| value == "1");
    assert!(!must_not, "{test} must not be skipped: {why}");
    // Not by eprintln!, whose output the test harness keeps to itself when a test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "skipped: {test}: {why}").unwrap();
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The exit code; None when it does not end in time or is ended by a signal.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<i32> {
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
pub(crate) fn processes_of(directory: &Path) -> Vec<String> {
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
