//! What the library logs while a test has it in its own process.
//!
//! Use from an integration test: `#[path = "support/logged.rs"] mod logged;`.

use dap_chain_net_srv_vpn::sdk;
use parking_lot::Mutex;

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The lines that the library has logged so far and that hold this, each with its level in front.
pub(crate) fn log_lines(part: &str) -> Vec<String> {
    LOG.lock().iter().filter(|line| line.contains(part)).cloned().collect()
}

/// Keeps and shows what is logged from now on; once more changes nothing.
pub(crate) fn capture_log() {
    struct Capture;
    impl log::Log for Capture {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() <= log::Level::Info
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                eprintln!("{} {}", record.level(), record.args());
                LOG.lock().push(format!("{} {}", record.level(), record.args()));
            }
        }
        fn flush(&self) {}
    }
    if log::set_boxed_logger(Box::new(Capture)).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    sdk::start_logging();
}
