//! The demo's protocol with its two ends: JSON objects, one per line, over a socket pair; an end has it as stdin.
//!
//! A request is `{"do": ...}`. An end answers with any number of `{"progress": bytes}` and then one
//! `{"ok": true, ...}` or `{"ok": false, "code": exit code, "error": sentence}`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::ops::Sub;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::EndRole;
use crate::exit::{Code, Failure};
use crate::notify;

/// Processor time of an end, in seconds: the whole process, and the part that generates and checks traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cpu {
    pub(super) process: f64,
    pub(super) traffic: f64,
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu { process: self.process - earlier.process, traffic: self.traffic - earlier.traffic }
    }
}

/// The demo's handle of one end. Dropping it kills the process, and the kernel removes its namespace.
#[derive(Debug)]
pub(super) struct End<'a> {
    name: &'static str,
    child: Child,
    socket: BufReader<UnixStream>,
    interruption: &'a Interruption,
}

impl<'a> End<'a> {
    /// Starts this program again as an end. `beside` is the process whose user namespace the end joins, `log_level` what
    /// it logs unless the user chooses.
    ///
    /// Call it on the main thread only: the kernel kills the child when the *thread* that started it ends.
    pub(super) fn spawn(
        role: EndRole,
        beside: Option<u32>,
        log_level: &str,
        interruption: &'a Interruption,
    ) -> Result<Self, Failure> {
        let name = match role {
            EndRole::Server => "server",
            EndRole::Client => "client",
            EndRole::Internet => "internet",
        };
        let failed = |error| Failure::general(format!("cannot start the demo's {name}: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("demo-end").arg(name).arg("--parent").arg(std::process::id().to_string());
        if let Some(pid) = beside {
            command.arg("--beside").arg(pid.to_string());
        }
        // The demo itself reports success.
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", log_level);
        }
        // What a service manager wants to hear is said by the process that it has started.
        for name in notify::VARIABLES {
            command.env_remove(name);
        }
        // Its own process group keeps Ctrl-C away from the end: the demo stops both ends in order.
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).process_group(0);
        interruption.register(&ours).map_err(failed)?;
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name, child, socket: BufReader::new(ours), interruption })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and returns its answer. `timeout` bounds the end's silence.
    pub(super) fn call(&mut self, request: Value, timeout: Duration) -> Result<Value, Failure> {
        self.call_with_progress(request, timeout, |_| {})
    }

    /// As [`Self::call`], for a request that reports its progress.
    pub(super) fn call_with_progress(
        &mut self,
        request: Value,
        timeout: Duration,
        mut on_progress: impl FnMut(u64),
    ) -> Result<Value, Failure> {
        let step = request["do"].as_str().unwrap_or_default().to_owned();
        self.socket.get_ref().set_read_timeout(Some(timeout)).map_err(|error| self.broken(&step, &error))?;
        send(self.socket.get_ref(), &request).map_err(|error| self.broken(&step, &error))?;
        loop {
            let answer = receive(&mut self.socket).map_err(|error| self.broken(&step, &error))?;
            let Some(answer) = answer else {
                return Err(Failure::general(format!("the demo's {} ended during {step:?}", self.name)));
            };
            if let Some(bytes) = answer["progress"].as_u64() {
                on_progress(bytes);
                continue;
            }
            if answer["ok"] == true {
                return Ok(answer);
            }
            let code = answer["code"].as_u64().map_or(Code::Failure, Code::from_number);
            return Err(Failure::new(code, answer["error"].as_str().unwrap_or("unknown error")));
        }
    }

    /// Returns the processor time that the end has used so far.
    pub(super) fn cpu(&mut self, timeout: Duration) -> Result<Cpu, Failure> {
        let answer = self.call(json!({"do": "cpu"}), timeout)?;
        let seconds = |key| answer[key].as_f64().unwrap_or(0.0);
        Ok(Cpu { process: seconds("process"), traffic: seconds("traffic") })
    }

    /// Asks the end to exit and checks its exit status: the demo also shows that the tunnel is taken down.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        let deadline = Instant::now() + EXIT_TIMEOUT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Failure::general(format!("the demo's {} failed: {status}", self.name)));
                }
                Ok(None) if Instant::now() < deadline && self.interruption.signal().is_none() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => {
                    return Err(Failure::general(format!(
                        "the demo's {} did not exit in time and was killed",
                        self.name
                    )));
                }
                Err(error) => return Err(Failure::general(format!("cannot wait for the {}: {error}", self.name))),
            }
        }
    }

    fn broken(&self, step: &str, error: &std::io::Error) -> Failure {
        let name = self.name;
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Failure::general(format!("the demo's {name} did not answer {step:?} in time"))
            }
            _ => Failure::general(format!("the demo's {name} ended during {step:?}: {error}")),
        }
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        // Both have no effect on a child whose exit status was collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the demo's thread, which may be waiting for an answer, that a signal came.
#[derive(Debug, Default)]
pub(super) struct Interruption {
    signal: AtomicI32,
    sockets: Mutex<Vec<UnixStream>>,
}

impl Interruption {
    /// Shuts the sockets down, so that a thread that waits for an answer stops waiting.
    pub(super) fn interrupt(&self, signal: i32) {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        self.signal.store(signal, Ordering::SeqCst);
        for socket in sockets.iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Returns the signal that came, if any.
    pub(super) fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    fn register(&self, socket: &UnixStream) -> std::io::Result<()> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if self.signal().is_some() {
            return Err(ErrorKind::Interrupted.into());
        }
        sockets.push(socket.try_clone()?);
        Ok(())
    }
}

/// Writes one message.
pub(super) fn send(mut socket: &UnixStream, message: &Value) -> std::io::Result<()> {
    let mut line = message.to_string();
    line.push('\n');
    socket.write_all(line.as_bytes())
}

/// Reads one message; `None` once the other side has closed the socket.
pub(super) fn receive(socket: &mut BufReader<UnixStream>) -> std::io::Result<Option<Value>> {
    let mut line = String::new();
    if socket.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(std::io::Error::from)
}

/// Returns a text of a request.
pub(super) fn text<'a>(request: &'a Value, key: &str) -> Result<&'a str, Failure> {
    request[key].as_str().ok_or_else(|| Failure::general(format!("the request has no {key:?}")))
}

/// Returns a number of a request.
pub(super) fn number(request: &Value, key: &str) -> Result<u32, Failure> {
    let number = request[key].as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Failure::general(format!("the request has no number {key:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_and_the_end_is_noticed() {
        let (one, other) = UnixStream::pair().expect("a socket pair");
        let message = json!({"do": "x", "text": "two\nlines"});
        send(&one, &message).expect("send");
        drop(one);
        let mut reader = BufReader::new(other);
        assert_eq!(receive(&mut reader).expect("receive"), Some(message));
        assert_eq!(receive(&mut reader).expect("receive"), None);
    }

    #[test]
    fn an_interruption_cuts_what_is_registered_and_refuses_what_comes_after() {
        let interruption = Interruption::default();
        let (one, other) = UnixStream::pair().expect("a socket pair");
        interruption.register(&one).expect("register");
        assert_eq!(interruption.signal(), None);
        interruption.interrupt(15);
        assert_eq!(interruption.signal(), Some(15));
        assert_eq!(receive(&mut BufReader::new(other)).expect("receive"), None);
        assert!(interruption.register(&one).is_err());
    }
}
