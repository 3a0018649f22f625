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
pub mod clock;
pub mod command;
pub mod config;
pub mod congestion;
#[cfg(feature = "client-tun")]
pub mod external_channel;
pub mod figures;
pub mod gate;
pub mod http;
pub mod ledger;
pub mod link;
pub mod memory;
pub mod net;
pub mod parts;
pub mod process;
mod raw;
#[cfg(feature = "embedded")]
pub mod reload;
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
        worker::drop_lost();
        #[cfg(feature = "embedded")]
        if let Err(error) = lifecycle::retain(lifecycle::User::Library) {
            log::error!("cannot start the embedded SDK: {error}");
            return Err(NotRunning);
        }
        process::enter();
        worker::renew();
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
        worker::drop_lost();
        process::leave();
    }
}

/// Calls `work` when the process exits by `exit` or at the end of `main`, unless it is a fork's child. Other threads may
/// still run, and an interrupted one may hold any lock. Each part of this library calls it once.
pub fn at_exit(work: fn()) {
    static WORKS: [std::sync::OnceLock<fn()>; 2] = [const { std::sync::OnceLock::new() }; 2];
    extern "C" fn run() {
        for work in WORKS.iter().filter_map(std::sync::OnceLock::get).filter(|_| !process::is_forked()) {
            boundary::guard("the exit of the process", (), work);
        }
    }
    match WORKS.iter().position(|place| place.set(work).is_ok()) {
        Some(0) => {
            // SAFETY: run is a function of this library, which no process unloads (its symbols are linked in).
            unsafe { libc::atexit(run) };
        }
        place => debug_assert!(place.is_some(), "more works than places"),
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

/// Has the service's DEBUG lines written whatever the level of the log is, or no longer.
pub fn log_more(more: bool) {
    #[cfg(feature = "embedded")]
    embedded::logging::write_debug_of(more.then_some(SERVER_LINES));
    #[cfg(feature = "sdk")]
    log_to_sdk::more(more);
}

/// The begin of the targets of the service's lines.
const SERVER_LINES: &str = "dap_chain_net_srv_vpn::server";

/// The target of an INFO line that a node's log has at NOTICE, its level unless the operator debugs it: what the C module
/// logged so.
pub const NOTICE: &str = "dap_chain_net_srv_vpn::server::notice";

/// Returns the tag of a line on a node: that of the C file which the module replaces.
#[cfg(any(feature = "sdk", test))]
fn tag(module: &str) -> &'static std::ffi::CStr {
    let is_in = |paths: &[&str]| {
        let path = module.strip_prefix("dap_chain_net_srv_vpn::").unwrap_or_default();
        paths.iter().any(|other| path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    };
    if is_in(&["client::device", "client::downlink", "client::uplink", "client::tunnel_part", "abi::client_tun"]) {
        c"vpn_client_tun"
    } else if is_in(&["client", "cli::client", "abi::client"]) {
        c"vpn_client"
    } else {
        c"dap_chain_net_srv_vpn"
    }
}

/// A level of a node's log.
#[cfg(any(feature = "sdk", test))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

/// Returns the level of a line on a node. `more` raises the service's lines to the lowest level that a node writes
/// unless it is told otherwise.
#[cfg(any(feature = "sdk", test))]
fn severity(level: log::Level, target: &str, more: bool) -> Severity {
    match level {
        log::Level::Error => Severity::Error,
        log::Level::Warn => Severity::Warning,
        log::Level::Info if target == NOTICE => Severity::Notice,
        log::Level::Info | log::Level::Debug if more && target.starts_with(SERVER_LINES) => Severity::Notice,
        log::Level::Info => Severity::Info,
        log::Level::Debug | log::Level::Trace => Severity::Debug,
    }
}

#[cfg(feature = "sdk")]
mod log_to_sdk {
    use std::ffi::CString;
    use std::sync::atomic::{AtomicBool, Ordering};

    use log::{LevelFilter, Log, Metadata, Record};

    use super::{Severity, raw};

    struct SdkLog;

    static INSTALLED: AtomicBool = AtomicBool::new(false);
    /// Whether the service's INFO and DEBUG lines are written as NOTICE, which a node writes unless it is told otherwise.
    static MORE: AtomicBool = AtomicBool::new(false);

    pub(super) fn more(more: bool) {
        MORE.store(more, Ordering::Relaxed);
        if INSTALLED.load(Ordering::Relaxed) {
            set_level(more);
        }
    }

    fn set_level(more: bool) {
        // SAFETY: no arguments.
        let level = unsafe { raw::vpn_glue_log_level() };
        log::set_max_level(match level {
            0 => LevelFilter::Debug,
            _ if more => LevelFilter::Debug,
            1..=4 => LevelFilter::Info,
            5 | 6 => LevelFilter::Warn,
            _ => LevelFilter::Error,
        });
    }

    pub(super) fn install() {
        if log::set_logger(&SdkLog).is_ok() {
            INSTALLED.store(true, Ordering::Relaxed);
            set_level(false);
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
            let level = match super::severity(record.level(), record.target(), MORE.load(Ordering::Relaxed)) {
                Severity::Error => raw::LOG_ERROR,
                Severity::Warning => raw::LOG_WARNING,
                Severity::Notice => raw::LOG_NOTICE,
                Severity::Info => raw::LOG_INFO,
                Severity::Debug => raw::LOG_DEBUG,
            };
            let text = record.args().to_string().replace('\0', " ");
            if let Ok(text) = CString::new(text) {
                let tag = super::tag(record.target());
                // SAFETY: both texts are NUL-terminated and live through the call.
                unsafe { raw::vpn_glue_log(level, tag.as_ptr(), text.as_ptr()) };
            }
        }

        fn flush(&self) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_levels_of_the_c_files() {
        use log::Level::{Debug, Error, Info, Trace, Warn};
        let [server, client] = ["dap_chain_net_srv_vpn::server::leases", "dap_chain_net_srv_vpn::client"];
        for (level, target, usual, more) in [
            (Error, server, Severity::Error, Severity::Error),
            (Warn, client, Severity::Warning, Severity::Warning),
            (Info, NOTICE, Severity::Notice, Severity::Notice),
            (Info, server, Severity::Info, Severity::Notice),
            (Debug, server, Severity::Debug, Severity::Notice),
            (Trace, server, Severity::Debug, Severity::Debug),
            (Info, client, Severity::Info, Severity::Info),
            (Debug, client, Severity::Debug, Severity::Debug),
        ] {
            assert_eq!(
                (severity(level, target, false), severity(level, target, true)),
                (usual, more),
                "{level} {target}"
            );
        }
    }

    #[test]
    fn lines_have_the_tags_of_the_c_files() {
        for (module, expected) in [
            ("server", c"dap_chain_net_srv_vpn"),
            ("server::billing::metering", c"dap_chain_net_srv_vpn"),
            ("abi::server", c"dap_chain_net_srv_vpn"),
            ("cli::stat", c"dap_chain_net_srv_vpn"),
            ("sdk::config", c"dap_chain_net_srv_vpn"),
            ("client", c"vpn_client"),
            ("client::connection::paying", c"vpn_client"),
            ("client::check", c"vpn_client"),
            ("cli::client", c"vpn_client"),
            ("abi::client", c"vpn_client"),
            ("client::device", c"vpn_client_tun"),
            ("client::uplink", c"vpn_client_tun"),
            ("abi::client_tun", c"vpn_client_tun"),
        ] {
            assert_eq!(tag(&format!("dap_chain_net_srv_vpn::{module}")), expected, "{module}");
        }
        assert_eq!((tag("host::tun::device"), tag("vpn_core")), (c"dap_chain_net_srv_vpn", c"dap_chain_net_srv_vpn"));
        // The crate's name is what the paths begin with.
        assert!(module_path!().starts_with("dap_chain_net_srv_vpn::sdk"));
    }
}
