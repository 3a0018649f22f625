//! Captures the library's log while a test runs it in its own process.

use std::sync::{Mutex, PoisonError};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Returns the logged lines that contain `part`, each with its level in front.
pub fn log_lines(part: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.iter().filter(|line| line.contains(part)).cloned().collect()
}

/// Captures and prints everything that this process logs through the crate `log`. Further calls have no effect.
/// `sdk::start_logging` sends the library's own log there.
pub fn capture_log() {
    struct Capture;
    impl log::Log for Capture {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() <= log::Level::Info
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                eprintln!("{} {}", record.level(), record.args());
                LOG.lock().unwrap_or_else(PoisonError::into_inner).push(format!(
                    "{} {}",
                    record.level(),
                    record.args()
                ));
            }
        }
        fn flush(&self) {}
    }
    if log::set_boxed_logger(Box::new(Capture)).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}
