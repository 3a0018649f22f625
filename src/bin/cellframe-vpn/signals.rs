//! SIGINT, SIGTERM and SIGHUP: each asks a command to clean up and end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::{Code, Failure};

/// Calls `on_signal` with the number of the first signal, on a thread of its own.
///
/// A second signal ends the process at once: a user who presses Ctrl-C twice does not want to wait for the clean-up.
pub(crate) fn watch(on_signal: impl FnOnce(i32) + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::general(format!("cannot watch for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let watcher = move || {
        let mut arriving = signals.forever();
        if let Some(signal) = arriving.next() {
            on_signal(signal);
        }
        if let Some(signal) = arriving.next() {
            std::process::exit(i32::from(interrupted(signal).number()));
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watcher).map(drop).map_err(failed)
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error, as on a full disk: SIGXFSZ would kill the
/// program before it could say so.
pub(crate) fn keep_file_limits_errors() -> Result<(), Failure> {
    let failed = |error| Failure::general(format!("cannot watch for signals: {error}"));
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop).map_err(failed)
}

/// Returns the exit code of a command that the signal interrupted.
pub(crate) fn interrupted(signal: i32) -> Code {
    Code::Interrupted(u8::try_from(signal).unwrap_or(0))
}
