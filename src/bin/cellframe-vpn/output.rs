//! Lines for people. A reader that has gone (`cellframe-vpn stat | head -1`) must not make the program panic, as
//! `println!` would.

use std::fmt::Display;
use std::io::Write;

/// One line on stdout: a result.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// One line on stderr: progress, or what went on.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The line that says why the program failed.
pub(crate) fn error_line(text: impl Display) {
    note(format_args!("cellframe-vpn: {text}"));
}
