//! `--watch`: the same answer again and again. On a terminal the new one takes the old one's place; elsewhere it follows
//! behind it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

use crate::args::WatchOptions;
use crate::exit::{Code, Failure};
use crate::{output, signals};

/// What is watched.
pub(crate) struct Title {
    /// The command.
    pub(crate) command: &'static str,
    /// Programs read it: each answer is a line of its own, also on a terminal.
    pub(crate) is_json: bool,
}

/// Prints the answer; with `--watch` until a signal, or until nobody reads. What cannot be answered at first is a failure.
/// Later it is said once, and the process that has ended is waited for.
pub(crate) fn repeat(
    options: &WatchOptions,
    title: &Title,
    mut ask: impl FnMut() -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut answer = Ok(ask()?);
    let Some(seconds) = options.watch else {
        output::line(answer.unwrap_or_default());
        return Ok(());
    };
    let (sender, signal) = mpsc::channel();
    signals::watch(move |_| {
        let _ = sender.send(());
    })?;
    let period = Duration::from_secs(seconds.into());
    let is_redrawn = !title.is_json && io::stdout().is_terminal();
    let (mut next, mut was_failure) = (Instant::now(), false);
    loop {
        if is_redrawn {
            let header = format!("cellframe-vpn {}, every {seconds} s until Ctrl-C", title.command);
            let (Ok(text) | Err(Failure { message: text, .. })) = &answer;
            output::write(frame(&header, text, rows()));
        } else {
            print(title, &answer, &mut was_failure);
        }
        if output::is_closed() || output::failure().is_some() {
            return Ok(());
        }
        // A machine that was suspended is not asked for what it has missed.
        next = (next + period).max(Instant::now());
        match signal.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => answer = ask(),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        // Time alone does not heal these.
        if let Err(Failure { code: Code::Usage | Code::Privilege, .. }) = answer {
            return answer.map(drop);
        }
    }
}

fn print(title: &Title, answer: &Result<String, Failure>, was_failure: &mut bool) {
    match answer {
        Ok(text) if title.is_json => output::line(text),
        Ok(text) => output::line(format_args!("{text}\n")),
        Err(failure) if !*was_failure => output::error_line(failure),
        Err(_) => {}
    }
    *was_failure = answer.is_err();
}

/// The rows of the terminal; none if it does not tell.
fn rows() -> Option<usize> {
    tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// A whole screen, over the one before: the cursor goes to the first line, each line clears its rest, and the last one
/// what is below. What does not fit is counted.
fn frame(header: &str, text: &str, rows: Option<usize>) -> String {
    let lines: Vec<_> = text.lines().collect();
    // The header, the empty line below it, and the one where the cursor stays.
    let room = rows.map_or(lines.len(), |rows| rows.saturating_sub(3).max(1));
    let (shown, more) = if lines.len() > room { (room - 1, lines.len() + 1 - room) } else { (lines.len(), 0) };
    let mut frame = format!("\x1b[H{header}\x1b[K\n\x1b[K\n");
    for line in lines.iter().take(shown) {
        let _ = writeln!(frame, "{line}\x1b[K");
    }
    if more > 0 {
        let _ = writeln!(frame, "... and {more} more lines\x1b[K");
    }
    frame + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_fits_into_the_terminal() {
        let text = "1\n2\n3\n4";
        assert_eq!(frame("h", text, None), "\x1b[Hh\x1b[K\n\x1b[K\n1\x1b[K\n2\x1b[K\n3\x1b[K\n4\x1b[K\n\x1b[J");
        let lines = |rows| frame("h", text, Some(rows)).matches('\n').count();
        assert_eq!([7, 6, 5, 4].map(lines), [6, 5, 4, 3]);
        assert!(frame("h", text, Some(6)).contains("\n2\x1b[K\n... and 2 more lines"));
        assert!(frame("h", text, Some(1)).contains("... and 4 more lines"), "{:?}", frame("h", text, Some(1)));
    }
}
