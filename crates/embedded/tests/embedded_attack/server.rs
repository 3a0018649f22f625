//! The attacked server: this program once more, which runs the "test" below as its only one.

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
const READY: &str = "attacked on port ";

/// The attacks use the machine's processors, so that they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// A running server.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Child,
    _output: BufReader<ChildStdout>,
    _directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    /// Starts a server with the usual limit of 1024 descriptors, and more lines for its section `[server]`.
    pub(crate) fn start(more: &str) -> Server {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
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
        Server { port, child, _output: output, _directory: directory, _alone: alone }
    }

    /// The server's memory in RAM, KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server ends with its input.
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
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
    let (general, server) = text.split_once('\n').and_then(|(head, rest)| Some((head, rest.split_once('\n')?))).unwrap();
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
