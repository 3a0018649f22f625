//! The only seam to the SDK: safe types over `glue/*.c`, which are compiled against the headers of the linked SDK.
//!
//! Other layers, except `abi`, pass `dap_` types on at most. The SDK's callbacks arrive in `callbacks`, behind a panic
//! boundary, and go to the handler that a layer has registered.
//!
//! Threads: the SDK's workers are numbered threads. A [`channel::Channel`] and a [`tun_socket::TunSocket`] belong to
//! one worker. Functions that only this worker may call check the calling thread, so these types can be shared freely.
#![allow(unsafe_code)]

pub(crate) mod boundary;
mod callbacks;
pub mod channel;
pub mod command;
pub mod config;
#[cfg(feature = "client-tun")]
pub mod external_channel;
pub mod gate;
pub mod http;
pub mod ledger;
pub mod link;
pub mod memory;
pub mod net;
pub mod parts;
pub mod process;
mod raw;
pub mod service;
pub mod store;
pub mod tun_socket;
pub mod types;
pub mod usage;
pub mod visible;
pub mod wallet;
pub mod worker;

use std::sync::Once;

#[cfg(feature = "embedded")]
use embedded::lifecycle;

/// The bytes that the stream adds to a VPN packet on the outer wire: the VPN header, the SDK's framing and cipher, TCP
/// and IP. Measured on the real node at 1400 bytes (docs/wire.md); for the embedded stream: 20 VPN + 16 channel + 22
/// TLS record + 32 TCP with time stamps + 20 IPv4.
pub const STREAM_OVERHEAD: u16 = if cfg!(feature = "embedded") { 110 } else { 147 };

/// Keeps the SDK running: the embedded SDK starts with its first user and stops with its last; the node's SDK runs
/// anyway.
#[derive(Debug)]
pub struct Running(());

/// The SDK did not start; the reason is in the log.
#[derive(Debug, thiserror::Error)]
#[error("the SDK's workers could not be started; the log says why")]
pub struct NotRunning;

impl Running {
    /// Starts the SDK unless it runs, and keeps it running until the value is dropped.
    pub fn retain() -> Result<Running, NotRunning> {
        callbacks::install();
        #[cfg(feature = "embedded")]
        if let Err(error) = lifecycle::retain(lifecycle::User::Library) {
            log::error!("cannot start the embedded SDK: {error}");
            return Err(NotRunning);
        }
        process::enter();
        Ok(Running(()))
    }
}

/// Blocks, for a bounded time, until everything that the caller has ended in the SDK is gone. It is the last step of a
/// stop, without a lock held: an event on one of the SDK's threads may have dropped the last reference.
pub fn settle() {
    // SAFETY: no arguments; any thread may call it.
    unsafe { raw::vpn_glue_settle() };
}

impl Drop for Running {
    fn drop(&mut self) {
        #[cfg(feature = "embedded")]
        lifecycle::release(lifecycle::User::Library);
        process::leave();
    }
}

/// Calls `work` when the process exits by `exit` or at the end of `main`, unless it is a fork's child. Other threads may
/// still run, and an interrupted one may hold any lock.
pub fn at_exit(work: fn()) {
    static WORK: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();
    extern "C" fn run() {
        if let Some(work) = WORK.get().filter(|_| !process::is_forked()) {
            boundary::guard("the exit of the process", (), work);
        }
    }
    if WORK.set(work).is_ok() {
        // SAFETY: run is a function of this library, which no process unloads (its symbols are linked in).
        unsafe { libc::atexit(run) };
    }
}

/// Sends the `log` facade's lines to the SDK's log, once. A logger of the host program stays in place.
pub fn start_logging() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(feature = "embedded")]
        embedded::logging::init();
        #[cfg(feature = "sdk")]
        log_to_sdk::install();
    });
}

#[cfg(feature = "sdk")]
mod log_to_sdk {
    use std::ffi::CString;

    use log::{Level, LevelFilter, Log, Metadata, Record};

    use super::raw;

    struct SdkLog;

    pub(super) fn install() {
        // SAFETY: no arguments.
        let level = unsafe { raw::vpn_glue_log_level() };
        if log::set_logger(&SdkLog).is_ok() {
            log::set_max_level(match level {
                0 => LevelFilter::Debug,
                1..=4 => LevelFilter::Info,
                5 | 6 => LevelFilter::Warn,
                _ => LevelFilter::Error,
            });
        }
    }

    impl Log for SdkLog {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= log::max_level()
        }

        fn log(&self, record: &Record<'_>) {
            if !self.enabled(record.metadata()) {
                return;
            }
            let level = match record.level() {
                Level::Error => raw::LOG_ERROR,
                Level::Warn => raw::LOG_WARNING,
                Level::Info => raw::LOG_INFO,
                Level::Debug | Level::Trace => raw::LOG_DEBUG,
            };
            let text = record.args().to_string().replace('\0', " ");
            if let Ok(text) = CString::new(text) {
                // SAFETY: the text is NUL-terminated and lives through the call.
                unsafe { raw::vpn_glue_log(level, text.as_ptr()) };
            }
        }

        fn flush(&self) {}
    }
}
