//! The attacked server: this program once more, which runs the "test" below as its only one, or one that runs already.

use embedded::config::{self, Config};
use embedded::http::{self, Response};
use embedded::{lifecycle, listener};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// Says that this process is the server, and what its section `[server]` has.
const VARIABLE: &str = "EMBEDDED_ATTACK_SERVER";
/// Names a server that runs already, as its port, a colon, and its process id; its limits must be those of the test.
const RUNNING: &str = "EMBEDDED_ATTACK_RUNNING";
const READY: &str = "attacked on port ";

/// The attacks use the machine's processors, so that they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// A running server.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: u32,
    /// What this process started, and its output.
    started: Option<(Child, BufReader<ChildStdout>, TempDir)>,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    /// Starts a server with the usual limit of 1024 descriptors, and more lines for its section `[server]`.
    pub(crate) fn start(more: &str) -> Server {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(running) = std::env::var(RUNNING) {
            let (port, process) = running.split_once(':').unwrap();
            let (port, process) = (port.parse().unwrap(), process.parse().unwrap());
            return Server { port, process, started: None, _alone: alone };
        }
        let directory = tempfile::tempdir().unwrap();
        let text = format!("[general]\nstate_dir={}/state\n{more}", directory.path().display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::server_process", "--nocapture"])
            .env(VARIABLE, text)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(READY) {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the server has ended");
        }
        let port = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Server { port, process: child.id(), started: Some((child, output, directory)), _alone: alone }
    }

    /// The server's memory in RAM, KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((mut child, output, _directory)) = self.started.take() else { return };
        // The server ends with its input.
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        drop(output);
        if !std::thread::panicking() {
            assert!(status.success(), "{status}");
        }
    }
}

/// The server's process; a test of nothing in the tests' own process.
#[test]
fn server_process() {
    let Ok(text) = std::env::var(VARIABLE) else { return };
    setrlimit(Resource::Nofile, Rlimit { current: Some(1024), maximum: Some(1024) }).unwrap();
    let (general, server) =
        text.split_once('\n').and_then(|(head, rest)| Some((head, rest.split_once('\n')?))).unwrap();
    let text = format!(
        "{general}\n{}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
         [server]\nlisten_address=[127.0.0.1:0]\n{}",
        server.0, server.1
    );
    config::set_current(Config::parse(&text, "test").0);
    http::register("/limits", Box::new(|_| Response { status: 200, mime: "text/plain".into(), body: b"42".to_vec() }));
    assert!(lifecycle::retain(lifecycle::User::Program).is_ok());
    unsafe {
        embedded::abi::stream::dap_stream_ch_proc_add(b'S', None, None, None, None);
    }
    listener::ensure_started().unwrap();
    println!("{READY}{}", listener::addresses()[0].port());
    let _ = std::io::stdin().read(&mut [0]);
    lifecycle::release(lifecycle::User::Program);
}
