//! SIGINT and SIGTERM ask a command to clean up and end. SIGHUP does too, or asks it to read its configuration again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::{Code, Failure};

/// How long a terminal that hangs up may take to leave a process that has got SIGHUP: a shell that ends sends the signal
/// just before.
const HANG_UP: Duration = Duration::from_millis(200);

/// Calls `on_signal` with the number of the first signal, on a thread of its own.
///
/// A second signal ends the process at once: a user who presses Ctrl-C twice does not want to wait for the clean-up.
pub(crate) fn watch(on_signal: impl FnOnce(i32) + Send + 'static) -> Result<(), Failure> {
    spawn(on_signal, |_| Hangup::Ends)
}

/// The same, but SIGHUP calls `on_reload`, each time until another signal has come. A SIGHUP because the terminal of this
/// process is gone is a signal as the others.
pub(crate) fn watch_with_reload(
    on_signal: impl FnOnce(i32) + Send + 'static,
    mut on_reload: impl FnMut() + Send + 'static,
) -> Result<(), Failure> {
    // With `nohup` no terminal ends the process.
    let follows_terminal = has_terminal() && !ignores_hangup();
    spawn(on_signal, move |is_ending| {
        if follows_terminal && is_terminal_gone() {
            return Hangup::Ends;
        }
        if !is_ending {
            on_reload();
        }
        Hangup::Handled
    })
}

/// What a SIGHUP is.
enum Hangup {
    /// A signal that ends the process.
    Ends,
    /// Nothing more.
    Handled,
}

/// `on_hangup` hears whether the process ends already.
fn spawn(
    on_signal: impl FnOnce(i32) + Send + 'static,
    mut on_hangup: impl FnMut(bool) -> Hangup + Send + 'static,
) -> Result<(), Failure> {
    let failed = |error| Failure::general(format!("cannot watch for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let watcher = move || {
        let mut first = Some(on_signal);
        for signal in signals.forever() {
            if signal == SIGHUP && matches!(on_hangup(first.is_none()), Hangup::Handled) {
                continue;
            }
            match first.take() {
                Some(on_signal) => on_signal(signal),
                None => std::process::exit(i32::from(interrupted(signal).number())),
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watcher).map(drop).map_err(failed)
}

fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

fn is_terminal_gone() -> bool {
    const LOOKS: u32 = 10;
    (0..LOOKS).any(|look| {
        if look > 0 {
            thread::sleep(HANG_UP / LOOKS);
        }
        !has_terminal()
    })
}

/// Whether this process was started with SIGHUP ignored. To be called before a handler is installed.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & 1 << (SIGHUP - 1) != 0
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
