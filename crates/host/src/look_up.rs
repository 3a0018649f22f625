//! Look-ups of names that can be waited for with an end. The C library's cannot be interrupted: a thread of its own waits
//! for it, and is left to itself when nobody wants the answer any more.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use libc::{EAGAIN, EIO};

use crate::threads;

/// How long a look-up may take before something else than its answer counts.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon it is noticed that nobody wants the answer any more.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The name is not known, or cannot be looked up now.
    Unknown,
    /// No name server has answered in time.
    NoAnswer,
    /// `is_wanted` has returned false.
    Unwanted,
    /// There is no thread, or it has failed: an errno.
    Failed(i32),
}

/// Waits for `resolve`, which a thread calls. `instead` is asked for another answer, with the reason, if there is none
/// within a second, or at all: a name server may be behind the very tunnel that is to be restored. `limit` ends the wait
/// for a name server that is silent. Blocks.
///
/// # Errors
/// [`Missing`]; after a failure `instead` was not asked.
pub fn look_up<T: Send + 'static>(
    resolve: impl FnOnce() -> io::Result<T> + Send + 'static,
    limit: Option<Duration>,
    instead: impl Fn(&str) -> Option<T>,
    is_wanted: impl Fn() -> bool,
) -> Result<T, Missing> {
    let (found, result) = mpsc::channel();
    let body = move || {
        // The receiver is gone if nobody waits any more.
        let _ = found.send(resolve());
    };
    threads::spawn("vpn-look-up", body).map_err(|error| Missing::Failed(error.raw_os_error().unwrap_or(EAGAIN)))?;
    let began = Instant::now();
    let mut patience = Some(limit.map_or(PATIENCE, |limit| limit.min(PATIENCE)));
    loop {
        match result.recv_timeout(CHECK_INTERVAL) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => return instead(&error.to_string()).ok_or(Missing::Unknown),
            Err(RecvTimeoutError::Disconnected) => return Err(Missing::Failed(EIO)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if !is_wanted() {
            return Err(Missing::Unwanted);
        }
        if let Some(time) = patience.take_if(|time| began.elapsed() >= *time)
            && let Some(answer) = instead(&format!("no name server answers within {} s", time.as_secs_f64()))
        {
            return Ok(answer);
        }
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            return Err(Missing::NoAnswer);
        }
    }
}
