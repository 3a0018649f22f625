//! Lines of the log that a peer can cause as often as it likes.

use std::sync::LazyLock;
use std::time::Instant;

use parking_lot::Mutex;
use vpn_core::rate::{Lines, More};

/// One line of the program, once a minute at most. [`log_bounded!`](crate::log_bounded) makes one for each place.
#[derive(Debug)]
pub struct Told(Mutex<Lines>);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Told {
    /// Creates the bound of a line.
    #[expect(clippy::new_without_default, reason = "a static needs a const function")]
    pub const fn new() -> Told {
        Told(Mutex::new(Lines::new(1)))
    }

    /// Returns what the line ends with, if it may be written now. Any thread.
    pub fn tell(&self) -> Option<More> {
        self.0.lock().tell(STARTED.elapsed())
    }
}

/// Logs a line once a minute at most, for each place in the program where it stands, and says how many were left out.
/// For all that a peer can cause above DEBUG. Level and text are as for `log::log!`.
#[macro_export]
macro_rules! log_bounded {
    ($level:ident, $($text:tt)+) => {{
        static TOLD: $crate::told::Told = $crate::told::Told::new();
        if let Some(more) = TOLD.tell() {
            ::log::log!(::log::Level::$level, "{}{more}", format_args!($($text)+));
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_program_is_told_once_a_minute() {
        let place = Told::new();
        assert_eq!((0..1000).filter(|_| place.tell().is_some()).count(), 1);
        assert_eq!(Told::new().tell(), Some(More(0)), "another place");
    }
}
