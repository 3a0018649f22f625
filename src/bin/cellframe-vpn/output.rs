//! Lines for people. `println!` would panic once the reader has closed the pipe (`cellframe-vpn stat | head -1`);
//! these functions ignore that. Any other failure to write a result is one of the program: see [`failure`].

use std::fmt::{Arguments, Display};
use std::io::{ErrorKind, Result, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anstyle::AnsiColor;
use embedded::logging;
use indicatif::ProgressBar;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use crate::exit::{Code, Failure};

/// Why a result was not written.
static LOST: OnceLock<String> = OnceLock::new();

/// Nobody reads the results any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// The line that changes in place on the terminal, while there is one.
static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Sets the line that changes in place, which every other line takes away while it is written.
pub(crate) fn set_live_line(line: Option<ProgressBar>) {
    *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = line;
}

/// Writes something, here or to the log, that must not mix with the line that changes in place.
pub(crate) fn without_live_line<T>(write: impl FnOnce() -> T) -> T {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match live {
        Some(live) => live.suspend(write),
        None => write(),
    }
}

/// Writes a line to stdout: a result.
pub(crate) fn line(text: impl Display) {
    print(std::io::stdout().lock(), format_args!("{text}\n"));
}

/// Writes what is no line to stdout: a screen.
pub(crate) fn write(text: impl Display) {
    print(std::io::stdout().lock(), format_args!("{text}"));
}

/// Writes a line with colours to stdout: they stay where it is a terminal. The environment decides otherwise by NO_COLOR
/// (no-color.org) and CLICOLOR_FORCE (bixense.com/clicolors).
pub(crate) fn styled_line(text: impl Display) {
    print(anstream::stdout().lock(), format_args!("{text}\n"));
}

fn print(mut stdout: impl Write, text: Arguments<'_>) {
    let write = || stdout.write_fmt(text).and_then(|()| stdout.flush());
    wrote(require_writable().and_then(|()| without_live_line(write)));
}

/// Fails if stdout is open for reading only: the standard library takes that for written.
pub(crate) fn require_writable() -> Result<()> {
    match fcntl_getfl(std::io::stdout())? & OFlags::RWMODE {
        OFlags::RDONLY => Err(Errno::BADF.into()),
        _ => Ok(()),
    }
}

/// Notes how the writing of a result ended; says so at once if it failed, because a server or client runs on.
pub(crate) fn wrote(result: Result<()>) {
    let Err(error) = result else { return };
    let is_closed = error.kind() == ErrorKind::BrokenPipe;
    CLOSED.fetch_or(is_closed, Ordering::Relaxed);
    if is_closed || LOST.set(error.to_string()).is_err() {
        return;
    }
    if let Some(failure) = failure() {
        error_line(failure);
    }
}

/// Whether the reader of the results has closed the pipe: what goes on for ever may end.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// The failure of a program whose results were not all written. Its line is on stderr already.
pub(crate) fn failure() -> Option<Failure> {
    LOST.get().map(|error| Failure::new(Code::Output, format!("the output cannot be written: {error}")))
}

/// Writes a line to stderr: progress or an event.
pub(crate) fn note(text: impl Display) {
    let _ = without_live_line(|| writeln!(std::io::stderr().lock(), "{text}"));
}

/// Writes the line that says why the program failed.
pub(crate) fn error_line(text: impl Display) {
    let style = AnsiColor::Red.on_default().bold();
    let priority = logging::journal_priority(log::Level::Error).unwrap_or_default();
    let write = || writeln!(anstream::stderr().lock(), "{priority}{style}cellframe-vpn:{style:#} {text}");
    let _ = without_live_line(write);
}
