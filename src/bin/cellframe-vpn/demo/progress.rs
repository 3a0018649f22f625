//! Shows the demo's progress: bars on a terminal, plain lines elsewhere. It goes to stderr, so that stdout has only the
//! result.

use std::cell::Cell;
use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::report::mbit_per_second;
use crate::output;

/// The demo's progress.
pub(super) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    /// Reports a completed step.
    pub(super) fn step(&self, text: impl Display) {
        let mark = if self.terminal { "✓" } else { "-" };
        output::note(format_args!("{mark} {text}"));
    }

    /// Begins a transfer of a known length.
    pub(super) fn transfer(&self, direction: &'static str, length: Duration) -> TransferProgress {
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
            if let Ok(style) = ProgressStyle::with_template("  {prefix:<9} [{bar:40}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.with_prefix(direction)
        });
        let now = Instant::now();
        TransferProgress { direction, bar, started: now, last_line: Cell::new(now), bytes: Cell::new(0) }
    }
}

/// The progress of one transfer. Dropping it unfinished clears the bar.
pub(super) struct TransferProgress {
    direction: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Cell<Instant>,
    bytes: Cell<u64>,
}

impl TransferProgress {
    /// Reports the bytes moved so far.
    pub(super) fn update(&self, bytes: u64) {
        const BETWEEN_LINES: Duration = Duration::from_secs(1);
        let elapsed = self.started.elapsed();
        self.bytes.set(bytes);
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
            bar.set_message(self.rate());
        } else if self.last_line.get().elapsed() >= BETWEEN_LINES {
            self.last_line.set(Instant::now());
            output::note(format_args!("  {:<9} {:>3} s  {}", self.direction, elapsed.as_secs(), self.rate()));
        }
    }

    /// Ends the transfer with this result.
    pub(super) fn finish(self, mbit_per_second: f64) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mark = if self.bar.is_some() { "✓" } else { "-" };
        let direction = self.direction;
        output::note(format_args!(
            "{mark} {direction} through the tunnel: {mbit_per_second:.0} Mbit/s, every byte compared"
        ));
    }

    fn rate(&self) -> String {
        format!("{:.0} Mbit/s", mbit_per_second(self.bytes.get(), self.started.elapsed().as_secs_f64()))
    }
}

impl Drop for TransferProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar
            && !bar.is_finished()
        {
            bar.finish_and_clear();
        }
    }
}
