//! What the library logs while a test has it in its own process.

use std::sync::{Mutex, PoisonError};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The lines that the library has logged so far and that hold this, each with its level in front.
pub fn log_lines(part: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.iter().filter(|line| line.contains(part)).cloned().collect()
}

/// Keeps and shows what this process logs from now on by the crate `log`; once more changes nothing. The library's own
/// log goes there after `sdk::start_logging`.
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
