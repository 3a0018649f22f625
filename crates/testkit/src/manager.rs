//! A service manager, as the program sees one: the socket of sd_notify(3), and what arrives at it.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::wait::eventually;

/// What the service manager has heard, each message whole.
#[derive(Debug)]
pub struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// Listens at a socket in this directory.
    pub fn new(directory: &Path) -> Manager {
        let path = directory.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let to = Arc::downgrade(&heard);
        // It ends a moment after the manager is dropped.
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 8192];
            loop {
                let received = socket.recv(&mut bytes);
                let Some(to) = to.upgrade() else { return };
                if let Ok(count) = received {
                    to.lock().unwrap().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
                }
            }
        });
        Manager { path, heard }
    }

    /// Has the program find the manager, whose watchdog expects a sign of life each `watchdog`.
    pub fn manage(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
    }

    /// All messages so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How many messages contain this line.
    pub fn count(&self, line: &str) -> usize {
        self.heard().iter().filter(|message| message.lines().any(|heard| heard == line)).count()
    }

    /// Waits until at least this number of messages contain the line.
    pub fn wait_for(&self, line: &str, times: usize) {
        let what = std::fmt::from_fn(|f| write!(f, "{line:?} {times} times in {:?}", self.heard()));
        eventually(what, || self.count(line) >= times);
    }

    /// Waits until the last status contains this text.
    pub fn wait_for_status(&self, text: &str) {
        let what = std::fmt::from_fn(|f| write!(f, "status {text:?}: {:?}", self.heard()));
        eventually(what, || self.status().is_some_and(|status| status.contains(text)));
    }

    /// The last status.
    pub fn status(&self) -> Option<String> {
        let heard = self.heard();
        let mut statuses =
            heard.iter().flat_map(|message| message.lines()).filter_map(|line| line.strip_prefix("STATUS="));
        statuses.next_back().map(str::to_owned)
    }
}
