//! Lines for people. `println!` would panic once the reader has closed the pipe (`cellframe-vpn stat | head -1`);
//! these functions ignore that.

use std::fmt::Display;
use std::io::Write;

/// Writes a line to stdout: a result.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes a line to stderr: progress or an event.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes the line that says why the program failed.
pub(crate) fn error_line(text: impl Display) {
    note(format_args!("cellframe-vpn: {text}"));
}
